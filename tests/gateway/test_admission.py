"""More than a gateway can take ends in "come again then", fairly, and in no loss."""

import asyncio
import itertools
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg
from prometheus_client import REGISTRY

from command_bus.ids import utc_now
from domain.agents import AgentConnected
from gateways.agents import admission
from gateways.agents.admission import Admission, Refusal
from schema import wire
from tests.gateway.harness import Fleet
from tests.projections.database import plant

AGENTS = [UUID(int=number) for number in range(1, 6)]


class Seconds:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(answer: Refusal | None) -> Refusal:
    assert answer is not None
    return answer


@given(
    st.lists(
        st.tuples(st.sampled_from(AGENTS), st.integers(0, 3 * admission.BYTES // 2), st.booleans(), st.floats(0, 2)),
        max_size=200,
    )
)
def test_what_is_under_way_stays_within_bounds(steps: list[tuple[UUID, int, bool, float]]) -> None:
    """Whatever comes and goes: number and bytes stay bounded, a single large message alone aside, and add up."""
    seconds = Seconds()
    gate = Admission(seconds, messages=20, size=10_000_000)
    inside: list[tuple[UUID, int]] = []
    for agent_id, size, leaves, pause_s in steps:
        seconds.now += pause_s
        if leaves and inside:
            gate.leave(*inside.pop(0))
        before = gate.bytes
        if gate.enter(agent_id, size) is None:
            assert size <= admission.SMALL_BYTES or not before or before + size <= 10_000_000
            inside.append((agent_id, size))
        assert gate.messages == len(inside) <= 20
        assert gate.bytes == sum(size for _, size in inside)
    for one in inside:
        gate.leave(*one)
    assert (gate.messages, gate.bytes) == (0, 0)


def test_those_who_are_refused_together_do_not_come_back_together() -> None:
    """Each gets a moment of its own, a second off at least and half a minute at the most."""
    gate = Admission(Seconds(), messages=1)
    assert gate.enter(AGENTS[0], 100) is None
    waits = [refused(gate.enter(UUID(int=100 + number), 100)).again_s for number in range(5000)]
    spread = [later - sooner for sooner, later in itertools.pairwise(waits[:1000])]
    assert min(spread) > 0
    assert waits[0] >= admission.LEAST_WAIT_S
    assert max(waits) <= admission.LONGEST_WAIT_S


def test_large_messages_do_not_keep_small_ones_out() -> None:
    """Outputs may fill their bytes; a check-in is heard all the same."""
    gate = Admission(Seconds(), size=4_000_000)
    for agent_id in AGENTS[:4]:
        assert gate.enter(agent_id, 1_000_000) is None
    assert refused(gate.enter(AGENTS[4], 1_000_000)).code == "overloaded"
    assert gate.enter(AGENTS[4], 200) is None


def test_an_agent_that_floods_is_limited_by_itself() -> None:
    """It is asked to wait, then not answered, and heard again once it has been quiet; others notice nothing."""
    seconds = Seconds()
    gate = Admission(seconds, burst=100, per_s=10)
    flood, other = AGENTS[:2]
    answers = []
    for _ in range(1000):
        answers.append(gate.enter(flood, 100))
        if answers[-1] is None:
            gate.leave(flood, 100)
    assert answers[:100] == [None] * 100
    assert {refused(one).code for one in answers[100:]} == {"too_many_messages"}
    assert not refused(answers[100]).silent
    assert refused(answers[-1]).silent
    assert gate.enter(other, 100) is None
    seconds.now += -admission.LEAST_TOKENS / 10 + 1
    assert gate.enter(flood, 100) is None


def test_one_agent_alone_takes_a_part_only() -> None:
    """Beyond its messages or bytes under way it waits, while others are heard."""
    gate = Admission(Seconds())
    for _ in range(admission.AGENT_MESSAGES):
        assert gate.enter(AGENTS[0], 10) is None
    assert refused(gate.enter(AGENTS[0], 10)).code == "too_many_messages"
    assert gate.enter(AGENTS[1], admission.AGENT_BYTES) is None
    assert refused(gate.enter(AGENTS[1], 10)).code == "too_many_messages"
    assert gate.enter(AGENTS[2], 10) is None


def dropped() -> float:
    return REGISTRY.get_sample_value("fleetlog_agent_flood_dropped_total") or 0.0


async def test_a_flood_of_hellos_hurts_its_sender_alone(fleet: Fleet) -> None:
    """Thousands at once from one agent: it is told to wait, or nothing; another's check-in is answered meanwhile."""
    await fleet.gateway()
    flood, other = await fleet.agent(), await fleet.agent()
    hello = wire.encode(wire.Hello(agent_version="flood", sent_at=utc_now()))
    subject = wire.uplink_subject(flood.agent_id, "hello")
    codes: list[str] = []
    done = asyncio.Event()

    async def on_answer(message: Msg) -> None:
        reply = wire.decode_uplink_reply(message.data)
        if isinstance(reply, wire.Refused):
            assert not reply.permanent
            assert reply.retry_after_s is not None
            codes.append(reply.code)
            done.set()

    before = dropped()
    inbox = flood.client.new_inbox()
    await flood.client.subscribe(inbox, cb=on_answer)
    for _ in range(5000):
        await flood.client.publish(subject, hello, reply=inbox)
    await flood.client.flush()
    assert isinstance(await other.hello(), wire.HelloReply)
    await asyncio.wait_for(done.wait(), 20)
    assert set(codes) == {"too_many_messages"}
    assert dropped() > before


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection]:
    """The administrator of the server, who may do what the application may not."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


async def test_a_story_that_cannot_be_read_spoils_no_others(fleet: Fleet, admin: psycopg.Connection) -> None:
    """Of results that come together, that of the damaged command is kept back by its agent; the others are recorded."""
    gateway = await fleet.gateway()
    agents = [await fleet.agent() for _ in range(2)]
    damaged = (await fleet.queue(agents[0].agent_id))[0]
    sound = [(await fleet.queue(agents[number].agent_id))[0] for number in (0, 1, 1)]
    for command_id in (damaged, *sound):
        await fleet.until_delivered(command_id)
    plant(admin, "CommandDelivered/99", b"{}", stream_id=damaged, agent_id=agents[0].agent_id)

    def result(command_id: UUID, outcome: str = "succeeded") -> wire.ResultReport:
        return wire.ResultReport(command_id=command_id, attempt=1, outcome=outcome, started_at=utc_now())

    # A failure is never recorded without a look at the story: whether there is another attempt is in it.
    items = [(agents[0].agent_id, result(damaged, "failed"))]
    items += [(agents[1 if number else 0].agent_id, result(one)) for number, one in enumerate(sound)]
    answers = [
        wire.decode_uplink_reply(data)
        for data in await asyncio.gather(
            *(gateway._desk.uplink.handle(agent_id, wire.encode(report), "nats") for agent_id, report in items)
        )
    ]
    assert isinstance(answers[0], wire.Refused)
    assert (answers[0].code, answers[0].permanent) == ("unreadable_story", False)
    assert answers[1:] == [wire.Acknowledged()] * 3
    assert [await fleet.state(command_id) for command_id in sound] == ["succeeded"] * 3


async def test_an_agent_that_cannot_be_read_keeps_nobody_out(fleet: Fleet, admin: psycopg.Connection) -> None:
    """It is asked to come again, its queue waits; its neighbours connect, are seen and get what is theirs."""
    damaged, sound = await fleet.identities(2)
    plant(admin, "AgentRenamed/99", b"{}", stream_id=damaged.agent_id, agent_id=damaged.agent_id)
    waiting = (await fleet.queue(damaged.agent_id))[0]
    command_id = (await fleet.queue(sound.agent_id))[0]
    gateway = await fleet.gateway()
    entries = await gateway._desk.directory.get_many([damaged.agent_id, sound.agent_id])
    assert set(entries) == {sound.agent_id}
    neighbour = await fleet.agent(sound)
    assert isinstance(await neighbour.hello(), wire.HelloReply)
    await fleet.until_event(sound.agent_id, AgentConnected)
    await fleet.until_delivered(command_id)
    hello = wire.encode(wire.Hello(agent_version="1", sent_at=utc_now()))
    answer = wire.decode_uplink_reply(await gateway._desk.uplink.handle(damaged.agent_id, hello, "nats"))
    assert isinstance(answer, wire.Refused)
    assert (answer.code, answer.permanent) == ("unreadable_story", False)
    assert await fleet.state(waiting) == "queued"
