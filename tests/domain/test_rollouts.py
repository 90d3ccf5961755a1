"""Rollouts: who is next, and when."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commands import Ping
from domain.errors import (
    EmptyRolloutError,
    InvalidValueError,
    NothingToRetryError,
    NoWaveLeftError,
    RolloutEndedError,
    RolloutNotOpenError,
    RolloutNotPausedError,
    RolloutPausedError,
)
from domain.event import Change
from domain.ids import AgentId, ClientId, SiteId
from domain.rollout_events import RolloutStarted, Skip
from domain.rollout_terms import (
    Guard,
    GuardAction,
    Joins,
    Limits,
    Order,
    Selector,
    Target,
    Wave,
    sizes,
)
from domain.rollouts import Rollout, RolloutState, Tally, command_id

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CLIENT, SITE = ClientId(UUID(int=1)), SiteId(UUID(int=2))
EVERYBODY = Target(include=Selector(everything=True))


def started(**more: Any) -> RolloutStarted:
    values: dict[str, Any] = {
        "name": "update",
        "target": EVERYBODY,
        "order": Order(spec=Ping(), expires_in_s=3600),
        "client_ids": (),
        "targeted": 0,
        "wave_sizes": (),
    }
    return RolloutStarted(**(values | more))


def agents(count: int) -> list[tuple[AgentId, ClientId, SiteId]]:
    return [(AgentId(UUID(int=100 + i)), CLIENT, SITE) for i in range(count)]


def rollout(count: int = 10, **more: Any) -> Rollout:
    one = Rollout(uuid4())
    one.start(started(**more), agents(count))
    return one


def joined(one: Rollout, everybody: list[tuple[AgentId, ClientId, SiteId]], seed: Any) -> list[Change]:
    """Some of all agents are offered to an open rollout; when all are in it, it may be closed."""
    if one.open_until is None:
        return []
    changes = one.grow(seed.sample(everybody, seed.randint(0, len(everybody))))
    if one.targeted == len(everybody) and seed.random() < 0.5:
        changes.append(one.close(""))
    assert one.state is not RolloutState.COMPLETED
    return changes


waves = st.builds(
    Wave,
    percent=st.integers(1, 100),
    manual=st.booleans(),
    pause_s=st.sampled_from([0, 30]),
    finished_percent=st.sampled_from([0, 50, 100]),
)
limits = st.builds(Limits, in_flight=st.none() | st.integers(1, 20), per_minute=st.none() | st.integers(1, 200))


@given(
    count=st.integers(1, 120),
    joining=st.integers(0, 40),
    waves=st.lists(waves, max_size=4),
    limits=limits,
    seed=st.randoms(use_true_random=False),
)
def test_everybody_is_served_once_within_the_limits(
    count: int, joining: int, waves: list[Wave], limits: Limits, seed: Any
) -> None:
    """Whatever the waves, limits and results: each agent is next once, wave by wave, and never too many at a time.

    Those that join on the way come last, once each, however often they are offered; it completes after it was closed.

    What is recorded on the way is all that it takes to go on.
    """
    one = Rollout(uuid4())
    joins, everybody = Joins(until=NOW, after=0) if joining else None, agents(count)
    story: list[Change] = one.start(
        started(waves=tuple(waves), limits=limits, joins=joins), everybody[: max(0, count - joining)]
    )
    at, ended, served, handed_out = NOW, 0, Counter[UUID](), []
    for _ in range(100_000):
        if one.state is not RolloutState.RUNNING:
            break
        tally = Tally(ended=ended)
        story += joined(one, everybody, seed)
        assert sum(one.wave_sizes) == one.targeted == len(one.entries)
        story += one.judge(at, tally)
        if one.wave_finished and one.continues_at is None:
            story.append(one.release(""))
        if room := one.room(at, tally):
            entries = one.next_entries(seed.randint(1, room))
            skipped = [Skip(agent_id=e.agent_id, round=1, reason="") for e in entries if seed.random() < 0.1]
            served.update(entry.agent_id for entry in entries)
            handed_out += [(at, entry.wave) for entry in entries]
            assert all(entry.wave <= one.wave for entry in entries)
            story.append(one.advance(len(entries), skipped, at))
        assert one.queued - ended <= (limits.in_flight or count)
        ended += seed.randint(0, one.queued - ended)
        at += timedelta(seconds=seed.choice([0.05, 1, 20]))
        again = Rollout.load(one.stream_id, (change.event for change in story))
        if len(story) < 40:
            assert vars(again) == vars(one)
    assert one.state is RolloutState.COMPLETED
    assert served == Counter({agent_id: 1 for agent_id, _, _ in agents(count)})
    assert [wave for _, wave in handed_out] == sorted(wave for _, wave in handed_out)
    if limits.per_minute is not None:
        for i, (when, _) in enumerate(handed_out):
            within = sum(when <= other < when + timedelta(minutes=1) for other, _ in handed_out[i:])
            assert within <= limits.per_minute


def test_who_joins_comes_after_the_waves() -> None:
    """Agents that join while a wave waits do not get their commands before it, and each joins once."""
    one = rollout(4, waves=(Wave(count=2, manual=True),), joins=Joins(until=NOW, after=0))
    one.advance(2, [], NOW)
    assert len(one.grow(agents(6))) == 1
    assert one.grow(agents(6)) == []
    assert (one.targeted, one.wave_sizes, one.room(NOW, Tally(ended=2))) == (6, (2, 4), 0)
    one.release("")
    assert [entry.agent_id for entry in one.next_entries(9)][2:] == [agent[0] for agent in agents(6)[4:]]
    one.advance(4, [], NOW)
    assert one.judge(NOW, Tally(ended=6)) == []
    one.close("enough")
    with pytest.raises(RolloutNotOpenError):
        one.close("again")
    assert one.grow(agents(9)) == []
    assert len(one.judge(NOW, Tally(ended=6))) == 1
    assert one.state is RolloutState.COMPLETED


def test_an_open_rollout_may_begin_with_nobody() -> None:
    """Who joins then gets its command at once, whatever the waves; it reaches no client before."""
    one = Rollout(uuid4())
    one.start(started(waves=(Wave(percent=10, manual=True),), joins=Joins(until=NOW, after=0)), [])
    assert (one.wave_sizes, one.client_ids, one.concerns()) == ((0,), (), (None, None))
    one.grow(agents(3))
    assert (one.room(NOW, Tally()), one.concerns()) == (3, (None, CLIENT))
    narrow = Rollout(uuid4())
    narrow.start(started(joins=Joins(until=NOW, after=0, clients=(CLIENT,))), [])
    assert narrow.client_ids == (CLIENT,)


def test_a_rate_is_spread_over_the_minute() -> None:
    """600 a minute is ten each second, and what was not used for long is not made up for."""
    one = rollout(1000, limits=Limits(per_minute=600))
    at, counts = NOW, []
    for _ in range(20):
        room = one.room(at, Tally())
        counts.append(room)
        if room:
            one.advance(room, [], at)
        at += timedelta(seconds=1)
    assert counts == [50] + [10] * 19
    at += timedelta(minutes=10)
    assert one.room(at, Tally()) == 50


def test_one_a_minute_is_one_a_minute() -> None:
    """A slow rate is as exact as a fast one."""
    one = rollout(3, limits=Limits(per_minute=1))
    one.advance(one.room(NOW, Tally()), [], NOW)
    assert one.cursor == 1
    assert one.room(NOW + timedelta(seconds=59), Tally()) == 0
    assert one.room(NOW + timedelta(seconds=61), Tally()) == 1


def test_a_wave_waits_for_its_end_and_its_pause() -> None:
    """The next wave begins when enough of this one has ended and its pause is over, or when somebody says so."""
    one = rollout(10, waves=(Wave(count=4, pause_s=60, finished_percent=75), Wave(count=2, manual=True)))
    assert one.room(NOW, Tally()) == 4
    one.advance(4, [], NOW)
    assert one.judge(NOW, Tally(ended=2)) == []
    assert len(one.judge(NOW, Tally(ended=3))) == 1
    assert one.room(NOW, Tally(ended=4)) == 0
    one.judge(NOW + timedelta(seconds=59), Tally(ended=4))
    assert one.wave == 0
    one.judge(NOW + timedelta(seconds=60), Tally(ended=4))
    assert one.room(NOW, Tally(ended=4)) == 2
    one.advance(2, [], NOW)
    one.judge(NOW, Tally(ended=6))
    one.judge(NOW + timedelta(days=30), Tally(ended=6))
    assert one.room(NOW, Tally(ended=6)) == 0
    one.release("looks good")
    assert one.room(NOW, Tally(ended=6)) == 4
    with pytest.raises(NoWaveLeftError):
        one.release("more")


@pytest.mark.parametrize(
    ("total", "waves", "expected"),
    [
        (10, [], (10,)),
        (10, [Wave(percent=10), Wave(percent=50)], (1, 5, 4)),
        (3, [Wave(percent=1), Wave(percent=1)], (1, 1, 1)),
        (3, [Wave(count=5), Wave(percent=50)], (3,)),
        (7, [Wave(percent=50), Wave(percent=50)], (4, 3)),
        (100, [Wave(percent=100)], (100,)),
    ],
)
def test_waves_hold_everybody(total: int, waves: list[Wave], expected: tuple[int, ...]) -> None:
    """Shares are rounded up, the rest is a wave of its own, and empty waves are none."""
    assert sizes(total, waves) == expected


def test_the_guard_pauses_and_judges_anew_after_a_resume() -> None:
    """More failures than allowed stop it; what was seen then is not held against it again."""
    one = rollout(100, guard=Guard(max_failed_percent=20, min_ended=10))
    one.advance(50, [], NOW)
    assert one.judge(NOW, Tally(ended=9, failed=9)) == []
    assert one.judge(NOW, Tally(ended=10, failed=2)) == []
    one.judge(NOW, Tally(ended=10, failed=3))
    assert one.state is RolloutState.PAUSED
    assert one.room(NOW, Tally()) == 0
    one.resume("known and harmless")
    assert one.judge(NOW, Tally(ended=19, failed=12)) == []
    assert one.room(NOW, Tally()) == 50
    one.judge(NOW, Tally(ended=20, failed=6))
    assert one.state is RolloutState.PAUSED


@pytest.mark.parametrize(
    ("guard", "tally", "trips"),
    [
        (Guard(max_timed_out_percent=10), Tally(ended=20, failed=2, timed_out=2), False),
        (Guard(max_timed_out_percent=10), Tally(ended=20, failed=20, timed_out=3), True),
        (Guard(max_failed_percent=50, max_timed_out_percent=10), Tally(ended=20, failed=11), True),
        (Guard(max_timed_out_percent=10), Tally(ended=9, failed=9, timed_out=9), False),
        (Guard(max_unanswered_percent=25, answer_within_s=60), Tally(ended=30, unanswered=10), False),
        (Guard(max_unanswered_percent=25, answer_within_s=60), Tally(ended=30, unanswered=11), True),
        (Guard(max_unanswered_percent=25, answer_within_s=60), Tally(unanswered=9), False),
        (Guard(max_unanswered_percent=25, answer_within_s=60), Tally(unanswered=10), True),
        (Guard(max_unanswered_percent=100, answer_within_s=60), Tally(unanswered=1000), False),
    ],
)
def test_each_limit_of_a_guard_is_its_own(guard: Guard, tally: Tally, trips: bool) -> None:
    """Failures, time-outs and silence are judged apart; any one of them trips it, and the reason says which."""
    one = rollout(100, guard=guard)
    one.advance(60, [], NOW)
    changes = one.judge(NOW, tally)
    assert (one.state is RolloutState.PAUSED) is trips
    assert len(changes) == trips


@given(tallies=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 100), st.integers(0, 100)), max_size=12))
def test_a_guard_is_never_tripped_twice_by_the_same(tallies: list[tuple[int, int, int]]) -> None:
    """Whatever comes in: right after a resume the same numbers do not trip it again."""
    guard = Guard(max_failed_percent=10, max_timed_out_percent=5, max_unanswered_percent=20, answer_within_s=9)
    one = rollout(1000, guard=guard)
    one.advance(one.room(NOW, Tally()), [], NOW)
    ended = failed = timed_out = 0
    for more, of_them, unanswered in tallies:
        ended, failed = ended + more, failed + more * of_them // 100
        timed_out = min(failed, timed_out + more * of_them // 300)
        tally = Tally(ended=ended, failed=failed, timed_out=timed_out, unanswered=unanswered)
        one.judge(NOW, tally)
        if one.state is RolloutState.PAUSED:
            one.resume("seen")
            one.judge(NOW, tally)
        assert one.state is RolloutState.RUNNING


def test_the_guard_aborts_where_it_is_told_to() -> None:
    """An abort by the guard is one like any other."""
    one = rollout(guard=Guard(max_failed_percent=0, min_ended=1, action=GuardAction.ABORT))
    one.advance(5, [], NOW)
    one.judge(NOW, Tally(ended=1, failed=1))
    assert one.state is RolloutState.ABORTED
    for refused in (one.pause, one.resume, one.release, one.abort):
        with pytest.raises(RolloutEndedError):
            refused("")
    with pytest.raises(RolloutEndedError):
        one.retry([], "")


def test_only_the_failed_are_retried_and_once_each() -> None:
    """Who failed comes next, before the waves that wait; who is being retried is not taken twice."""
    one = rollout(10, waves=(Wave(count=4, manual=True),))
    one.advance(4, [], NOW)
    failed = [(entry.agent_id, 1) for entry in one.entries[:2]]
    one.retry(failed, "fixed")
    with pytest.raises(NothingToRetryError):
        one.retry(failed, "again")
    assert one.room(NOW, Tally(ended=4)) == 2
    assert [(entry.agent_id, entry.round) for entry in one.next_entries(2)] == [(a, 2) for a, _ in failed]
    one.advance(2, [], NOW)
    assert one.room(NOW, Tally(ended=6)) == 0
    one.release("")
    one.advance(6, [], NOW)
    one.judge(NOW, Tally(ended=12))
    assert one.state is RolloutState.COMPLETED
    one.retry([(failed[0][0], 2)], "still")
    assert one.room(NOW, Tally(ended=12)) == 1


def test_pause_and_resume_answer_once() -> None:
    """Neither is said twice."""
    one = rollout()
    with pytest.raises(RolloutNotPausedError):
        one.resume("")
    one.pause("")
    with pytest.raises(RolloutPausedError):
        one.pause("")
    with pytest.raises(InvalidValueError):
        one.advance(1, [], NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": Target(include=Selector())},
        {"target": Target(include=Selector(online=True))},
        {"target": Target(include=Selector(everything=True), exclude=Selector(everything=True))},
        {"waves": (Wave(),)},
        {"waves": (Wave(percent=1, count=1),)},
        {"waves": (Wave(percent=0),)},
        {"waves": (Wave(count=0),)},
        {"waves": (Wave(count=1, pause_s=-1),)},
        {"waves": (Wave(count=1, finished_percent=101),)},
        {"waves": (Wave(count=1),) * 51},
        {"limits": Limits(in_flight=0)},
        {"limits": Limits(per_minute=0)},
        {"guard": Guard(max_failed_percent=101)},
        {"guard": Guard()},
        {"guard": Guard(max_timed_out_percent=-1)},
        {"guard": Guard(max_unanswered_percent=5)},
        {"guard": Guard(max_failed_percent=5, answer_within_s=60)},
        {"guard": Guard(max_unanswered_percent=5, answer_within_s=0)},
        {"guard": Guard(max_failed_percent=1, min_ended=0)},
        {"name": " "},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """Nobody is meant by accident, and no limit is out of reach."""
    with pytest.raises(InvalidValueError):
        rollout(**wrong)


def test_nobody_is_no_target() -> None:
    """A rollout for nobody does not start."""
    with pytest.raises(EmptyRolloutError):
        rollout(0)


def test_the_list_and_the_ids_are_the_same_each_time() -> None:
    """Who goes first is drawn by the rollout's id alone, and so is the id of each command."""
    rollout_id = uuid4()
    one, two = Rollout(rollout_id), Rollout(rollout_id)
    one.start(started(), agents(50))
    two.start(started(), list(reversed(agents(50))))
    assert one.entries == two.entries
    assert one.entries != sorted(one.entries, key=lambda entry: entry.agent_id)
    agent_id = one.entries[0].agent_id
    assert command_id(rollout_id, agent_id, 1) == command_id(rollout_id, agent_id, 1)
    assert command_id(rollout_id, agent_id, 1) != command_id(rollout_id, agent_id, 2)
    assert command_id(rollout_id, agent_id, 1).version == 5
