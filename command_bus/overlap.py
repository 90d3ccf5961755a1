"""Work done while the server works: a connection that has something to do instead of waiting.

Packing the next chunk in a thread of its own gains little: the thread that feeds the server needs the interpreter for
microseconds at a time, some twenty times per chunk, and waits up to 5 ms for it each time. Here one thread does both,
by turns: whenever the driver would wait for the socket, a slice of the next chunk is packed and the socket is looked
at again.
"""

import itertools
import select
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import DictRow
from psycopg.waiting import Ready, Wait

from command_bus.rows import COPY
from domain.event import Change, Metadata

V = TypeVar("V")
SLICE_EVENTS = 100
"""Packed in well under a millisecond: so long may the server wait for us."""


class OverlappingConnection(psycopg.Connection[DictRow]):
    """A connection that calls `meanwhile`, if it is set, each time it would wait for the server.

    `meanwhile` does a little work and returns True, or returns False when there is nothing left to do.
    """

    meanwhile: Callable[[], bool] | None = None

    def wait(self, gen: PQGen[V], *args: Any, **kwargs: Any) -> V:
        """Consume a generator of the driver's protocol; see `psycopg.Connection.wait`."""
        if self.meanwhile is None:
            return super().wait(gen, *args, **kwargs)
        return super().wait(self._by_turns(gen, self.meanwhile), *args, **kwargs)

    def _by_turns(self, gen: PQGen[V], meanwhile: Callable[[], bool]) -> PQGen[V]:
        """The same protocol, yielding (that is, waiting) only when there is nothing else to do."""
        poll = select.poll()
        fileno = self.fileno()
        try:
            wanted = next(gen)
            while True:
                poll.register(fileno, _EVENTS[wanted])
                ready = _ready(poll.poll(0), wanted)
                while ready is Ready.NONE and meanwhile():
                    ready = _ready(poll.poll(0), wanted)
                wanted = gen.send((yield wanted) if ready is Ready.NONE else ready)
        except StopIteration as end:
            result: V = end.value
            return result


_EVENTS = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}


def _ready(events: list[tuple[int, int]], wanted: Wait) -> Ready:
    if not events:
        return Ready.NONE
    seen = events[0][1]
    if seen & ~(select.POLLIN | select.POLLOUT):
        return Ready(wanted)  # hung up or in error: the driver finds out by using the socket
    return Ready((Ready.R if seen & select.POLLIN else 0) | (Ready.W if seen & select.POLLOUT else 0))


class Packer:
    """Draws changes and packs them for COPY, a chunk at a time and each chunk slice by slice.

    Args:
        changes: drawn lazily.
        metadata: of all of them.
        chunk_events: how many make a chunk.
    """

    def __init__(self, changes: Iterator[Change], metadata: Metadata, chunk_events: int) -> None:
        self._source = changes
        self._metadata = metadata
        self._chunk_events = chunk_events
        self._changes: list[Change] = []
        self._rows: list[bytes] = []
        self._exhausted = False
        self._failure: Exception | None = None

    def step(self) -> bool:
        """Pack one slice.

        Returns:
            False when the chunk is full, or there are no more changes. An error of theirs is kept for `finish`: here it
            would go off in the middle of the driver's protocol.
        """
        if self._exhausted or len(self._changes) >= self._chunk_events:
            return False
        try:
            part = list(itertools.islice(self._source, min(SLICE_EVENTS, self._chunk_events - len(self._changes))))
            self._rows += COPY.rows(part, self._metadata)
        except Exception as error:  # noqa: BLE001 - raised by finish()
            self._failure = error
            part = []
        self._changes += part
        self._exhausted = not part
        return not self._exhausted

    def finish(self) -> tuple[list[Change], list[bytes]]:
        """Pack what is missing from the chunk and hand it over; an empty chunk is the end.

        Raises:
            Exception: whatever drawing or encoding the changes raised.
        """
        while self.step():
            pass
        if self._failure is not None:
            raise self._failure
        chunk = self._changes, self._rows
        self._changes, self._rows = [], []
        return chunk
