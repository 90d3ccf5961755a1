"""The scheduler: one leads, the others stand by, and nothing that is away stops it."""

import asyncio
from datetime import datetime

import psycopg
import pytest

from command_bus.event_log import LogUnavailableError
from command_bus.ids import utc_now
from command_bus.scheduler import LOCK_KEY, Scheduler


class FakeHousekeeping:
    def __init__(self) -> None:
        self.due = 0
        self.looked = asyncio.Event()
        self.fault: Exception | None = None

    async def expire_due(self, now: datetime) -> int:
        assert now.tzinfo is not None
        self.looked.set()
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        ended, self.due = min(self.due, 10), max(0, self.due - 10)
        return ended

    async def abandon_retired(self, now: datetime) -> int:
        del now
        return 0


class FakeRollouts:
    """Nothing to do, and nothing new."""

    async def turn(self, now: datetime) -> bool:
        assert now.tzinfo is not None
        return False

    async def wait(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)


def make(url: str, housekeeping: FakeHousekeeping, jobs: list[str] | None = None) -> Scheduler:
    enqueue = jobs.append if jobs is not None else lambda _name: None
    return Scheduler(url, housekeeping, FakeRollouts(), {"job": 3600.0}, enqueue, utc_now, tick_s=0.02)


async def wait_for(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


async def test_one_leads_and_another_takes_over(postgres_url: str) -> None:
    """Of two schedulers one works; when it stops, the other does."""
    first, second = make(postgres_url, FakeHousekeeping()), make(postgres_url, FakeHousekeeping())
    await first.start()
    await wait_for(first.leading)
    await second.start()
    await asyncio.sleep(0.2)  # long enough for ten ticks of one that wrongly leads
    assert not second.leading.is_set()
    await first.stop()
    await wait_for(second.leading)
    await second.stop()


async def test_takes_over_from_one_whose_connection_died(postgres_url: str) -> None:
    """A leader that lost its connection leads no more until it has the lock again."""
    housekeeping = FakeHousekeeping()
    scheduler = make(postgres_url, housekeeping)
    await scheduler.start()
    await wait_for(scheduler.leading)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s",
            [LOCK_KEY & 0xFFFFFFFF],
        )
    async with asyncio.timeout(10):
        while scheduler.leading.is_set():  # noqa: ASYNC110 -- polled, within a timeout
            await asyncio.sleep(0.01)
    await wait_for(scheduler.leading)
    await scheduler.stop()


async def test_all_that_is_due_ends_in_one_tick(postgres_url: str) -> None:
    """A page that came back full is followed by the next at once."""
    housekeeping = FakeHousekeeping()
    housekeeping.due = 95
    scheduler = make(postgres_url, housekeeping)
    await scheduler.start()
    await wait_for(housekeeping.looked)
    await scheduler.stop()
    assert housekeeping.due in (0, 85)  # stopping finishes the page under way and no more


@pytest.mark.parametrize("fault", [LogUnavailableError("away"), psycopg.OperationalError("away")])
async def test_goes_on_after_the_log_was_away(postgres_url: str, fault: Exception) -> None:
    """A log that is away costs a tick."""
    housekeeping = FakeHousekeeping()
    housekeeping.fault = fault
    scheduler = make(postgres_url, housekeeping)
    await scheduler.start()
    await wait_for(housekeeping.looked)
    housekeeping.looked.clear()
    await wait_for(housekeeping.looked)
    await scheduler.stop()


async def test_jobs_come_once_per_period(postgres_url: str) -> None:
    """A job is enqueued at once and then once each period."""
    jobs: list[str] = []
    housekeeping = FakeHousekeeping()
    scheduler = make(postgres_url, housekeeping, jobs)
    await scheduler.start()
    for _ in range(5):
        housekeeping.looked.clear()
        await wait_for(housekeeping.looked)
    await scheduler.stop()
    assert jobs == ["job"]


async def test_a_queue_that_is_away_stops_nothing(postgres_url: str) -> None:
    """Commands expire on time while Valkey is away."""
    housekeeping = FakeHousekeeping()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def enqueue(_name: str) -> None:
        loop.call_soon_threadsafe(asked.set)
        raise ConnectionError("Valkey is away")

    scheduler = Scheduler(postgres_url, housekeeping, FakeRollouts(), {"job": 3600.0}, enqueue, utc_now, tick_s=0.02)
    await scheduler.start()
    await wait_for(asked)
    housekeeping.looked.clear()
    await wait_for(housekeeping.looked)
    await scheduler.stop()


async def test_waits_for_postgres() -> None:
    """Without Postgres it waits, says so, and stops when asked to."""
    scheduler = make("postgresql://nobody@127.0.0.1:1/none", FakeHousekeeping())
    await scheduler.start()
    async with asyncio.timeout(10):
        while "waiting for Postgres" not in scheduler.note:  # noqa: ASYNC110 -- polled, within a timeout
            await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await scheduler.stop()
