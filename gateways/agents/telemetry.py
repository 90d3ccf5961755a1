"""How busy machines are: gathered by each process, written together, read in as many points as a picture has.

None of it is truth: what a process that dies has not written yet is lost, and what is old is deleted.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog

from command_bus.context import Clock
from command_bus.postgres import AsyncPool
from domain.ids import AgentId
from gateways.cancelling import end
from schema import wire

_log = structlog.get_logger()
FLUSH_S = 5.0
MOST_WAITING = 100_000
"""Samples; were there ever more, the newest of an agent that come then are dropped."""
MOST_OF_HOUR = 240
"""Samples of one agent: whoever sends more is not believed for the rest of that hour."""
OLDEST, AHEAD = timedelta(hours=3), timedelta(minutes=5)
"""A sample's time is the agent's word: within these it counts."""
HOUR_S = 3600
_NUMBERS = 4
_TENTHS = 10
_PURGED = 5_000
_UNKNOWN = -1


class Point(msgspec.Struct, frozen=True):
    """Some samples as one: what was in use, in percent; None where no sample says it."""

    at: datetime
    """When the time begins that they are of."""
    cpu: float | None
    cpu_most: float | None
    memory: float | None
    disk: float | None


class Telemetry:
    """Gathers what agents say, and writes it every few seconds.

    Args:
        pool: to the database.
        clock: now.
    """

    def __init__(self, pool: AsyncPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._hours: dict[tuple[UUID, datetime], list[int]] = {}
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, agent_id: AgentId, samples: Sequence[wire.Sample]) -> None:
        """Take what an agent says; what cannot be is left out."""
        now = self._clock()
        for sample in samples[-wire.MAX_SAMPLES :]:
            if self._waiting >= MOST_WAITING or not now - OLDEST <= sample.at <= now + AHEAD:
                continue
            at = sample.at.astimezone(UTC)
            hour = at.replace(minute=0, second=0, microsecond=0)
            self._hours.setdefault((agent_id, hour), []).extend(
                (
                    at.minute * 60 + at.second,
                    _tenths(sample.cpu_percent),
                    _tenths(sample.memory_percent),
                    _tenths(sample.disk_percent),
                )
            )
            self._waiting += 1

    async def start(self) -> None:
        self._task = asyncio.create_task(self._for_ever(), name="telemetry")

    async def stop(self) -> None:
        """Write what waits, if the database is there."""
        if self._task is not None:
            await end((self._task,))
        with contextlib.suppress(psycopg.OperationalError):
            await self.flush()

    async def flush(self) -> None:
        """Write what waits.

        Raises:
            psycopg.OperationalError: the database is away; what waits goes on waiting.
        """
        hours, waiting = self._hours, self._waiting
        if not hours:
            return
        self._hours, self._waiting = {}, 0
        try:
            async with self._pool.connection() as connection:
                # In order, so that two processes that write the same rows do not wait for each other in a circle.
                keys = sorted(hours)
                await connection.execute(
                    "INSERT INTO fleetlog.telemetry AS t (agent_id, hour, samples)"
                    " SELECT agent_id, hour, samples::smallint[]"
                    " FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[]) AS new (agent_id, hour, samples)"
                    " ON CONFLICT (agent_id, hour) DO UPDATE SET samples = t.samples || excluded.samples"
                    " WHERE cardinality(t.samples) < %s",
                    (
                        [agent_id for agent_id, _ in keys],
                        [hour for _, hour in keys],
                        ["{" + ",".join(map(str, hours[key])) + "}" for key in keys],
                        MOST_OF_HOUR * _NUMBERS,
                    ),
                )
        except psycopg.OperationalError:
            for key, numbers in hours.items():
                self._hours[key] = numbers + self._hours.get(key, [])
            self._waiting += waiting
            raise

    async def _for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except psycopg.OperationalError as error:
                _log.info("telemetry_waiting", error=str(error).strip())


def _tenths(percent: float | None) -> int:
    if percent is None or not math.isfinite(percent) or not 0 <= percent <= 100:  # noqa: PLR2004 - percent
        return _UNKNOWN
    return round(percent * _TENTHS)


async def read_telemetry(
    connection: psycopg.AsyncConnection[Any], agent_id: UUID, begin: datetime, until: datetime, step_s: int
) -> list[Point]:
    """One agent's samples from ``begin`` on and before ``until``, so many seconds of them as one point."""
    cursor = await connection.execute(
        "SELECT hour, samples FROM fleetlog.telemetry"
        " WHERE agent_id = %s AND hour >= date_trunc('hour', %s::timestamptz) AND hour < %s ORDER BY hour",
        (agent_id, begin, until),
    )
    start = begin.timestamp()
    steps: dict[int, list[Sequence[int]]] = {}
    for hour, samples in await cursor.fetchall():
        for numbers in _samples(samples):
            at = hour.timestamp() + numbers[0]
            if start <= at < until.timestamp():
                steps.setdefault(int((at - start) // step_s), []).append(numbers)
    return [
        Point(
            begin + timedelta(seconds=step * step_s),
            _mean(one[1] for one in steps[step]),
            max((one[1] / _TENTHS for one in steps[step] if one[1] != _UNKNOWN), default=None),
            _mean(one[2] for one in steps[step]),
            _mean(one[3] for one in steps[step]),
        )
        for step in sorted(steps)
    ]


def _samples(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[place : place + _NUMBERS] for place in range(0, len(numbers) - _NUMBERS + 1, _NUMBERS))


def _mean(tenths: Iterable[int]) -> float | None:
    known = [one for one in tenths if one != _UNKNOWN]
    return round(sum(known) / len(known) / _TENTHS, 1) if known else None


async def purge_telemetry(pool: AsyncPool, age: timedelta) -> int:
    """Delete what is older, some rows at a time; returns how many rows, each an agent's hour."""
    removed = 0
    while True:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "DELETE FROM fleetlog.telemetry WHERE (agent_id, hour) IN (SELECT agent_id, hour"
                " FROM fleetlog.telemetry WHERE hour < now() - %s::interval ORDER BY hour LIMIT %s)",
                (age, _PURGED),
            )
        removed += cursor.rowcount
        if cursor.rowcount < _PURGED:
            return removed
