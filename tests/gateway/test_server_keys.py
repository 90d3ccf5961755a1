"""One of the fleet's own keys takes over from another: with real agents, away or there, and killed on either side."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agent.identity import Identity
from command_bus.ids import new_id, utc_now
from command_bus.postgres import app_conninfo
from domain.agents import AgentServerKeyLearned
from domain.commands import CommandRejected
from domain.errors import AgentsUnawareError, KeyOverlapError, NoOldKeyError
from domain.server_keys import Purpose, ServerKeyAnnounced, ServerKeyRetired, server_keys_stream
from gateways.agents.connection import lets_in
from gateways.agents.key_changes import KeyChanges
from gateways.agents.keys import Key, load_keys
from gateways.agents.nats_config import render_nats_config
from gateways.local.nats import EmbeddedNats
from projections.agents import Unaware, unaware_of_key
from projections.rebuild import rebuild
from schema import wire
from tests.agent.scripted import ROOT
from tests.gateway.harness import Fleet
from tests.gateway.test_agent_keys import RealAgent, succeeded

DELIVERY = Purpose.DELIVERY


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents say hello each second, for that is when they hear of keys."""
    monkeypatch.setattr("gateways.agents.uplink.HELLO_INTERVAL_S", 1.0)


@pytest.fixture
async def real(fleet: Fleet, data_dir: Path) -> Any:
    (identity,) = await fleet.identities()
    return RealAgent(fleet, identity, data_dir / "agent")


@pytest.fixture
def running(real: RealAgent) -> Iterator[RealAgent]:
    yield real
    real.process.clean_up()


def changing(fleet: Fleet) -> KeyChanges:
    return KeyChanges(fleet.log, fleet.url, new_id)


def count(fleet: Fleet) -> Any:
    """Who does not know a key, by the read model as the log has it now."""
    conninfo = app_conninfo(fleet.url)

    async def read(number: int) -> Unaware:
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            return await unaware_of_key(connection, number)

    def counted(number: int) -> Unaware:
        rebuild(conninfo, "agents")
        return asyncio.run(read(number))

    return counted


async def works(fleet: Fleet, agent: RealAgent) -> None:
    (command_id,) = await fleet.queue(agent.agent_id)
    await succeeded(fleet, command_id)


async def story(fleet: Fleet, purpose: Purpose = DELIVERY) -> list[Any]:
    return await fleet.story(server_keys_stream(purpose))


def old_key(fleet: Fleet, purpose: Purpose = DELIVERY) -> Key:
    """The first key's private half, as a thief has it."""
    with psycopg.connect(fleet.url) as connection:
        row = connection.execute(
            "SELECT seed FROM fleetlog.server_keys WHERE purpose = %s AND number = 1", [purpose.value]
        ).fetchone()
    assert row is not None
    return Key(bytes(row[0]))


def forged(agent: RealAgent, key: Key, *, named: bool) -> bytes:
    order = wire.Order(
        command_id=new_id(),
        attempt=1,
        lane="default",
        priority=5,
        position=1,
        expires_at=utc_now().replace(year=2099),
        age_ms=0,
        work=wire.encode(wire.PingWork()),
        correlation_id=new_id(),
    )
    body = wire.encode(wire.DeliveryBody(agent_id=agent.agent_id, sent_at=utc_now(), orders=[order]))
    signature = key.sign(wire.SIGNING_CONTEXT + body)
    return wire.encode(wire.Delivery(body=body, signature=signature, key=key.name if named else b""))


async def told(fleet: Fleet, agent: RealAgent, data: bytes) -> str:
    """What the agent says to a delivery, in a word."""
    client = fleet.services[0]._client
    assert client is not None
    message = await client.request(wire.command_subject(agent.agent_id), data, timeout=10)
    reply = wire.decode_downlink_reply(message.data)
    assert isinstance(reply, wire.DeliveryReply)
    return f"{reply.orders[0].status} {reply.orders[0].code}".strip()


async def test_another_delivery_key_takes_over(fleet: Fleet, running: RealAgent) -> None:
    """Announced, known, retired: work goes on at each step, and an order under the old key, leaked, finds no ear."""
    await fleet.gateway("gateway-1")
    await fleet.gateway("gateway-2")
    running.process.start()
    await works(fleet, running)
    leaked, changes = old_key(fleet), changing(fleet)
    made = await changes.rotate(DELIVERY)
    await works(fleet, running)
    with pytest.raises(KeyOverlapError):
        await changes.rotate(DELIVERY)
    (learned,) = await fleet.until_event(running.agent_id, AgentServerKeyLearned)
    assert learned == AgentServerKeyLearned(number=2)
    assert await told(fleet, running, forged(running, leaked, named=True)) == "accepted"
    _, unaware = await changes.retire(DELIVERY, count(fleet))
    assert unaware == 0
    for _ in range(3):
        await works(fleet, running)
    # It hears of that at a hello, of which there is one at each start.
    await running.process.stop()
    running.process.start()
    await works(fleet, running)
    identity = Identity.load(running.folder)
    assert (identity.server_public_key, identity.server_keys) == (made.public_key, [])
    assert await told(fleet, running, forged(running, leaked, named=True)) == "busy unknown_key"
    assert await told(fleet, running, forged(running, leaked, named=False)) == "rejected bad_signature"
    assert [type(event) for event in await story(fleet)] == [ServerKeyAnnounced, ServerKeyRetired]
    with pytest.raises(NoOldKeyError):
        await changes.retire(DELIVERY, count(fleet))
    assert load_keys(fleet.url).chain.rows[0].seed is None, "the old private half is gone"


