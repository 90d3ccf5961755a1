"""What agents send wrongly is refused with a code, counted, and changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
import nats.errors
import pytest
from prometheus_client import REGISTRY

from command_bus.ids import new_id, utc_now
from command_bus.intents.agents import RetireAgent, SuspendAgent
from domain.agents import AgentConnected, AgentDisconnected, AgentFactsReported
from domain.event import Event
from domain.refusals import AgentRefused, Door
from gateways.bench.simulated import VERSION, SimulatedAgent, SimulatedIdentity
from schema import wire
from tests.gateway.harness import Fleet


def count(code: str) -> float:
    return REGISTRY.get_sample_value("fleetlog_agent_refused_total", {"code": code}) or 0.0


def connects_refused(code: str) -> float:
    return REGISTRY.get_sample_value("fleetlog_agent_connects_refused_total", {"code": code}) or 0.0


def results(detail: str) -> float:
    return REGISTRY.get_sample_value("fleetlog_agent_results_total", {"detail": detail}) or 0.0


async def connected(fleet: Fleet, identity: SimulatedIdentity | None = None) -> SimulatedAgent:
    """An agent whose arrival is on record, so that the log stands still until something is said."""
    agent = await fleet.agent(identity)
    await fleet.until_event(agent.agent_id, AgentConnected)
    return agent


@asynccontextmanager
async def refused_once(fleet: Fleet, code: str) -> AsyncIterator[None]:
    """One more is counted under the code, and the log stays as it is."""
    before, head = count(code), await fleet.log.head()
    yield
    assert count(code) == before + 1
    assert await fleet.log.head() == head


async def ask(agent: SimulatedAgent, kind: str, data: bytes) -> wire.UplinkReply:
    reply: wire.UplinkReply = wire.decode_uplink_reply(await agent.ask_raw(kind, data))
    return reply


def result(command_id: UUID, attempt: int = 1, outcome: str = "succeeded") -> wire.ResultReport:
    return wire.ResultReport(command_id=command_id, attempt=attempt, outcome=outcome, started_at=utc_now())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1", "malformed"),
        (b"", "malformed"),
        (b"\x81\xa4kind\xff", "malformed"),
        (b"\x91" * 5000, "malformed"),
        (msgspec.msgpack.encode({"kind": "hello"}), "malformed"),
        (msgspec.msgpack.encode({"kind": "result", "command_id": 7}), "malformed"),
        (msgspec.msgpack.encode({"kind": "fly"}), "unknown_kind"),
        (
            msgspec.msgpack.encode({"kind": "hello", "agent_version": "1", "sent_at": utc_now(), "protocol": 99}),
            "protocol_too_new",
        ),
    ],
    ids=["no type", "empty", "bad text", "too deep", "too little", "wrong type", "unknown kind", "too new"],
)
async def test_a_message_that_makes_no_sense_is_refused_for_good(fleet: Fleet, data: bytes, code: str) -> None:
    """Malformed, unknown and too new: each has its code, and the gateway lives on."""
    await fleet.gateway()
    agent = await connected(fleet)
    async with refused_once(fleet, code):
        reply = await ask(agent, "hello", data)
        assert isinstance(reply, wire.Refused)
        assert (reply.code, reply.permanent) == (code, True)
        assert reply.detail
        assert isinstance(await agent.hello(), wire.HelloReply)


async def refused_result(fleet: Fleet, agent: SimulatedAgent, report: wire.ResultReport, code: str) -> None:
    async with refused_once(fleet, code):
        reply = await agent.ask(report)
        assert isinstance(reply, wire.Refused)
        assert (reply.code, reply.permanent) == (code, True)
        assert reply.detail


async def test_a_result_for_anothers_command_is_refused(fleet: Fleet) -> None:
    """An agent speaks of its own commands alone."""
    await fleet.gateway()
    one, other = [await connected(fleet, identity) for identity in await fleet.identities(2)]
    (command_id,) = await fleet.queue(one.agent_id)
    await fleet.until_delivered(command_id)
    await refused_result(fleet, other, result(command_id), "not_your_command")


async def test_a_result_for_an_unknown_command_is_refused(fleet: Fleet) -> None:
    """There is nothing that it could be the result of; an id of another kind of thing is nothing too."""
    await fleet.gateway()
    agent = await connected(fleet)
    await refused_result(fleet, agent, result(new_id()), "not_found")
    await refused_result(fleet, agent, result(agent.agent_id), "not_found")


async def test_a_result_for_an_attempt_that_never_was_is_refused(fleet: Fleet) -> None:
    """Attempts are numbered by the server."""
    await fleet.gateway()
    agent = await connected(fleet)
    (command_id,) = await fleet.queue(agent.agent_id)
    await agent.hello()
    await agent.until(lambda: len(agent.received) == 1)
    await fleet.until_delivered(command_id)
    await refused_result(fleet, agent, result(command_id, attempt=2), "stale_attempt")


async def test_an_outcome_that_there_is_not_is_refused(fleet: Fleet) -> None:
    """Only the outcomes of the protocol count."""
    await fleet.gateway()
    agent = await connected(fleet)
    (command_id,) = await fleet.queue(agent.agent_id)
    await agent.hello()
    await agent.until(lambda: len(agent.received) == 1)
    await fleet.until_delivered(command_id)
    await refused_result(fleet, agent, result(command_id, outcome="splendid"), "invalid_value")


async def test_facts_that_no_document_can_hold_are_refused(fleet: Fleet) -> None:
    """Too much of them, or keys that are no text."""
    await fleet.gateway()
    agent = await connected(fleet)
    for facts in ({"a": "x" * 300_000}, {"a": {(1): {2: float("nan")}}, "b": "x" * 262_144}):
        async with refused_once(fleet, "invalid_value"):
            reply = await agent.ask(wire.FactsReport(facts=facts))
            assert isinstance(reply, wire.Refused)
            assert reply.code == "invalid_value"
    assert await agent.ask(wire.FactsReport(facts={"os": "Linux"})) == wire.Acknowledged()
    events: list[Event] = await fleet.until_event(agent.agent_id, AgentFactsReported)
    assert events == [AgentFactsReported(facts={"os": "Linux"})]


async def test_a_chunk_for_anothers_command_is_refused(fleet: Fleet) -> None:
    """Outputs too are the business of the command's own agent."""
    await fleet.gateway()
    one, other = [await connected(fleet, identity) for identity in await fleet.identities(2)]
    (command_id,) = await fleet.queue(one.agent_id)
    await fleet.until_delivered(command_id)
    async with refused_once(fleet, "not_your_command"):
        reply = await other.ask(
            wire.OutputChunk(command_id=command_id, attempt=1, sha256="0" * 64, size=1, index=0, data=b"x")
        )
        assert isinstance(reply, wire.Refused)
        assert reply.code == "not_your_command"


