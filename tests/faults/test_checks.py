"""The suite's own eyes: each kind of damage is seen, and a sound run is not called damaged."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults import checks, rollout
from tests.faults.checks import Runs
from tests.faults.stories import Event, Findings, Story

AT = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED = {"reason": "ask", "expires_at": (AT + timedelta(hours=1)).isoformat()}
DONE: dict[str, Any] = {"attempt": 1, "result": {"started_at": AT.isoformat(), "exit_code": 0}}


def story(*kinds: str, command_id: str = "c", first: int = 1, **queued: Any) -> Story:
    again = DONE | {"attempt": 2, "outcome": "failed", "result": DONE["result"] | {"exit_code": 3}}
    bodies = {
        "CommandQueued": QUEUED | queued,
        "CommandDelivered": {"attempt": 1},
        "CommandRequeued": again,
        "CommandCancelled": {},
    }
    events = [
        Event(first + place, place + 1, kind, AT, bodies.get(kind, DONE | {"outcome": "succeeded"}))
        for place, kind in enumerate(kinds)
    ]
    return Story(command_id, "agent", events)


def ran(*keys: tuple[str, int], after_s: float = 1.0) -> Runs:
    runs = Runs()
    for place, key in enumerate(keys):
        at = AT + timedelta(seconds=after_s + place)
        runs.begun[key].append(at)
        runs.done[key].append(at)
        runs.lanes["agent", "default"] += [("B", key), ("E", key)]
    return runs


def look(one: Story, runs: Runs) -> Findings:
    """All that can be said of one command."""
    found = Findings()
    checks._one_ending(found, one)
    checks._once(found, one, runs)
    checks._has_result(found, one)
    checks._in_time(found, one, runs, paused=False)
    checks._given_up(found, one, runs)
    checks._none_unheard_of(found, {one.command_id: one}, runs)
    return found


def test_a_sound_run_is_sound() -> None:
    """Queued, delivered, run once, ended once: there is nothing to say."""
    whole = story("CommandQueued", "CommandDelivered", "CommandStarted", "CommandSucceeded")
    assert look(whole, ran(("c", 1))).all == []
    given_up = story("CommandQueued", "CommandDelivered", "CommandRequeued", "CommandCancelled")
    assert look(given_up, ran(("c", 1))).all == []


@pytest.mark.parametrize(
    ("one", "runs", "finding"),
    [
        (story("CommandQueued"), ran(), "lost"),
        (story("CommandQueued", "CommandDelivered", "CommandExpired"), ran(("c", 2)), "lost"),
        (story("CommandQueued", "CommandSucceeded"), ran(("c", 1), ("elsewhere", 1)), "lost"),
        (story("CommandQueued", "CommandSucceeded"), ran(("c", 1), ("c", 1)), "doubled"),
        (story("CommandQueued", "CommandSucceeded", "CommandFailed"), ran(("c", 1)), "doubled"),
        (story("CommandQueued", "CommandSucceeded", "LateResultRecorded"), ran(("c", 1)), "doubled"),
        (story("CommandQueued", "CommandSucceeded"), ran(), "wrong"),
        (story("CommandQueued", "CommandCancelled"), ran(("c", 1)), "wrong"),
        (story("CommandQueued", "CommandRequeued", "CommandCancelled"), ran(("c", 1), ("c", 2)), "wrong"),
        (story("CommandQueued", "CommandSucceeded", "CommandDelivered"), ran(("c", 1)), "wrong"),
        (story("CommandQueued", "CommandSucceeded"), ran(("c", 1), after_s=4000), "wrong"),
        (
            story("CommandQueued", "CommandSucceeded", not_before=(AT + timedelta(minutes=1)).isoformat()),
            ran(("c", 1)),
            "wrong",
        ),
    ],
)
def test_damage_is_seen(one: Story, runs: Runs, finding: str) -> None:
    """Whatever one side says and another denies is found, under its name."""
    assert any(text.startswith(finding) for text in look(one, runs).all), look(one, runs).all


def test_overtaking_is_seen() -> None:
    """What was queued when a more urgent one was on the agent's disk may not begin before it."""
    urgent = story("CommandQueued", "CommandDelivered", "CommandSucceeded", command_id="urgent")
    later = story("CommandQueued", "CommandDelivered", "CommandSucceeded", command_id="later", first=10, priority=9)
    stories = {"urgent": urgent, "later": later}
    for keys, wrongs in (([("urgent", 1), ("later", 1)], 0), ([("later", 1), ("urgent", 1)], 1)):
        found = Findings()
        checks._in_order(found, stories, ran(*keys), {"agent": "agent"})
        assert len(found.wrong) == wrongs


def test_running_side_by_side_in_a_lane_is_seen() -> None:
    """A lane does one thing at a time."""
    runs = Runs(lanes={("agent", "default"): [("B", ("a", 1)), ("B", ("b", 1)), ("E", ("a", 1)), ("E", ("b", 1))]})
    found = Findings()
    checks._in_order(found, {}, runs, {})
    assert found.wrong


def rolled_out(
    *commands: Story, started: int = 1, completed: int = 1, succeeded: int = 1, refused: bool = False
) -> Findings:
    """All that can be said of a rollout to one agent."""
    ask = rollout.RolloutAsk("ask", 0, 0, 0, in_waves=False)
    told = rollout.RolloutTold(ask, rollout_id="" if refused else "r0", refused=refused)
    rollouts = {f"r{n}": Counter(RolloutStarted=1, RolloutCompleted=completed) for n in range(started)}
    counts = {key: Counter(succeeded=succeeded) for key in rollouts}
    found = Findings()
    rollout.judge(found, told, rollouts, counts, commands, {"agent": "agent-0"})
    return found


def test_a_rollout_is_judged() -> None:
    """Started once, given once to each, completed once, and counted as what happened."""
    one = story("CommandQueued", "CommandDelivered", "CommandStarted", "CommandSucceeded")
    another = story("CommandQueued", "CommandSucceeded", command_id="d")
    assert rolled_out(one).all == []
    assert rolled_out(started=0, refused=True).all == []
    assert rolled_out(succeeded=0).lost
    assert rolled_out(started=0).lost
    assert rolled_out(one, completed=0).lost
    assert rolled_out(one, another, succeeded=2).doubled
    assert rolled_out(one, started=2).doubled
    assert rolled_out(one, succeeded=2).wrong
    assert rolled_out(one, started=0, refused=True).wrong
    assert rolled_out(one, refused=True).wrong
