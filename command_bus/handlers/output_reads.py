"""Records that outputs were read, before anything of them leaves; within an hour, the same once.

What is on record already is known by the log itself, so it is once for all processes; each remembers some of it, so
that who polls costs nothing.
"""

from collections import OrderedDict
from datetime import datetime
from uuid import UUID

from command_bus.context import Caller, Clock
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog, Selection
from domain.output_reads import OutputRead, OutputReads, begin_of_hour, reads_of

MAX_TRIES = 10
"""So many readers may come to the same thing at the same moment, in so many processes."""
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

    async def read(self, read: OutputRead, caller: Caller) -> None:
        """Have the log say that the caller read this; when it returns, that is on disk.

        Args:
            read: what, and by which way.
            caller: who.

        Raises:
            EventLogError: it could not be recorded, so nothing may be shown.
            BusyStreamError: too many others were recorded at the same moment.
        """
        hour = begin_of_hour(self._clock())
        key = (caller.actor, hour, read)
        if key in self._known:
            self._known.move_to_end(key)
            return
        stream_id = reads_of(read.command_id or read.rollout_id or caller.actor)
        for _ in range(MAX_TRIES):
            reads = OutputReads(stream_id)
            head = (await self._log.read_heads([stream_id], tolerant=True)).get(stream_id)
            if head is not None:
                reads.version = head.originator_version
                if head.recorded_at >= hour and await self._is_there(stream_id, key):
                    break
            try:
                await self._log.append([reads.read(read)], caller.metadata)
            except ConflictError:
                continue
            break
        else:
            raise BusyStreamError
        self._known[key] = None
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    async def _is_there(self, stream_id: UUID, key: _Key) -> bool:
        actor, hour, read = key
        selection = Selection(stream_id=stream_id, since=hour)
        recorded = await self._log.read(selection, limit=MOST_OF_AN_HOUR, backwards=True, tolerant=True)
        return any(one.actor == actor and one.event == read for one in recorded)
