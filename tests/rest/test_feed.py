"""The process's one follower of the log, without a server around it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_bus.access import Standing
from command_bus.event_log import ALL, EventLog, Mark, Selection
from command_bus.ids import new_id, utc_now
from domain.clients import ClientCreated
from domain.event import Recorded
from gateways.rest import feed as feeds
from gateways.rest.feed import CutOffError, LogFeed, selects
from gateways.rest.sse import follow

TENANTS = [new_id() for _ in range(3)]


def event(position: int, client_id: UUID | None = None) -> Recorded:
    return Recorded(
        position, new_id(), 1, "ClientCreated/1", ClientCreated(name="x"), utc_now(), "system", new_id(), None, None,
        client_id,
    )  # fmt: skip


class MemoryLog(EventLog):
    """Just enough of a log, in memory, growing as the test says."""

    def __init__(self, recorded: Sequence[Recorded] = ()) -> None:
        self.recorded = list(recorded)
        self.grew = asyncio.Event()
        self.handed_out = 0

    def grow(self, *recorded: Recorded) -> None:
        self.recorded.extend(recorded)
        self.grew.set()

    async def head(self) -> int:
        return self.recorded[-1].position if self.recorded else 0

    async def read(
        self,
        selection: Selection = ALL,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1000,
        backwards: bool = False,
        tolerant: bool = False,
    ) -> list[Recorded]:
        assert tolerant
        assert not backwards
        return [
            one
            for one in self.recorded
            if one.position > after and (upto is None or one.position <= upto) and selects(selection, one)
        ][:limit]

    async def follow_loosely(  # type: ignore[override]
        self, after: int, wanted: Callable[[Mark], bool], *, page: int = 1000
    ) -> AsyncIterator[Sequence[Recorded | Mark]]:
        while True:
            self.grew.clear()
            found = await self.read(after=after, limit=page, tolerant=True)
            self.handed_out += len(found)
            if found:
                after = found[-1].position
                marks = [Mark(o.position, o.originator_id, o.topic, o.agent_id, o.client_id) for o in found]
                yield found if any(map(wanted, marks)) else marks
            else:
                await self.grew.wait()


async def take(story: Any, count: int) -> list[int]:
    async with asyncio.timeout(5):
        return [(await anext(story)).position for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    before=st.integers(0, 40),
    during=st.integers(0, 40),
    after=st.integers(0, 90),
    tenant=st.none() | st.integers(0, 2),
)
def test_the_past_and_the_present_meet_without_gap_or_double(
    before: int, during: int, after: int, tenant: int | None
) -> None:
    """Whatever was recorded before, and whatever comes meanwhile, a reader sees the rest once and in order."""

    async def proof() -> None:
        events = [event(i + 1, TENANTS[i % 3]) for i in range(before + during)]
        log = MemoryLog(events[:before])
        feed = LogFeed(log)
        await feed.start()
        selection = ALL if tenant is None else Selection(client_ids=(TENANTS[tenant],))
        expected = [one.position for one in events if one.position > after and selects(selection, one)]
        seen: list[int] = []

        async def read() -> None:
            call: Any = SimpleNamespace(parts=SimpleNamespace(log=log), feed=feed, standing=Standing())
            async with aclosing(follow(call, selection, after)) as story:
                while len(seen) < len(expected):
                    seen.append((await anext(story)).position)

        reading = asyncio.create_task(read())
        for one in events[before:]:
            log.grow(one)
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await reading
        await feed.stop()
        assert seen == expected

    asyncio.run(proof())


async def test_a_slow_reader_is_cut_off_without_a_gap() -> None:
    """Who does not keep up gets an unbroken beginning and then the end, so that resuming misses nothing."""
    log = MemoryLog()
    feed = LogFeed(log, bound=5)
    await feed.start()
    with feed.subscribe() as slow, feed.subscribe(Selection(client_ids=(TENANTS[0],))) as quiet:
        for i in range(20):
            log.grow(event(i + 1))
        async with asyncio.timeout(5):
            while feed.position < 20:  # noqa: ASYNC110 - one turn of the loop each
                await asyncio.sleep(0)
        assert [(await slow.next()).position for _ in range(5)] == [1, 2, 3, 4, 5]
        with pytest.raises(CutOffError):
            await slow.next()
        log.grow(event(21, TENANTS[0]))
        assert (await quiet.next()).position == 21
    await feed.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - one turn of the loop each
            await asyncio.sleep(0)


async def test_a_bulk_that_nobody_waits_for_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """While much comes and nobody looks on, the feed goes on from the end of the log; who comes then misses nothing."""
    monkeypatch.setattr(feeds, "GATHER_S", 0.05)
    log = MemoryLog()
    feed = LogFeed(log)
    await feed.start()
    log.grow(*(event(i + 1) for i in range(feeds.MANY)))
    await until(lambda: feed.position == feeds.MANY)
    log.grow(*(event(feeds.MANY + i + 1) for i in range(5)))
    read = log.handed_out
    await until(lambda: feed.position == feeds.MANY + 5)
    assert log.handed_out == read
    with feed.subscribe() as subscription:
        assert subscription.begins_after == feeds.MANY + 5
        log.grow(event(feeds.MANY + 6))
        assert (await subscription.next()).position == feeds.MANY + 6
    await feed.stop()


async def test_who_comes_while_a_bulk_is_left_alone_is_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscriber ends the rest that the feed takes, and gets all that came since."""
    monkeypatch.setattr(feeds, "GATHER_S", 60.0)
    log = MemoryLog()
    feed = LogFeed(log)
    await feed.start()
    log.grow(*(event(i + 1) for i in range(feeds.MANY)))
    await until(lambda: feed.position == feeds.MANY)
    log.grow(*(event(feeds.MANY + i + 1) for i in range(3)))
    with feed.subscribe() as subscription:
        async with asyncio.timeout(5):
            seen = [(await subscription.next()).position for _ in range(3)]
    assert subscription.begins_after == feeds.MANY
    assert seen == [feeds.MANY + 1, feeds.MANY + 2, feeds.MANY + 3]
    await feed.stop()


async def test_a_reader_that_waits_is_let_go_when_the_process_stops() -> None:
    """Stopping the feed ends every stream at once, also one that is just being opened."""
    feed = LogFeed(MemoryLog())
    await feed.start()
    call: Any = SimpleNamespace(parts=SimpleNamespace(log=MemoryLog()), feed=feed, standing=Standing())
    story = follow(call, ALL, None)
    waiting = asyncio.ensure_future(anext(story, None))
    await asyncio.sleep(0)
    await feed.stop()
    async with asyncio.timeout(5):
        assert await waiting is None
        assert [one async for one in follow(call, ALL, None)] == []
