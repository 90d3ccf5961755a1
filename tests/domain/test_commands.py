"""The life of a command, by rules and by chance."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import errors
from domain.commands import (
    OUTCOMES,
    Command,
    CommandCancelled,
    CommandDelivered,
    CommandExpired,
    CommandPriorityChanged,
    CommandQueued,
    CommandRequeued,
    CommandStarted,
    CommandState,
    CommandSucceeded,
    LateResultRecorded,
    Ping,
    Result,
    RetryPolicy,
    RunShell,
    state_after,
)
from domain.event import Change, Event
from domain.ids import AgentId, ClientId, SiteId
from domain.scripts import Shell

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGENT = AgentId(UUID(int=1))
STREAM = UUID(int=100)


def queued(**overrides: object) -> CommandQueued:
    values: dict[str, object] = {
        "agent_id": AGENT,
        "client_id": ClientId(UUID(int=2)),
        "site_id": SiteId(UUID(int=3)),
        "spec": Ping(),
        "expires_at": NOW + timedelta(days=1),
    }
    return CommandQueued(**(values | overrides))  # type: ignore[arg-type]


def fresh(**overrides: object) -> Command:
    command = Command(STREAM)
    command.queue(queued(**overrides), NOW)
    return command


def types(changes: Sequence[Change]) -> list[type[Event]]:
    return [type(change.event) for change in changes]


def finish(command: Command, outcome: CommandState, attempt: int = 1, at: datetime = NOW) -> Sequence[Change]:
    result = Result(started_at=NOW, finished_at=NOW, exit_code=0)
    return command.finish(attempt, outcome, result, at=at, gateway="g")


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ({"expires_at": NOW}, errors.ExpiryInPastError),
        ({"not_before": NOW + timedelta(days=2)}, errors.ExpiryBeforeStartError),
        ({"expires_at": NOW + timedelta(days=400)}, errors.InvalidValueError),
        ({"priority": 10}, errors.InvalidValueError),
        ({"lane": "no spaces"}, errors.InvalidValueError),
        ({"spec": RunShell(shell=Shell.SH, line="  ")}, errors.InvalidValueError),
        ({"spec": RunShell(shell=Shell.SH, line="true", env={"A=B": "c"})}, errors.InvalidValueError),
        ({"spec": RunShell(shell=Shell.SH, line="true", timeout_s=0)}, errors.InvalidValueError),
        ({"retry": RetryPolicy(max_attempts=2, on=(CommandState.CANCELLED,))}, errors.InvalidValueError),
    ],
)
def test_impossible_commands_are_refused(overrides: dict[str, object], error: type[Exception]) -> None:
    """A command that could never be done as asked is refused before it is an event."""
    command = Command(STREAM)
    with pytest.raises(error):
        command.queue(queued(**overrides), NOW)
    assert command.version == 0


def test_a_result_implies_what_came_before() -> None:
    """A result heard before its delivery brings delivery and start with it."""
    assert types(finish(fresh(), CommandState.SUCCEEDED)) == [CommandDelivered, CommandStarted, CommandSucceeded]


def test_a_result_twice_is_one_event() -> None:
    """Repeating a result changes nothing."""
    command = fresh()
    finish(command, CommandState.SUCCEEDED)
    assert finish(command, CommandState.SUCCEEDED) == []
    assert finish(command, CommandState.FAILED) == []


def test_a_late_result_does_not_change_the_ending() -> None:
    """A result after the ending is recorded beside it, once."""
    command = fresh()
    command.expire(NOW + timedelta(days=2))
    assert types(finish(command, CommandState.SUCCEEDED)) == [LateResultRecorded]
    assert finish(command, CommandState.SUCCEEDED) == []
    assert command.state is CommandState.EXPIRED


def test_only_forgiven_outcomes_are_tried_again() -> None:
    """An attempt is followed by another only if its outcome is in the policy and attempts are left."""
    retry = RetryPolicy(max_attempts=2, on=(CommandState.FAILED,), backoff_s=60)
    command = fresh(retry=retry)
    assert types(finish(command, CommandState.FAILED))[-1] is CommandRequeued
    assert (command.state, command.attempt) == (CommandState.QUEUED, 2)
    assert command.not_before == NOW + timedelta(seconds=60)
    finish(command, CommandState.FAILED, attempt=2)
    assert command.state is CommandState.FAILED
    unforgiven = fresh(retry=retry)
    finish(unforgiven, CommandState.INTERRUPTED)
    assert unforgiven.state is CommandState.INTERRUPTED


def test_no_clock_has_a_say_where_nothing_is_waited_for() -> None:
    """A server whose clock is ahead for a moment, as it records a result, does not put the next attempt off."""
    command = fresh(retry=RetryPolicy(max_attempts=2, on=(CommandState.FAILED,), backoff_s=0))
    finish(command, CommandState.FAILED)
    assert (command.state, command.attempt, command.not_before) == (CommandState.QUEUED, 2, None)


def test_no_attempt_begins_after_the_expiry() -> None:
    """A retry that could only start after the expiry does not happen."""
    command = fresh(retry=RetryPolicy(max_attempts=5, on=(CommandState.FAILED,), backoff_s=2 * 24 * 3600))
    finish(command, CommandState.FAILED)
    assert command.state is CommandState.FAILED


def test_cancelling_what_never_left_ends_it() -> None:
    """A queued command that no gateway holds is cancelled at once."""
    assert types(fresh().cancel("enough", in_flight=False)) == [CommandCancelled]


def test_cancelling_what_may_have_left_asks_the_agent() -> None:
    """A command that an agent may have is not called cancelled until the agent says so."""
    command = fresh()
    command.cancel("enough", in_flight=True)
    assert command.state is CommandState.QUEUED
    assert command.cancel_requested
    assert command.cancel("again", in_flight=True) == []
    command.confirm_cancel()
    assert command.state is CommandState.CANCELLED


def test_an_ended_command_cannot_be_cancelled() -> None:
    """Cancelling after the end is an error that says so."""
    command = fresh()
    finish(command, CommandState.SUCCEEDED)
    with pytest.raises(errors.CommandEndedError):
        command.cancel("", in_flight=False)


def test_an_attempt_never_begun_is_refused() -> None:
    """A result for an attempt in the future is no result."""
    with pytest.raises(errors.StaleAttemptError):
        finish(fresh(), CommandState.SUCCEEDED, attempt=2)


def test_another_agents_command_is_not_yours() -> None:
    """An agent can speak of its own commands alone."""
    with pytest.raises(errors.NotYourCommandError):
        fresh().must_belong_to(AgentId(UUID(int=77)))


def test_a_running_command_of_a_retired_agent_is_interrupted_and_its_true_result_is_late() -> None:
    """Retiring ends what was under way; should the agent still report, that is on record beside the ending."""
    command = fresh()
    command.start(1, NOW, "g")
    command.abandon("agent retired")
    assert command.state is CommandState.INTERRUPTED
    assert types(finish(command, CommandState.SUCCEEDED)) == [LateResultRecorded]


def test_a_place_in_the_queue_changes_only_while_the_command_surely_waits() -> None:
    """The same priority again is no event; what an agent may have, or what has ended, keeps its own."""
    command = fresh(retry=RetryPolicy(max_attempts=2, on=(CommandState.FAILED,), backoff_s=0))
    assert types(command.prioritise(0, in_flight=False)) == [CommandPriorityChanged]
    assert command.prioritise(0, in_flight=False) == []
    with pytest.raises(errors.InvalidValueError):
        command.prioritise(10, in_flight=False)
    with pytest.raises(errors.CommandUnderWayError):
        command.prioritise(1, in_flight=True)
    command.deliver(1, "g")
    with pytest.raises(errors.CommandUnderWayError):
        command.prioritise(1, in_flight=False)
    finish(command, CommandState.FAILED)
    assert types(command.prioritise(2, in_flight=False)) == [CommandPriorityChanged]
    command.cancel("", in_flight=False)
    with pytest.raises(errors.CommandEndedError):
        command.prioritise(1, in_flight=False)


Step = st.one_of(
    st.tuples(st.just("deliver"), st.integers(1, 3)),
    st.tuples(st.just("start"), st.integers(1, 3)),
    st.tuples(st.just("finish"), st.integers(1, 3), st.sampled_from(sorted(OUTCOMES - {CommandState.REJECTED}))),
    st.tuples(st.just("reject"), st.integers(1, 3)),
    st.tuples(st.just("cancel"), st.booleans()),
    st.tuples(st.just("confirm_cancel")),
    st.tuples(st.just("prioritise"), st.integers(0, 9)),
    st.tuples(st.just("expire"), st.integers(0, 48)),
    st.tuples(st.just("abandon")),
)


def take(command: Command, step: tuple[object, ...]) -> Sequence[Change]:  # noqa: C901 - one case for each step
    """Do one step of a random history; a refusal changes nothing."""
    before = command.version
    decided: Sequence[Change] = []
    try:
        match step:
            case ("prioritise", int(priority)):
                decided = command.prioritise(priority, in_flight=False)
            case ("deliver", int(attempt)):
                decided = command.deliver(attempt, "g")
            case ("start", int(attempt)):
                decided = command.start(attempt, NOW, "g")
            case ("finish", int(attempt), CommandState() as outcome):
                decided = finish(command, outcome, attempt)
            case ("reject", int(attempt)):
                decided = command.reject(attempt, "code", "")
            case ("cancel", bool(in_flight)):
                decided = command.cancel("", in_flight=in_flight)
            case ("confirm_cancel",):
                decided = command.confirm_cancel()
            case ("expire", int(hours)):
                decided = command.expire(NOW + timedelta(hours=hours))
            case ("abandon",):
                decided = command.abandon("agent retired")
            case _:
                raise AssertionError(step)
    except errors.DomainError:
        assert command.version == before
    return decided


@given(steps=st.lists(Step, max_size=12), attempts=st.integers(1, 3))
def test_any_history_has_at_most_one_ending_and_it_stands(steps: list[tuple[object, ...]], attempts: int) -> None:
    """Invariant 2: whatever is reported in whatever order, one terminal event at the most, and nothing undoes it."""
    retry = RetryPolicy(
        max_attempts=attempts, on=(CommandState.FAILED, CommandState.TIMED_OUT, CommandState.INTERRUPTED), backoff_s=0
    )
    command = fresh(retry=retry)
    changes: list[Change] = [Change(STREAM, 1, queued(retry=retry))]
    endings = 0
    for step in steps:
        was_terminal, state = command.state.terminal, command.state
        decided = take(command, step)
        changes += decided
        endings += sum(1 for change in decided if (after := state_after(change.event)) is not None and after.terminal)
        assert not was_terminal or command.state is state
        assert was_terminal is False or all(isinstance(change.event, LateResultRecorded) for change in decided)
    assert endings == (1 if command.state.terminal else 0)
    assert [change.originator_version for change in changes] == list(range(1, len(changes) + 1))
    replayed = Command.load(STREAM, (change.event for change in changes))
    assert (replayed.state, replayed.attempt, replayed.version, replayed.reported, replayed.cancel_requested) == (
        command.state,
        command.attempt,
        command.version,
        command.reported,
        command.cancel_requested,
    )


@given(steps=st.lists(Step, max_size=12), attempts=st.integers(1, 3))
def test_each_attempt_starts_once_and_in_turn(steps: list[tuple[object, ...]], attempts: int) -> None:
    """Invariant 3, as the log tells it: no attempt is started twice, and a later one only after a requeue."""
    command = fresh(retry=RetryPolicy(max_attempts=attempts, on=(CommandState.FAILED,), backoff_s=0))
    events = [change.event for step in steps for change in take(command, step)]
    started = [event.attempt for event in events if isinstance(event, CommandStarted)]
    assert started == sorted(set(started))
    requeued = {event.attempt for event in events if isinstance(event, CommandRequeued)}
    assert set(started) <= requeued | {1}


def test_expiry_is_for_the_queue_alone() -> None:
    """What an agent has on disk is judged by the agent."""
    command = fresh()
    command.deliver(1, "g")
    assert command.expire(NOW + timedelta(days=2)) == []
    waiting = fresh()
    assert waiting.expire(NOW) == []
    assert types(waiting.expire(NOW + timedelta(days=1))) == [CommandExpired]
