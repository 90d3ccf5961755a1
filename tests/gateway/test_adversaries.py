"""Agents in foreign hands: what they try at the broker, with recorded traffic, and with outputs made to hurt."""

import asyncio
import hashlib
import zlib
from functools import partial
from urllib.parse import urlsplit

import nats.errors
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command_bus.ids import new_id
from domain.ids import AgentId
from gateways.agents import metrics
from gateways.agents.directory import Entry
from gateways.agents.proofs import Proofs
from gateways.agents.service import GatewayService
from gateways.agents.wrong_proofs import Bound, WrongProofs
from gateways.bench.simulated import SimulatedAgent, SimulatedIdentity
from gateways.rest.errors import TooManyFailuresError
from schema import wire
from tests.gateway.harness import Fleet
from tests.gateway.test_access import refused
from tests.gateway.test_admission import Seconds

BOMB = zlib.compress(bytes(64 * 1024 * 1024), 9)
"""64 KiB that become 64 MiB."""


async def violated(agent: SimulatedAgent) -> bool:
    """Whether the broker has refused what was asked for last."""
    await agent.client.flush(10)
    await agent.client.flush(10)
    found = any("permissions violation" in str(error).lower() for error in agent.errors)
    agent.errors.clear()
    return found


async def test_wildcards_and_system_subjects_are_shut(fleet: Fleet) -> None:
    """Nothing of others is heard, however widely it is asked for; the system and JetStream are out of reach."""
    await fleet.gateway()
    one, other = [await fleet.agent(identity) for identity in await fleet.identities(2)]
    for subject in (
        ">",
        "*",
        "fleet.>",
        "fleet.*.cmd",
        f"fleet.{other.agent_id}.cmd",
        f"fleet.{other.agent_id}.up.result",
        f"fleet.{one.agent_id}.up.*",
        "_INBOX.>",
        f"_INBOX_{other.agent_id}.>",
        "$SYS.>",
        "$SYS.REQ.USER.AUTH",
        "$JS.>",
        "$JS.API.>",
        "$KV.>",
    ):
        await one.client.subscribe(subject)
        assert await violated(one), subject
    await one.client.subscribe(f"fleet.{one.agent_id}.cmd", queue="gateways")
    for subject in (
        f"fleet.{other.agent_id}.cmd",
        f"fleet.{other.agent_id}.up.hello",
        f"fleet.{other.agent_id}.out.{new_id()}",
        f"fleet.{one.agent_id}.cmd",
        f"_INBOX_{other.agent_id}.x",
        "_INBOX.x",
        "$SYS.REQ.USER.AUTH",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$JS.API.STREAM.CREATE.x",
        "$JS.API.INFO",
    ):
        await one.client.publish(subject, b"", reply=f"_INBOX_{one.agent_id}.r")
        assert await violated(one), subject
    assert isinstance(await one.hello(), wire.HelloReply), "it is still let speak for itself"


async def test_nobody_speaks_for_another(fleet: Fleet) -> None:
    """A hello or a result under another agent's subject never arrives, and one's own changes nothing of another's."""
    await fleet.gateway()
    one, other = [await fleet.agent(identity) for identity in await fleet.identities(2)]
    (command_id,) = await fleet.queue(other.agent_id)
    await fleet.until_delivered(command_id)
    (order,) = other.received
    forged = wire.ResultReport(command_id=command_id, attempt=order.attempt, outcome="succeeded", exit_code=0)
    hello = wire.Hello(agent_version="evil", sent_at=order.expires_at)
    for kind, message in (("result", forged), ("hello", hello)):
        with pytest.raises(nats.errors.Error):
            await one.client.request(wire.uplink_subject(other.agent_id, kind), wire.encode(message), timeout=0.3)
        assert await violated(one)
    reply = await one.ask(forged)
    assert isinstance(reply, wire.Refused)
    assert reply.code == "not_your_command"
    assert await fleet.state(command_id) == "delivered"


