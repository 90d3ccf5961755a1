"""A broker in foreign hands is noticed: what it alters, redirects, replays or forges is on record."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client
from prometheus_client import REGISTRY

from command_bus.ids import new_id, utc_now
from domain.commands import RunShell
from domain.refused_orders import Brought, OrderRefused, RefusedFor, refused_orders_stream
from domain.scripts import Shell
from gateways.agents.connection import connect
from schema import wire
from tests.gateway.harness import Fleet
from tests.gateway.test_agent_keys import RealAgent, succeeded
from tests.gateway.test_refusals import ask, connected

_encode = msgspec.msgpack.encode


def count(why: str) -> float:
    return REGISTRY.get_sample_value("fleetlog_orders_refused_total", {"why": why}) or 0.0


async def counted(why: str, number: float) -> None:
    """Wait until so many are counted: that is done once they are on record."""
    async with asyncio.timeout(10):
        while count(why) < number:  # noqa: ASYNC110 -- a metric tells nobody
            await asyncio.sleep(0.01)
    assert count(why) == number


class Thief:
    """Has the broker: hears all that goes to agents, and says what it likes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: dict[UUID, list[bytes]] = {}

    async def listen(self) -> None:
        async def hear(message: Any) -> None:
            self.heard.setdefault(UUID(message.subject.split(".")[1]), []).append(message.data)

        await self.client.subscribe("fleet.*.cmd", cb=hear)
        await self.client.flush()

    def delivery(self, agent_id: UUID) -> wire.Delivery:
        """The last that was sent to an agent."""
        found = wire.decode_downlink(self.heard[agent_id][-1])
        assert isinstance(found, wire.Delivery)
        return found

    async def say(self, agent_id: UUID, message: wire.Downlink) -> Any:
        """To an agent; its answer goes no further."""
        reply = await self.client.request(wire.command_subject(agent_id), wire.encode(message), timeout=10)
        return wire.decode_downlink_reply(reply.data)


@pytest.fixture
async def thief(fleet: Fleet) -> AsyncIterator[Thief]:
    found = Thief(await connect(fleet.nats.urls, lambda: fleet.keys.gateway, "thief"))
    await found.listen()
    yield found
    await found.client.close()


@pytest.fixture
async def real(fleet: Fleet, data_dir: Path) -> RealAgent:
    (identity,) = await fleet.identities()
    return RealAgent(fleet, identity, data_dir / "agent")


@pytest.fixture
def running(real: RealAgent) -> Iterator[RealAgent]:
    yield real
    real.process.clean_up()


async def told(fleet: Fleet, agent_id: UUID, number: int) -> list[OrderRefused]:
    """What an agent has refused, so many and no more."""
    found = await fleet.until_event(agent_id, OrderRefused, number)
    assert len(found) == number
    return [one for one in found if isinstance(one, OrderRefused)]


