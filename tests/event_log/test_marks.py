"""What is known of the log's end without reading it."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_bus.event_log import Mark
from command_bus.ids import new_id
from command_bus.marks import MAX_MARKS, MAX_STRETCHES, RecentMarks, marks_of, told
from command_bus.postgres_log import PostgresEventLog
from domain.codec import TOPICS
from tests.event_log.samples import created, metadata, queued


def mark(position: int) -> Mark:
    return Mark(position, UUID(int=position), "ClientCreated/1", None, None)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    gaps=st.lists(st.integers(0, 2), min_size=30, max_size=30),
    heard=st.lists(st.sampled_from(["told", "own", "both", "neither", "bulk"]), min_size=30, max_size=30),
    ask=st.tuples(st.integers(0, 100), st.integers(0, 100)),
)
def test_what_is_known_is_all_there_is(
    sizes: list[int], gaps: list[int], heard: list[str], ask: tuple[int, int]
) -> None:
    """Whatever was heard of, in whatever way, a stretch that is known holds each of its events once, in order."""
    recent = RecentMarks()
    log: list[int] = []
    last = 0
    since: int | None = None
    for size, gap, how in zip(sizes, gaps, heard, strict=False):
        positions = [last + gap + number for number in range(1, size + 1)]
        log += positions
        last = positions[-1]
        marks = [mark(position) for position in positions]
        if how in ("own", "both"):
            recent.add(positions[0] - 1, last, marks)
        if how in ("told", "both"):
            recent.add(positions[0] - 1 if since is None else since, last, marks)
        # A commit that was not heard of at all is one that came while nobody listened.
        since = None if how in ("own", "neither") else last
    after, upto = min(ask), min(max(ask), last)
    known = recent.between(after, upto)
    if known is not None:
        assert [one.position for one in known] == [position for position in log if after < position <= upto]
    if heard[len(sizes) - 1] in ("told", "own", "both"):
        assert recent.between(last - sizes[-1], last) == [mark(position) for position in log[-sizes[-1] :]]


def test_no_more_is_kept_than_is_of_use() -> None:
    """The newest stretches are kept; what lies before them has to be read."""
    recent = RecentMarks()
    for position in range(1, MAX_STRETCHES + 11):
        recent.add(position - 1, position, [mark(position)])
    assert recent.between(10, MAX_STRETCHES + 10) is not None
    assert recent.between(9, MAX_STRETCHES + 10) is None


def test_an_append_knows_its_own_events_where_nobody_elses_lie_between() -> None:
    """Positions with a hole in them say nothing of what is in the hole, and a large append is left to be read."""
    changes = [created(), created()]
    assert marks_of(changes, [7, 9]) is None
    assert [one.position for one in marks_of(changes, [7, 8]) or ()] == [7, 8]
    many = [created() for _ in range(MAX_MARKS + 1)]
    assert marks_of(many, range(1, MAX_MARKS + 2)) is None


@pytest.mark.parametrize("payload", ["", "x", "7 {}", '7 [["a"]]'])
def test_what_is_no_notification_of_ours_is_refused(payload: str) -> None:
    """Nothing is guessed from what cannot be read."""
    with pytest.raises(ValueError):  # noqa: PT011 -- whatever it is, it is caught as that
        told(payload)


async def test_followers_of_marks_are_told_without_reading(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what other processes append a few at a time, the log is not asked; of a bulk it is, and nothing is missed."""
    log, other = (PostgresEventLog(postgres_url, name=name, timeout_s=20) for name in ("follower", "writer"))
    await log.start()
    await other.start()
    reads: list[str] = []
    fetch = log._fetch

    async def counted(sql: str, values: dict[str, object]) -> list[tuple[object, ...]]:
        reads.append(sql)
        return await fetch(sql, values)

    monkeypatch.setattr(log, "_fetch", counted)
    try:
        follower = log.follow_loosely(await log.head(), lambda _: False)
        page: Sequence[object] = ()
        while not any(isinstance(one, Mark) for one in page):  # until it listens
            await other.append([created()], metadata())
            page = await _next(follower)
        reads.clear()
        for _ in range(5):
            changes = [created(), queued(new_id(), new_id())]
            positions = await other.append(changes, metadata())
            assert await _next(follower) == [
                Mark(position, one.originator_id, TOPICS[type(one.event)], one.agent_id, one.client_id)
                for position, one in zip(positions, changes, strict=True)
            ]
        assert [sql for sql in reads if "max(" not in sql] == []
        await other.append_bulk((created() for _ in range(20)), metadata())
        assert [type(one).__name__ for one in await _next(follower)] == ["Recorded"] * 20
    finally:
        await log.stop()
        await other.stop()


async def _next(follower: object) -> Sequence[object]:
    while not (page := await anext(follower)):  # type: ignore[call-overload]
        continue
    return page  # type: ignore[no-any-return]