async def test_a_result_waits_for_its_output(fleet: Fleet) -> None:
    """A result that names an output that did not arrive is put off, not dropped."""
    await fleet.gateway()
    agent = await connected(fleet)
    (command_id,) = await fleet.queue(agent.agent_id)
    await agent.hello()
    await agent.until(lambda: len(agent.received) == 1)
    report = msgspec.structs.replace(result(command_id), stdout=wire.StreamReport(size=100_000, sha256="0" * 64))
    await fleet.until_delivered(command_id)
    async with refused_once(fleet, "output_missing"):
        reply = await agent.ask(report)
        assert isinstance(reply, wire.Refused)
        assert (reply.code, reply.permanent) == ("output_missing", False)


async def test_a_result_sent_twice_is_taken_once(fleet: Fleet) -> None:
    """The second is acknowledged as what it is, so that its sender lets it go; it is counted and changes nothing."""
    await fleet.gateway()
    agent = await connected(fleet)
    (command_id,) = await fleet.queue(agent.agent_id)
    await agent.hello()
    await agent.until(lambda: len(agent.received) == 1)
    await fleet.until_delivered(command_id)
    new, twice = results("new"), results("duplicate")
    report = result(command_id)
    assert await agent.ask(report) == wire.Acknowledged()
    head = await fleet.log.head()
    assert await agent.ask(report) == wire.Acknowledged(detail="duplicate")
    # Whatever a second one says otherwise: the first stands.
    contrary = msgspec.structs.replace(report, outcome="failed", exit_code=1)
    assert await agent.ask(contrary) == wire.Acknowledged(detail="duplicate")
    assert (results("new"), results("duplicate")) == (new + 1, twice + 2)
    assert await fleet.log.head() == head
    assert await fleet.state(command_id) == "succeeded"


@pytest.mark.parametrize(
    ("intent", "code", "permanent"),
    [(SuspendAgent, "agent_suspended", False), (RetireAgent, "agent_retired", True)],
)
async def test_what_an_agent_says_that_may_no_longer_is_refused(
    fleet: Fleet, intent: type[SuspendAgent | RetireAgent], code: str, permanent: bool
) -> None:
    """Its connect is refused, and so is what was on its way when it was put out; a suspended one may keep its results.

    The broker closes its connection at once, so what came too late is handed to the gateway as the broker would.
    """
    service = await fleet.gateway()
    (identity,) = await fleet.identities()
    agent = await connected(fleet, identity)
    (command_id,) = await fleet.queue(agent.agent_id)
    await fleet.until_delivered(command_id)
    await fleet.dispatch(intent(agent_id=identity.agent_id, reason="lost"))
    await asyncio.wait_for(agent.closed.wait(), 10)
    await fleet.until_event(agent.agent_id, AgentDisconnected)
    for message in (wire.Hello(agent_version=VERSION, sent_at=utc_now()), result(command_id)):
        async with refused_once(fleet, code):
            data = await service._desk.uplink.handle(identity.agent_id, wire.encode(message), "nats")
            reply = wire.decode_uplink_reply(data)
            assert isinstance(reply, wire.Refused)
            assert (reply.code, reply.permanent) == (code, permanent)
            assert reply.detail
    head, refused = await fleet.log.head(), connects_refused(code)
    with pytest.raises(nats.errors.Error):
        await fleet.simulate(identity).connect(fleet.nats.urls)
    assert connects_refused(code) > refused
    (told, *_) = await fleet.until_event(agent.agent_id, AgentRefused)
    assert told == AgentRefused(door=Door.CONNECT, code=code, address="127.0.0.1")
    assert {type(one.event) for one in await fleet.log.read(after=head)} == {AgentRefused}