async def test_what_the_broker_makes_up_is_on_record(
    fleet: Fleet, thief: Thief, running: RealAgent, tmp_path: Path
) -> None:
    """Altered, for another agent, sent again, under a key of its own, many: each is refused, told, and counted."""
    before = {why: count(why) for why in RefusedFor}
    await fleet.gateway()
    agent_id, ran = running.agent_id, tmp_path / "ran"
    other = await connected(fleet)
    running.process.start(env={"REFUSALS_WINDOW_S": "1.0"})
    (others,) = await fleet.queue(other.agent_id)
    (command_id,) = await fleet.queue(agent_id, spec=RunShell(shell=Shell.SH, line=f"echo run >> {ran}"))
    await succeeded(fleet, command_id)
    await fleet.until_delivered(others)
    good = thief.delivery(agent_id)

    altered = msgspec.structs.replace(good, body=good.body.replace(b"echo run", b"echo bad"))
    assert [one.code for one in (await thief.say(agent_id, altered)).orders] == ["bad_signature"]
    assert [one.status for one in (await thief.say(agent_id, good)).orders] == ["accepted"]
    assert [one.code for one in (await thief.say(agent_id, thief.delivery(other.agent_id))).orders] == ["wrong_agent"]
    cancel = _encode(wire.CancelBody(agent_id=agent_id, sent_at=utc_now(), command_ids=[command_id]))
    refused = await thief.say(agent_id, wire.CancelRequest(body=cancel, signature=good.signature, key=good.key))
    assert refused.code == "bad_signature"
    forged = Ed25519PrivateKey.generate().sign(wire.SIGNING_CONTEXT + good.body)
    mine = msgspec.structs.replace(good, signature=forged, key=b"stranger")
    assert [one.status for one in (await thief.say(agent_id, mine)).orders] == ["busy"]

    found = await told(fleet, agent_id, 5)
    assert [(one.what, one.why, one.command_id, one.attempt) for one in found] == [
        (Brought.DELIVERY, RefusedFor.BAD_SIGNATURE, command_id, 1),
        (Brought.DELIVERY, RefusedFor.REPLAYED, command_id, 1),
        (Brought.DELIVERY, RefusedFor.WRONG_AGENT, None, None),
        (Brought.CANCEL, RefusedFor.BAD_SIGNATURE, command_id, None),
        (Brought.DELIVERY, RefusedFor.UNKNOWN_KEY, command_id, 1),
    ]
    assert [one.key for one in found] == [good.key.hex()] * 4 + [b"stranger".hex()]
    beside = await fleet.story(refused_orders_stream(command_id))
    assert beside == [one for one in found if one.command_id == command_id], "in the command's story, and once"
    assert await fleet.state(command_id) == "succeeded"
    assert ran.read_text() == "run\n"
    for why in (RefusedFor.REPLAYED, RefusedFor.WRONG_AGENT, RefusedFor.UNKNOWN_KEY):
        await counted(why, before[why] + 1)

    for _ in range(40):
        await thief.say(agent_id, altered)
    events = await fleet.until_event(agent_id, OrderRefused, 6)
    while sum(one.count for one in events if isinstance(one, OrderRefused)) < 45:
        events = await fleet.until_event(agent_id, OrderRefused, len(events) + 1)
    assert len(events) < 40, "of a flood, the number"
    await counted(RefusedFor.BAD_SIGNATURE, before[RefusedFor.BAD_SIGNATURE] + 42)


async def test_a_report_outlives_whatever_is_killed(fleet: Fleet, thief: Thief, running: RealAgent) -> None:
    """Nobody answers it and the agent is killed: it is told once the two are there again."""
    service = await fleet.gateway()
    running.process.start()
    (command_id,) = await fleet.queue(running.agent_id)
    await succeeded(fleet, command_id)
    await service.stop()
    altered = msgspec.structs.replace(thief.delivery(running.agent_id), signature=bytes(64))
    assert [one.code for one in (await thief.say(running.agent_id, altered)).orders] == ["bad_signature"]
    await running.process.kill()
    assert await fleet.story(refused_orders_stream(command_id)) == []
    await fleet.gateway("gateway-2")
    running.process.start()
    (found,) = await told(fleet, running.agent_id, 1)
    assert (found.command_id, found.why) == (command_id, RefusedFor.BAD_SIGNATURE)


async def test_an_agent_tells_its_own_story_alone(fleet: Fleet) -> None:
    """Said again it is one event; another's command is not named, nor its story touched; and there is a bound."""
    await fleet.gateway()
    one, other = [await connected(fleet, identity) for identity in await fleet.identities(2)]
    (command_id,) = await fleet.queue(other.agent_id)

    def report(number: int, command_id: UUID | None) -> wire.RefusalReport:
        return wire.RefusalReport(
            run="run", number=number, at=utc_now(), what="delivery", code="wrong_agent", command_id=command_id
        )

    unknown = new_id()
    for number, named in enumerate((command_id, unknown, one.agent_id), start=1):
        assert await one.ask(report(number, named)) == wire.Acknowledged()
        assert await one.ask(report(number, named)) == wire.Acknowledged(detail="duplicate")
    assert [found.command_id for found in await told(fleet, one.agent_id, 3)] == [None, unknown, None]
    assert await fleet.story(refused_orders_stream(command_id)) == []
    naive = msgspec.structs.replace(report(4, None), at=utc_now().replace(tzinfo=None))
    assert (await ask(one, "refusal", wire.encode(naive))) == wire.Refused(
        code="invalid_value", detail="A time without a zone is no time; send UTC."
    )
    replies = [await one.ask(report(number, None)) for number in range(5, 75)]
    last = replies[-1]
    assert isinstance(last, wire.Refused)
    assert (last.code, last.permanent) == ("too_many_messages", False)
    assert len(await fleet.story(refused_orders_stream(one.agent_id))) <= 62
