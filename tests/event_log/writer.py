"""A process that writes to the log and says on stdout what it was told is durable; tests kill it and others like it.

Called with a database, a seed and a number of rounds. Each line is `<stream id> <version> <position>`, written only
after the append returned.
"""

import asyncio
import random
import sys

import structlog

from command_bus.event_log import ConflictError
from command_bus.ids import new_id
from command_bus.postgres_log import PostgresEventLog
from domain.event import Change
from tests.event_log.samples import created, metadata, queued, renamed

CALLERS = 8


class Writer:
    """Appends in all the ways there are: alone, several streams at once, in bulk, and where it must conflict."""

    def __init__(self, log: PostgresEventLog, seed: int) -> None:
        self._log = log
        self._random = random.Random(seed)

    async def run(self, rounds: int) -> None:
        await asyncio.gather(*(self._caller(rounds) for _ in range(CALLERS)))

    async def _caller(self, rounds: int) -> None:
        for _ in range(rounds):
            kind = self._random.random()
            if kind < 0.7:
                await self._append([created()])
            elif kind < 0.85:
                stream_id = new_id()
                await self._append([created(stream_id=stream_id), renamed(stream_id, 2), created()])
            elif kind < 0.98:
                await self._conflict()
            else:
                await self._bulk(self._random.randrange(1, 6_000))

    async def _append(self, changes: list[Change]) -> None:
        say(changes, await self._log.append(changes, metadata()))

    async def _conflict(self) -> None:
        """Two appends want one place: one gets it."""
        stream_id = new_id()
        pair = [[created("a", stream_id=stream_id), created()], [created("b", stream_id=stream_id), created()]]
        outcomes = await asyncio.gather(
            *(self._log.append(changes, metadata()) for changes in pair), return_exceptions=True
        )
        winners = 0
        for changes, outcome in zip(pair, outcomes, strict=True):
            if isinstance(outcome, list):
                winners += 1
                say(changes, outcome)
            elif not isinstance(outcome, ConflictError):
                raise outcome
        if winners != 1:
            raise AssertionError(f"{winners} appends won one place")

    async def _bulk(self, count: int) -> None:
        changes = [queued(new_id(), new_id()) for _ in range(count)]
        last = await self._log.append_bulk(changes, metadata())
        say([changes[-1]], [last])


def say(changes: list[Change], positions: list[int]) -> None:
    for change, position in zip(changes, positions, strict=True):
        sys.stdout.write(f"{change.originator_id} {change.originator_version} {position}\n")
    sys.stdout.flush()


async def main(url: str, seed: int, rounds: int) -> None:
    log = PostgresEventLog(url, name=f"writer-{seed}", timeout_s=30)
    await log.start()
    await Writer(log, seed).run(rounds)
    await log.stop()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
