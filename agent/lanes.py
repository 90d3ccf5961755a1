"""Which accepted attempt runs next: within a lane one at a time, in (priority, position) order; lanes side by side.

Invariant 4 lives here. Pure bookkeeping: no clock, no disk, no process.
"""

import heapq
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from agent.journal import Key, Waiting

DEFAULT_PARALLEL = 4


class Lanes:
    """Waiting attempts by lane, and which lanes are busy.

    Args:
        parallel: how many lanes may be busy at once.
    """

    def __init__(self, *, parallel: int = DEFAULT_PARALLEL) -> None:
        self._parallel = parallel
        self._heaps: dict[str, list[tuple[int, int, Key]]] = {}
        self._waiting: dict[Key, Waiting] = {}
        self._busy: dict[str, Key] = {}

    def add(self, attempts: Iterable[Waiting]) -> None:
        """Let attempts wait; one that waits or runs already is left as it is."""
        running = set(self._busy.values())
        for attempt in attempts:
            if attempt.key not in self._waiting and attempt.key not in running:
                self._waiting[attempt.key] = attempt
                heap = self._heaps.setdefault(attempt.lane, [])
                heapq.heappush(heap, (attempt.priority, attempt.position, attempt.key))

    def drop_command(self, command_id: UUID) -> None:
        """Forget a command that waits."""
        for key in [key for key in self._waiting if key.command_id == command_id]:
            del self._waiting[key]

    def take(self) -> Waiting | None:
        """The attempt to start now, its lane busy from here on; None if none may start.

        Of the free lanes' first attempts it is the one with the lowest (priority, position).
        """
        if len(self._busy) >= self._parallel:
            return None
        firsts = [first for lane in list(self._heaps) if lane not in self._busy and (first := self._first(lane))]
        if not firsts:
            return None
        _priority, _position, key = heapq.heappop(self._heaps[self._waiting[min(firsts)[2]].lane])
        attempt = self._waiting.pop(key)
        self._busy[attempt.lane] = key
        return attempt

    def _first(self, lane: str) -> tuple[int, int, Key] | None:
        heap = self._heaps[lane]
        while heap and heap[0][2] not in self._waiting:
            heapq.heappop(heap)
        if not heap:
            del self._heaps[lane]
            return None
        return heap[0]

    def occupy(self, attempt: Waiting) -> None:
        """Keep a lane busy with an attempt that a start before this one began."""
        self._busy[attempt.lane] = attempt.key

    def done(self, attempt: Waiting) -> None:
        """The attempt's lane is free again."""
        del self._busy[attempt.lane]

    def expired(self, now: datetime) -> list[Key]:
        """Waiting attempts whose time is over; they do not wait any more."""
        over = [key for key, attempt in self._waiting.items() if attempt.expires_at <= now]
        for key in over:
            del self._waiting[key]
        return over

    def next_expiry(self) -> datetime | None:
        return min((attempt.expires_at for attempt in self._waiting.values()), default=None)

    @property
    def free(self) -> int:
        """How many more lanes could be busy."""
        return self._parallel - len(self._busy)
