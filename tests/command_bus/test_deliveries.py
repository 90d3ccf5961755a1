"""What agents report, in whatever order and however often."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.handlers.delivery import Deliveries, Waiting
from command_bus.handlers.housekeeping import Housekeeping
from command_bus.handlers.presence import Arrival, Departure, PresenceHandler
from command_bus.ids import new_id
from command_bus.intents.agents import RetireAgent
from command_bus.intents.commands import CancelCommand, Ping, QueueCommand, Retry, RetryCommand
from command_bus.intents.tokens import CreateEnrollmentToken, RevokeEnrollmentToken
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load
from domain import errors
from domain.commands import Command, CommandState, LateResultRecorded, state_after
from domain.ids import AgentId, ClientId
from schema import wire
from tests.command_bus.conftest import Clock, Dispatch, Fleet, InFlightSet, enroll_request


def report(command_id: UUID, outcome: str = "succeeded", attempt: int = 1) -> wire.ResultReport:
    return wire.ResultReport(
        command_id=command_id,
        attempt=attempt,
        outcome=outcome,
        exit_code=0,
        stdout=wire.StreamReport(size=3, sha256="00", tail=b"ok\xff"),
    )


async def story(log: PostgresEventLog, command_id: UUID) -> list[str]:
    return [type(one.event).__name__ for one in (await log.read_streams([command_id]))[command_id]]


async def queue(dispatch: Dispatch, agent_id: AgentId, **options: object) -> UUID:
    done = await dispatch(QueueCommand(agent_id=agent_id, spec=Ping(), **options))  # type: ignore[arg-type]
    return UUID(done.answer["id"])


async def test_a_whole_life(dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog) -> None:
    """Accepted, started and finished make one story under one correlation id."""
    agent_id = await fleet.agent()
    command_id = await queue(dispatch, agent_id)
    accepted = wire.Accepted(command_id=command_id, attempt=1, status="accepted")
    await deliveries.accepted(agent_id, [accepted, accepted], "g1")
    await deliveries.started(
        agent_id, wire.StartedReport(command_id=command_id, attempt=1, started_at=datetime.now(UTC)), "g1"
    )
    assert await deliveries.finished(agent_id, report(command_id), "g2") == ""
    assert await deliveries.finished(agent_id, report(command_id), "g1") == "duplicate"
    assert await story(log, command_id) == ["CommandQueued", "CommandDelivered", "CommandStarted", "CommandSucceeded"]
    recorded = (await log.read_streams([command_id]))[command_id]
    assert len({one.correlation_id for one in recorded}) == 1
    assert [one.actor for one in recorded[1:]] == [f"agent:{agent_id}"] * 3
    assert {one.agent_id for one in recorded} == {agent_id}


async def test_what_an_agent_may_not_say(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog
) -> None:
    """What cannot be a result of one of its commands is an error and no event; good ones beside it count."""
    mine, other = await fleet.agent(), await fleet.agent()
    own, foreign = await queue(dispatch, mine), await queue(dispatch, other)
    head = await log.head()
    outcomes = await deliveries.finished_many(
        [
            (mine, report(new_id())),
            (mine, report(foreign)),
            (mine, report(own, attempt=7)),
            (mine, report(own, outcome="exploded")),
            (mine, report(fleet.site_id)),
        ],
        "g",
    )
    assert [type(outcome) for outcome in outcomes] == [
        errors.NotFoundError,
        errors.NotYourCommandError,
        errors.StaleAttemptError,
        errors.InvalidValueError,
        errors.NotFoundError,
    ]
    assert await log.head() == head
    outcomes = await deliveries.finished_many([(mine, report(foreign)), (mine, report(own)), (mine, report(own))], "g")
    assert isinstance(outcomes[0], errors.NotYourCommandError)
    assert outcomes[1:] == ["", "duplicate"]


async def test_cancel_and_result_at_the_same_moment_have_one_ending(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog
) -> None:
    """Invariant 2 under races: twenty commands, each cancelled and finished at once."""
    agent_id = await fleet.agent()
    command_ids = [await queue(dispatch, agent_id) for _ in range(20)]
    await asyncio.gather(
        *(dispatch(CancelCommand(command_id=command_id)) for command_id in command_ids),
        *(deliveries.finished(agent_id, report(command_id), "g") for command_id in command_ids),
        return_exceptions=True,
    )
    for recorded in (await log.read_streams(command_ids)).values():
        states = [state_after(one.event) for one in recorded]
        assert sum(1 for state in states if state is not None and state.terminal) == 1


async def test_cancelling_what_may_be_on_its_way_asks_the_agent(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog, in_flight: InFlightSet
) -> None:
    """Invariant 5: `cancelled` is not said while a copy may still arrive."""
    agent_id = await fleet.agent()
    command_id = await queue(dispatch, agent_id)
    in_flight.command_ids.add(command_id)
    assert (await dispatch(CancelCommand(command_id=command_id))).answer["state"] == "cancel_requested"
    assert await deliveries.cancelled(agent_id, {command_id: 1}) == set()
    assert (await load(log, Command, command_id)).state is CommandState.QUEUED
    assert await deliveries.cancelled(agent_id, {command_id: 0}) == {command_id}
    assert (await load(log, Command, command_id)).state is CommandState.CANCELLED


async def test_a_further_attempt_that_never_arrived_is_cancelled_too(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog, in_flight: InFlightSet
) -> None:
    """The agent knows the first attempt alone, and says so: what waits for it to end would wait for ever."""
    agent_id = await fleet.agent()
    command_id = await queue(dispatch, agent_id, retry=Retry(max_attempts=3, on=["failed"], backoff_s=0))
    await deliveries.finished(agent_id, report(command_id, "failed"), "g")
    in_flight.command_ids.add(command_id)
    assert (await dispatch(CancelCommand(command_id=command_id))).answer["state"] == "cancel_requested"
    assert await deliveries.cancelled(agent_id, {command_id: 2}) == set()  # its result is on its way
    assert await deliveries.cancelled(agent_id, {command_id: 1}) == {command_id}
    assert (await story(log, command_id))[-1] == "CommandCancelled"


async def test_time_ends_what_waited_too_long_or_lost_its_agent(
    dispatch: Dispatch, fleet: Fleet, log: PostgresEventLog, in_flight: InFlightSet, clock: Clock
) -> None:
    """Due commands expire once; those of a retired agent end; later ones stay."""
    agent_id, retired = await fleet.agent(), await fleet.agent()
    due = await queue(dispatch, agent_id, expires_at=clock.now + timedelta(minutes=1))
    later = await queue(dispatch, agent_id, expires_at=clock.now + timedelta(days=1))
    orphan = await queue(dispatch, retired)
    await dispatch(RetireAgent(agent_id=retired))
    clock.pass_(timedelta(minutes=2))

    class Waiting:
        async def expired(self, _now: datetime, _limit: int) -> list[tuple[UUID, AgentId]]:
            return [(due, agent_id), (later, agent_id)]

        async def agents_with_new(self, _after: int) -> list[tuple[UUID, int]]:
            return []

        async def open_of(self, agent_ids: Sequence[UUID], _limit: int) -> list[tuple[UUID, AgentId]]:
            return [(orphan, retired)] if retired in agent_ids else []

    housekeeping = Housekeeping(log, in_flight, Waiting(), new_id)
    assert [await housekeeping.expire_due(clock.now), await housekeeping.expire_due(clock.now)] == [1, 0]
    assert await housekeeping.abandon_retired(clock.now) == 1
    states = [(await load(log, Command, command_id)).state for command_id in (due, later, orphan)]
    assert states == [CommandState.EXPIRED, CommandState.QUEUED, CommandState.CANCELLED]


async def test_an_ended_command_is_retried_as_a_new_one(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog
) -> None:
    """Retrying never touches the old ending; the new command names the old."""
    agent_id = await fleet.agent()
    command_id = await queue(dispatch, agent_id)
    with pytest.raises(errors.CommandNotEndedError):
        await dispatch(RetryCommand(command_id=command_id))
    await deliveries.finished(agent_id, report(command_id, "failed"), "g")
    again = UUID((await dispatch(RetryCommand(command_id=command_id))).answer["id"])
    assert (await load(log, Command, again)).queued.retry_of == command_id
    assert (await load(log, Command, command_id)).state is CommandState.FAILED


async def test_a_token_lets_in_as_many_as_it_says(
    dispatch: Dispatch, fleet: Fleet, log: PostgresEventLog, clock: Clock
) -> None:
    """Of ten machines racing for three places, three come in; an expired, revoked or wrong token lets in none."""
    made = await dispatch(CreateEnrollmentToken(site_id=fleet.site_id, max_uses=3))
    enrollment = fleet.enrollment
    outcomes = await asyncio.gather(
        *(enrollment.enroll(enroll_request(made.answer["token"])) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, errors.TokenUsedUpError) for outcome in outcomes) == 7
    head = await log.head()
    for text in ("", "flt_x", made.answer["token"][:-2], "flt_" + "0" * 32 + "_abc"):
        with pytest.raises(errors.UnknownTokenError):
            await enrollment.enroll(enroll_request(text))
    with pytest.raises(errors.InvalidValueError):
        await enrollment.enroll(enroll_request(made.answer["token"], platform="amiga"))
    assert await log.head() == head
    fresh = await dispatch(CreateEnrollmentToken(site_id=fleet.site_id))
    await dispatch(RevokeEnrollmentToken(token_id=UUID(fresh.answer["id"])))
    with pytest.raises(errors.TokenRevokedError):
        await enrollment.enroll(enroll_request(fresh.answer["token"]))
    stale = await dispatch(CreateEnrollmentToken(site_id=fleet.site_id))
    clock.pass_(timedelta(days=2))
    with pytest.raises(errors.TokenExpiredError):
        await enrollment.enroll(enroll_request(stale.answer["token"]))


async def test_a_machine_that_asks_again_is_told_the_same(
    dispatch: Dispatch, fleet: Fleet, log: PostgresEventLog, clock: Clock
) -> None:
    """One key and one token make one agent and one use, however often and at once it is asked, even after its time."""
    made = await dispatch(CreateEnrollmentToken(site_id=fleet.site_id, max_uses=2))
    enrollment = fleet.enrollment
    request = enroll_request(made.answer["token"])
    answers = {await one for one in asyncio.as_completed([enrollment.enroll(request) for _ in range(5)])}
    assert len({answer.agent_id for answer in answers}) == 1
    head = await log.head()
    clock.pass_(timedelta(days=2))
    assert (await enrollment.enroll(request)).agent_id == answers.pop().agent_id
    assert await log.head() == head
    with pytest.raises(errors.TokenExpiredError):
        await enrollment.enroll(enroll_request(made.answer["token"]))


async def test_presence_and_facts_are_events_only_when_they_change(fleet: Fleet, log: PostgresEventLog) -> None:
    """Saying it twice, or by many at once, is one event."""
    presence = PresenceHandler(log, new_id)
    agents = [AgentId(new_id()) for _ in range(5)]
    client_id = ClientId(fleet.client_id)
    arrivals = [Arrival(agent_id=agent_id, client_id=client_id) for agent_id in agents]
    came = await asyncio.gather(*(presence.connected(arrivals, f"g{n}") for n in range(4)))
    assert sorted(agent_id for batch in came for agent_id in batch) == sorted(agents)
    gone = [Departure(agent_id=agents[0], client_id=client_id)]
    assert await presence.disconnected(gone, "g") == [agents[0]]
    assert await presence.disconnected(gone, "g") == []
    assert await presence.facts(agents[0], client_id, {"cores": 2})
    assert not await presence.facts(agents[0], client_id, {"cores": 2})
    assert await presence.facts(agents[0], client_id, {"cores": 4})


def as_queued(command_id: UUID, agent_id: AgentId, fleet: Fleet) -> dict[UUID, Waiting]:
    """A fresh command as a gateway read it from the queue, whatever has become of it since."""
    command = Command.waiting(command_id, 1, 1, agent_id, ClientId(fleet.client_id))
    return {command_id: Waiting(command, new_id())}


async def test_an_acceptance_is_judged_anew_where_the_command_has_moved_on(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog, in_flight: InFlightSet
) -> None:
    """What the queue showed at the lease is enough for a command that still is as it was, and for no other."""
    agent_id = await fleet.agent()
    same, asked, ended = [await queue(dispatch, agent_id) for _ in range(3)]
    in_flight.command_ids.add(asked)
    await dispatch(CancelCommand(command_id=asked))
    await dispatch(CancelCommand(command_id=ended))
    waiting: dict[UUID, Waiting] = {}
    for command_id in (same, asked, ended):
        waiting |= as_queued(command_id, agent_id, fleet)
    replies = [wire.Accepted(command_id=command_id, attempt=1, status="accepted") for command_id in waiting]
    await deliveries.accepted_many([(agent_id, replies)], "g", waiting=waiting)
    assert await story(log, same) == ["CommandQueued", "CommandDelivered"]
    assert await story(log, asked) == ["CommandQueued", "CommandCancelRequested", "CommandDelivered"]
    assert await story(log, ended) == ["CommandQueued", "CommandCancelled"]
    delivered = (await log.read_streams([same]))[same][1]
    assert delivered.correlation_id == waiting[same].correlation_id
    assert (delivered.agent_id, delivered.client_id) == (agent_id, fleet.client_id)


async def test_a_success_is_recorded_unread_where_its_acceptance_was_and_nothing_came_between(
    dispatch: Dispatch,
    fleet: Fleet,
    deliveries: Deliveries,
    log: PostgresEventLog,
    in_flight: InFlightSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever recorded the acceptance knows the command; one that has moved on is judged by its whole story."""
    agent_id = await fleet.agent()
    same, asked, failed, other = [await queue(dispatch, agent_id) for _ in range(4)]
    command_ids = (same, asked, failed, other)
    replies = [wire.Accepted(command_id=command_id, attempt=1, status="accepted") for command_id in command_ids]
    waiting = {key: one for command_id in command_ids for key, one in as_queued(command_id, agent_id, fleet).items()}
    await deliveries.accepted_many([(agent_id, replies)], "g", waiting=waiting)
    in_flight.command_ids.add(asked)
    await dispatch(CancelCommand(command_id=asked))
    read: list[UUID] = []
    streams = log.read_streams

    async def counted(stream_ids: Sequence[UUID], **options: bool) -> object:
        read.extend(stream_ids)
        return await streams(stream_ids, **options)

    monkeypatch.setattr(log, "read_streams", counted)
    assert await deliveries.finished(agent_id, report(same), "g") == ""
    assert read == []
    assert await deliveries.finished(agent_id, report(asked), "g") == ""
    assert await deliveries.finished(agent_id, report(failed, "failed"), "g") == ""
    both = [(agent_id, report(other)), (agent_id, report(other, attempt=2))]
    outcomes = await deliveries.finished_many(both, "g")
    assert read == [asked, failed, other]
    monkeypatch.undo()
    assert outcomes[0] == ""
    assert isinstance(outcomes[1], errors.StaleAttemptError)
    assert await story(log, same) == ["CommandQueued", "CommandDelivered", "CommandSucceeded"]
    assert await story(log, asked) == [
        "CommandQueued", "CommandDelivered", "CommandCancelRequested", "CommandSucceeded",
    ]  # fmt: skip
    assert await story(log, failed) == ["CommandQueued", "CommandDelivered", "CommandFailed"]
    assert await deliveries.finished(agent_id, report(same), "g") == "duplicate"


