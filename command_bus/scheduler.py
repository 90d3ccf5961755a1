"""The scheduler: what is due because time passed.

Any number may run; one leads, by an advisory lock that Postgres takes back the moment its connection ends, and the
others stand by. Two leaders for a moment would do no harm: the log records each ending once, and background jobs bear
to be run twice.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Protocol

import psycopg
import structlog
from prometheus_client import Counter, Gauge
from psycopg_pool import PoolTimeout

from command_bus.context import Clock
from command_bus.event_log import EventLogError
from command_bus.postgres import app_conninfo

LOCK_KEY = 7380948517104312201
TICK_S = 1.0
STANDBY_S = 1.0
LEAST_WAIT_S = 0.05
"""Between two looks at rollouts, however much is going on."""
LONGEST_WAIT_S = 5.0

LEADS = Gauge("fleetlog_scheduler_leads", "1 in the scheduler that leads.")
ENDED = Counter(
    "fleetlog_scheduler_ended",
    "What ended because its time was up, or its agent retired.",
    ["why"],
)

_log = structlog.get_logger(__name__)


class Housekeeping(Protocol):
    """Ends what is due, a page at a time."""

    async def expire_due(self, now: datetime) -> int: ...
    async def abandon_retired(self, now: datetime) -> int: ...


class Rollouts(Protocol):
    """Moves rollouts on."""

    async def turn(self, now: datetime) -> bool:
        """One step of each; whether there may be more to do at once."""

    async def wait(self, timeout_s: float) -> None:
        """Return when there may be something new, or when the time is up."""


class Scheduler:
    """The service of the scheduler role.

    Args:
        url: the database, for the lock.
        housekeeping: run each second by the leader.
        rollouts: moved on by the leader, whenever there is something new.
        periods: seconds between two runs of each background job.
        enqueue: has a background job run; called from a thread; raises `ConnectionError` while the queue is away.
        clock: now.
        also: what else is due because time passed: what is counted, and what does some of it.
        tick_s: seconds between two looks.
    """

    def __init__(
        self,
        url: str,
        housekeeping: Housekeeping,
        rollouts: Rollouts,
        periods: Mapping[str, float],
        enqueue: Callable[[str], None],
        clock: Clock,
        *,
        also: Mapping[str, Callable[[datetime], Awaitable[int]]] | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        self._conninfo = app_conninfo(url, name="fleetlog-scheduler")
        self._housekeeping = housekeeping
        self._rollouts = rollouts
        self._periods = dict(periods)
        self._enqueue = enqueue
        self._clock = clock
        self._also = dict(also or {})
        self._tick_s = tick_s
        self._next_run = dict.fromkeys(periods, 0.0)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.leading = asyncio.Event()
        """Set while this one leads."""
        self.note = "standing by"
        """What it is doing, for status."""

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="scheduler")

    async def wait(self) -> None:
        """Return or raise when it is over, for whoever has it restarted."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Finish the page under way, and let another lead."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        wait_s = 0.1
        while not self._stopping.is_set():
            try:
                await self._lead_when_possible()
                wait_s = 0.1
            except (psycopg.OperationalError, OSError, TimeoutError) as error:
                self.note = f"waiting for Postgres: {str(error).strip() or type(error).__name__}"
                _log.warning("scheduler_waiting", error=str(error).strip() or type(error).__name__)
                await self._pause(wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _lead_when_possible(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
            self.note = "standing by"
            while not await _take_lock(connection):
                await self._pause(STANDBY_S)
                if self._stopping.is_set():
                    return
            self.note = "leading"
            self.leading.set()
            LEADS.set(1)
            _log.info("scheduler_leads")
            rollouts = asyncio.create_task(self._roll_out(), name="rollouts")
            try:
                while not self._stopping.is_set():
                    await self._tick()
                    if rollouts.done():
                        await rollouts
                    await self._pause(self._tick_s)
                    # Proves that the connection, and so the lock, is still ours.
                    async with asyncio.timeout(10):
                        await connection.execute("SELECT 1")
            finally:
                self.leading.clear()
                LEADS.set(0)
                await self._end(rollouts)

    async def _tick(self) -> None:
        try:
            await self._drain("expired", self._housekeeping.expire_due)
            await self._drain("abandoned", self._housekeeping.abandon_retired)
            for why, page in self._also.items():
                await self._drain(why, page)
        except EventLogError as error:
            _log.warning("housekeeping_waiting", error=str(error) or error.code)
        await self._enqueue_due()

    async def _roll_out(self) -> None:
        """Move rollouts on until told to stop; a database or log that is away costs a second."""
        while not self._stopping.is_set():
            try:
                if not await self._rollouts.turn(self._clock()):
                    await self._pause(LEAST_WAIT_S)
                    await self._rollouts.wait(self._tick_s)
            except (EventLogError, psycopg.OperationalError, PoolTimeout) as error:
                _log.warning("rollouts_waiting", error=str(error).strip() or type(error).__name__)
                await self._pause(self._tick_s)

    @staticmethod
    async def _end(rollouts: asyncio.Task[None]) -> None:
        """Cut it: what it was recording is recorded whole or not at all."""
        rollouts.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await rollouts

    async def _drain(self, why: str, page: Callable[[datetime], Awaitable[int]]) -> None:
        while not self._stopping.is_set() and (ended := await page(self._clock())):
            ENDED.labels(why).inc(ended)
            _log.info("ended", why=why, count=ended)

    async def _enqueue_due(self) -> None:
        now = time.monotonic()
        for name, period_s in self._periods.items():
            if now < self._next_run[name]:
                continue
            self._next_run[name] = now + period_s
            try:
                await asyncio.to_thread(self._enqueue, name)
            except ConnectionError as error:
                # Nothing of a command is lost with it: the job comes again with its next period, or sooner.
                self._next_run[name] = now + min(period_s, 10.0)
                _log.warning("queue_unavailable", job=name, error=str(error))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


async def _take_lock(connection: psycopg.AsyncConnection) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY])
    return await cursor.fetchone() == (True,)