async def test_an_agent_that_was_away_through_two_rotations_comes_back(fleet: Fleet, running: RealAgent) -> None:
    """It is said who would miss it; forced all the same, the chain brings them over, and nothing that waits is lost."""
    changes = changing(fleet)
    await changes.rotate(DELIVERY)
    with pytest.raises(AgentsUnawareError, match=r"1 of 1 agents.*simulated-0"):
        await changes.retire(DELIVERY, count(fleet))
    assert [type(event) for event in await story(fleet)] == [ServerKeyAnnounced], "refused, it has changed nothing"
    await changes.retire(DELIVERY, count(fleet), force=True)
    await changes.rotate(DELIVERY)
    await changes.retire(DELIVERY, count(fleet), force=True)
    retired = [event for event in await story(fleet) if isinstance(event, ServerKeyRetired)]
    assert [(event.number, event.unaware) for event in retired] == [(1, 1), (2, 1)]
    (waits,) = await fleet.queue(running.agent_id)
    await fleet.gateway()
    running.process.start()
    await succeeded(fleet, waits)
    assert not [event for event in await fleet.story(waits) if isinstance(event, CommandRejected)]
    (learned,) = await fleet.until_event(running.agent_id, AgentServerKeyLearned)
    assert learned == AgentServerKeyLearned(number=3)
    identity = Identity.load(running.folder)
    assert (identity.server_public_key, identity.server_keys) == (load_keys(fleet.url).delivery.public_hex, [])


@pytest.mark.parametrize("step", ["server_key_heard", "server_key_kept"])
async def test_an_agent_killed_at(fleet: Fleet, running: RealAgent, step: str) -> None:
    """Killed as it hears of the key, before or after it is on disk, it has it in the end, and has missed nothing."""
    await fleet.gateway()
    await changing(fleet).rotate(DELIVERY)
    running.process.start(crash_at=step)
    assert await running.process.exited() == -signal.SIGKILL
    running.process.start()
    assert await fleet.until_event(running.agent_id, AgentServerKeyLearned) == [AgentServerKeyLearned(number=2)]
    await works(fleet, running)


async def _killed(fleet: Fleet, action: str, purpose: Purpose, step: str) -> None:
    command = [sys.executable, "-m", "tests.gateway.rotating", fleet.url, action, purpose.value, step]
    ended = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL


async def test_a_command_killed_anywhere_is_done_or_not(fleet: Fleet, running: RealAgent) -> None:
    """Killed at each step of each command: what the log says holds at once, and asked for again there is one key."""
    await fleet.gateway()
    running.process.start()
    await works(fleet, running)
    changes = changing(fleet)
    await _killed(fleet, "rotate", DELIVERY, "made")
    assert await story(fleet) == []
    await works(fleet, running)
    await _killed(fleet, "rotate", DELIVERY, "announced")
    # The running gateway brings the table to what the log says, and tells the agents.
    await fleet.until_event(running.agent_id, AgentServerKeyLearned)
    with pytest.raises(KeyOverlapError):
        await changes.rotate(DELIVERY)
    await _killed(fleet, "retire", DELIVERY, "ended")
    await works(fleet, running)
    await changes.settle()
    rows = load_keys(fleet.url).chain.rows
    assert [(row.number, row.seed is None) for row in rows] == [(1, True), (2, False)]
    assert [type(event) for event in await story(fleet)] == [ServerKeyAnnounced, ServerKeyRetired]


async def test_the_keys_at_nats_take_over(fleet: Fleet, data_dir: Path, running: RealAgent) -> None:
    """Both let gateways in until the old one is retired; gateways that run come in under the new one by themselves."""
    server = EmbeddedNats(data_dir / "own", config=lambda _: render_nats_config(load_keys(fleet.url)))
    server.start()
    try:
        identity = Identity.load(running.folder)
        Identity(
            agent_id=identity.agent_id,
            server_url=identity.server_url,
            server_public_key=identity.server_public_key,
            nats_urls=[server.url],
        ).save(running.folder)
        await fleet.gateway(urls=[server.url])
        running.process.start()
        await works(fleet, running)
        changes = changing(fleet)
        thieves = {purpose: old_key(fleet, purpose) for purpose in (Purpose.GATEWAY, Purpose.SYSTEM)}
        for purpose in (Purpose.GATEWAY, Purpose.SYSTEM, Purpose.ISSUER):
            await changes.rotate(purpose)
        new = {purpose: load_keys(fleet.url).users[purpose][1] for purpose in thieves}
        assert not await lets_in(server.url, new[Purpose.GATEWAY])
        server.restart()
        for purpose, key in new.items():
            assert await lets_in(server.url, key)
            assert await lets_in(server.url, thieves[purpose])
        await works(fleet, running)
        for purpose in (Purpose.GATEWAY, Purpose.SYSTEM, Purpose.ISSUER):
            await changes.retire(purpose, count(fleet))
        server.restart()
        await works(fleet, running)
        for key in thieves.values():
            assert not await lets_in(server.url, key)
    finally:
        running.process.clean_up()
        while fleet.services:
            await fleet.services.pop().stop()
        server.stop()