Say = st.tuples(
    st.integers(0, 2),
    st.one_of(
        st.tuples(st.just("accepted"), st.integers(1, 2)),
        st.tuples(st.just("accepted as queued")),
        st.tuples(st.just("started"), st.integers(1, 2)),
        st.tuples(st.just("finished"), st.integers(1, 2), st.sampled_from(["succeeded", "failed", "interrupted"])),
        st.tuples(st.just("cancelled"), st.integers(0, 2)),
        st.tuples(st.just("cancel")),
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(Say, max_size=15))
async def test_any_order_of_reports_keeps_one_ending(
    said: list[tuple[int, tuple[object, ...]]],
    dispatch: Dispatch,
    fleet: Fleet,
    deliveries: Deliveries,
    log: PostgresEventLog,
) -> None:
    """Invariants 2 and 6: all at once, doubled and out of order, each command ends at most once and in line."""
    agent_id = await fleet.agent()
    retry = Retry(max_attempts=2, on=["failed"], backoff_s=0)
    command_ids = [await queue(dispatch, agent_id, retry=retry) for _ in range(3)]

    async def say(command_id: UUID, what: tuple[object, ...]) -> object:
        match what:
            case ("accepted", int(attempt)):
                reply = wire.Accepted(command_id=command_id, attempt=attempt, status="accepted")
                return await deliveries.accepted(agent_id, [reply], "g")
            case ("accepted as queued",):
                reply = wire.Accepted(command_id=command_id, attempt=1, status="accepted")
                waiting = as_queued(command_id, agent_id, fleet)
                return await deliveries.accepted_many([(agent_id, [reply])], "g", waiting=waiting)
            case ("started", int(attempt)):
                started = wire.StartedReport(command_id=command_id, attempt=attempt, started_at=datetime.now(UTC))
                return await deliveries.started(agent_id, started, "g")
            case ("finished", int(attempt), str(outcome)):
                return await deliveries.finished(agent_id, report(command_id, outcome, attempt), "g")
            case ("cancelled", int(attempt)):
                return await deliveries.cancelled(agent_id, {command_id: attempt})
            case _:
                return await dispatch(CancelCommand(command_id=command_id))

    outcomes = await asyncio.gather(*(say(command_ids[n], what) for n, what in said), return_exceptions=True)
    unexpected = [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, errors.DomainError)]
    assert not unexpected
    for command_id, recorded in (await log.read_streams(command_ids)).items():
        after = [state_after(one.event) for one in recorded]
        ends = [index for index, state in enumerate(after) if state is not None and state.terminal]
        assert len(ends) <= 1
        assert not ends or all(isinstance(one.event, LateResultRecorded) for one in recorded[ends[0] + 1 :])
        assert [one.originator_version for one in recorded] == list(range(1, len(recorded) + 1))
        assert (await load(log, Command, command_id)).state.terminal == bool(ends)