async def test_a_recorded_login_opens_nothing(fleet: Fleet) -> None:
    """What an agent showed at one connect is worth nothing at the next: the server's nonce is another."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    agent = fleet.simulate(identity)
    shown: list[bytes] = []
    sign = agent.sign_nonce

    def recorded(nonce: str) -> bytes:
        shown.append(sign(nonce))
        return shown[0]

    agent.sign_nonce = recorded  # type: ignore[method-assign]
    await agent.connect(fleet.nats.urls)
    await agent.close()
    again = fleet.simulate(identity)
    again.sign_nonce = lambda _: shown[0]  # type: ignore[method-assign]
    assert await refused(again, fleet)


async def test_a_recorded_message_changes_nothing(fleet: Fleet) -> None:
    """A result that is sent again, by whoever recorded it on the agent's own connection, is one ending."""
    await fleet.gateway()
    agent = await fleet.agent()
    (command_id,) = await fleet.queue(agent.agent_id)
    await fleet.until_delivered(command_id)
    report = wire.ResultReport(command_id=command_id, attempt=agent.received[0].attempt, outcome="succeeded")
    replies = [await agent.ask(report) for _ in range(3)]
    assert [reply.detail for reply in replies if isinstance(reply, wire.Acknowledged)] == ["", "duplicate", "duplicate"]
    other = wire.ResultReport(command_id=command_id, attempt=report.attempt, outcome="failed")
    assert isinstance(await agent.ask(other), wire.Acknowledged)
    assert await fleet.state(command_id) == "succeeded"


async def test_outputs_made_to_fill_the_memory_are_refused(fleet: Fleet) -> None:
    """A small message that unpacks to a large one is refused by what it says, before it is unpacked whole."""
    await fleet.gateway()
    agent = await fleet.agent()
    (command_id,) = await fleet.queue(agent.agent_id)
    await fleet.until_delivered(command_id)
    attempt = agent.received[0].attempt
    digest = hashlib.sha256(b"x").hexdigest()
    for size in (1, 64 * 1024, 64 * 1024 * 1024):
        stream = wire.StreamReport(size=size, sha256=digest, inline=BOMB)
        report = wire.ResultReport(command_id=command_id, attempt=attempt, outcome="succeeded", stdout=stream)
        assert isinstance(await agent.ask(report), wire.Refused)
    chunk = wire.OutputChunk(
        command_id=command_id, attempt=attempt, sha256=digest, size=wire.CHUNK_BYTES, index=0, data=BOMB
    )
    assert isinstance(await agent.ask(chunk), wire.Refused)
    assert await fleet.state(command_id) == "delivered"
    assert isinstance(await agent.hello(), wire.HelloReply)


async def test_frames_that_are_none_end_their_connection_alone(fleet: Fleet) -> None:
    """Garbage and oversized frames from strangers on the broker's port hurt nobody who is connected."""
    await fleet.gateway()
    agent = await fleet.agent()
    where = urlsplit(fleet.nats.urls[0])
    for said in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 5000,
        b"CONNECT {" + b"x" * 100_000 + b"\r\n",
        b'CONNECT {"auth_token":"' + str(agent.agent_id).encode() + b'","sig":"AAAA"}\r\nPING\r\n',
        b"PUB fleet.x.cmd 99999999999\r\n",
    ):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            writer.write(said)
            await asyncio.wait_for(reader.read(), 40)  # until the server ends it
        except ConnectionError:
            pass
        writer.close()
    with pytest.raises(nats.errors.Error):
        await agent.client.publish(wire.uplink_subject(agent.agent_id, "hello"), bytes(wire.MAX_MESSAGE_BYTES + 1))
    assert isinstance(await agent.hello(), wire.HelloReply)


def turned_away() -> float:
    """Connects that were not looked at."""
    return metrics.CONNECTS_REFUSED.labels("too_many_failures")._value.get()


def liar(agent_id: AgentId) -> SimulatedIdentity:
    """Somebody who knows the name, and not the key."""
    return SimulatedIdentity(agent_id, Ed25519PrivateKey.generate().private_bytes_raw())


async def lie(fleet: Fleet, agent_id: AgentId) -> None:
    """Until it is not looked at any more."""
    before = turned_away()
    async with asyncio.timeout(30):
        while turned_away() == before:
            assert await refused(fleet.simulate(liar(agent_id)), fleet)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[AgentId]:
    """Whose signatures were looked at."""
    found: list[AgentId] = []
    judge = Proofs.judge

    async def counted(self: Proofs, entry: Entry, signature: bytes, data: bytes) -> Entry:
        found.append(entry.agent_id)
        return await judge(self, entry, signature, data)

    monkeypatch.setattr(Proofs, "judge", counted)
    return found


