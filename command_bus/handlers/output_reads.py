"""Records that outputs were read, before anything of them leaves; within an hour, the same once.

What is on record already is known by the log itself, so it is once for all processes; each remembers some of it, so
that who polls costs nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from command_bus.context import Caller, Clock
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog, Selection
from domain.output_reads import OutputRead, OutputReads, begin_of_hour, reads_of

MAX_TRIES = 10
"""So many processes may come to record a read of the same thing at the same moment."""
LANES = 64
"""Within a process, those who come to the same thing take turns; now and then, to another thing as well."""
TURN_S = 10.0
"""How long a reader waits for that."""
MAX_KNOWN = 10_000
MOST_OF_AN_HOUR = 1_000
"""Reads of one thing that are looked through; beyond that one may be recorded once more."""
_Key = tuple[str, datetime, OutputRead]


class OutputReadRecords:
    """What one process puts on record.

    Args:
        log: the event log.
        clock: now.
    """

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._known: OrderedDict[_Key, None] = OrderedDict()
        self._lanes = [asyncio.Lock() for _ in range(LANES)]

    async def read(self, read: OutputRead, caller: Caller) -> None:
        """Have the log say that the caller read this; when it returns, that is on disk.

        Args:
            read: what, and by which way.
            caller: who.

        Raises:
            EventLogError: it could not be recorded, so nothing may be shown.
            BusyStreamError: too many others are being recorded at the same moment.
        """
        hour = begin_of_hour(self._clock())
        key = (caller.actor, hour, read)
        if self._knows(key):
            return
        stream_id = reads_of(read.command_id or read.rollout_id or caller.actor)
        async with self._turn(stream_id):
            if self._knows(key):
                return  # the same reader asked twice at once
            await self._record(stream_id, key, caller)
            self._known[key] = None
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def _knows(self, key: _Key) -> bool:
        if key not in self._known:
            return False
        self._known.move_to_end(key)
        return True

    @asynccontextmanager
    async def _turn(self, stream_id: UUID) -> AsyncIterator[None]:
        lane = self._lanes[stream_id.int % LANES]
        try:
            async with asyncio.timeout(TURN_S):
                await lane.acquire()
        except TimeoutError:
            raise BusyStreamError from None
        try:
            yield
        finally:
            lane.release()

    async def _record(self, stream_id: UUID, key: _Key, caller: Caller) -> None:
        _, hour, read = key
        for _ in range(MAX_TRIES):
            reads = OutputReads(stream_id)
            head = (await self._log.read_heads([stream_id], tolerant=True)).get(stream_id)
            if head is not None:
                reads.version = head.originator_version
                if head.recorded_at >= hour and await self._is_there(stream_id, key):
                    return
            try:
                await self._log.append([reads.read(read)], caller.metadata)
            except ConflictError:
                continue
            return
        raise BusyStreamError

    async def _is_there(self, stream_id: UUID, key: _Key) -> bool:
        actor, hour, read = key
        selection = Selection(stream_id=stream_id, since=hour)
        recorded = await self._log.read(selection, limit=MOST_OF_AN_HOUR, backwards=True, tolerant=True)
        return any(one.actor == actor and one.event == read for one in recorded)