async def test_who_is_wrong_too_often_is_not_looked_at(fleet: Fleet, judged: list[AgentId]) -> None:
    """No signature is checked for it any more; who came in from there before does again, and after a while all may."""
    seconds = Seconds()
    service = await fleet.gateway()
    service._callout._wrong = WrongProofs(seconds, place=Bound(5, 10.0))
    known, other = await fleet.identities(2)
    await (await fleet.agent(known)).close()
    await lie(fleet, other.agent_id)
    judged.clear()
    for agent_id in (other.agent_id, AgentId(new_id()), other.agent_id):
        assert await refused(fleet.simulate(liar(agent_id)), fleet)
    assert await refused(fleet.simulate(other), fleet), "who was not seen there before has to wait as well"
    assert judged == []
    assert isinstance(await (await fleet.agent(known)).hello(), wire.HelloReply)
    seconds.now += 20
    assert isinstance(await (await fleet.agent(other)).hello(), wire.HelloReply)


async def test_a_liar_shuts_nobody_out_who_shares_its_address(fleet: Fleet) -> None:
    """Below the bound whoever is right gets in, and being right costs nothing; nor do others' lies cost the known."""
    seconds = Seconds()
    service = await fleet.gateway()
    service._callout._wrong = WrongProofs(seconds, place=Bound(8, 10.0), agent=Bound(8, 10.0))
    one, other = await fleet.identities(2)
    for _ in range(3):
        assert await refused(fleet.simulate(liar(one.agent_id)), fleet)
        for identity in (one, other):
            await (await fleet.agent(identity)).close()
    for _ in range(10):
        await (await fleet.agent(other)).close()
    await lie(fleet, AgentId(new_id()))
    for identity in (one, other):
        await (await fleet.agent(identity)).close()
    # Whoever lies in the very name of one that is known is bounded, too, and no other name suffers.
    await lie(fleet, one.agent_id)
    assert await refused(fleet.simulate(one), fleet)
    await (await fleet.agent(other)).close()


async def told(gateway: GatewayService) -> None:
    """Once it has told what was wrong, and heard what was elsewhere."""
    async with asyncio.timeout(10):
        while not gateway._counts[0]._totals:  # noqa: ASYNC110 -- nothing announces it
            await asyncio.sleep(0.05)


async def test_gateways_count_wrong_proofs_together(
    fleet: Fleet, valkey_url: str, judged: list[AgentId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was wrong too often at one is turned away by another soon, whichever of them hears it."""
    slow = Bound(5, 600.0)
    monkeypatch.setattr("gateways.agents.service.WrongProofs", partial(WrongProofs, place=slow))
    one = await fleet.gateway("gateway-1", valkey_url=valkey_url)
    (identity,) = await fleet.identities()
    await lie(fleet, identity.agent_id)
    other = await fleet.gateway("gateway-2", valkey_url=valkey_url)
    await told(one)
    await one.stop()
    before = turned_away()
    assert await refused(fleet.simulate(liar(identity.agent_id)), fleet)
    assert turned_away() == before, "it has heard nothing of the other yet"
    await told(other)
    judged.clear()
    assert await refused(fleet.simulate(liar(identity.agent_id)), fleet)
    assert (turned_away(), judged) == (before + 1, [])


async def test_a_gateway_counts_for_itself_while_valkey_is_away(fleet: Fleet) -> None:
    """It is neither open nor shut."""
    await fleet.gateway(valkey_url="redis://127.0.0.1:9")
    (identity,) = await fleet.identities()
    assert isinstance(await (await fleet.agent(identity)).hello(), wire.HelloReply)
    await lie(fleet, AgentId(new_id()))


def test_an_address_may_try_again_at_a_steady_pace() -> None:
    """However much was wrong at once, and of an IPv6 address its network counts."""
    seconds = Seconds()
    wrong = WrongProofs(seconds, place=Bound(2, 10.0))
    for _ in range(2):
        wrong.must_have_room(None, "2001:db8::1")
        wrong.failed(None, "2001:db8::1")
    with pytest.raises(TooManyFailuresError):
        wrong.must_have_room(new_id(), "2001:db8::2")
    wrong.must_have_room(new_id(), "2001:db8:0:1::2")
    for _ in range(50):
        wrong.failed(None, "2001:db8::3")
    seconds.now += 10
    wrong.must_have_room(new_id(), "2001:db8::2")
