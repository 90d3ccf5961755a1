"""What was read from the log and is believed: for a second, and no longer than until the log tells otherwise."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar
from uuid import UUID
from weakref import WeakSet

from command_bus.access import Standing
from command_bus.event_log import Mark
from domain.event import Recorded

CACHE_SIZE = 4096
CACHE_LIFE = timedelta(seconds=1)
TRIES = 3


class Read(Protocol):
    """Something that was read, with what it stands on."""

    @property
    def standing(self) -> Standing: ...
    @property
    def there(self) -> bool: ...


T = TypeVar("T", bound=Read)


class Believed(Generic[T]):
    """Remembers what it read.

    Args:
        read: reads it: by its id, and what it stood on when it was last read.
        life: how long it is believed where nobody tells of a change.
    """

    def __init__(self, read: Callable[[UUID, Iterable[UUID]], Awaitable[T]], life: timedelta = CACHE_LIFE) -> None:
        self._read = read
        self._life = life
        self._known: OrderedDict[UUID, tuple[datetime, T]] = OrderedDict()
        self._alive: WeakSet[Standing] = WeakSet()
        self._heard = 0

    async def get(self, stream_id: UUID, at: datetime) -> T:
        """What holds now."""
        known = self._known.get(stream_id)
        if known is not None and not known[1].standing.over and timedelta(0) <= at - known[0] < self._life:
            return known[1]
        hint = known[1].standing.stands_on if known is not None else ()
        for _ in range(TRIES):
            heard = self._heard
            found = await self._read(stream_id, hint)
            if heard == self._heard:
                break
            # What was told while it was read may be in it or not.
        self._alive.add(found.standing)
        if heard == self._heard and found.there:
            self._known[stream_id] = (at, found)
            self._known.move_to_end(stream_id)
            while len(self._known) > CACHE_SIZE:
                self._known.popitem(last=False)
        return found

    def heard(self, recorded: Recorded | Mark) -> None:
        """Something was recorded that may change it."""
        self._heard += 1
        for standing in tuple(self._alive):
            standing.heard(recorded)

    def missed(self) -> None:
        """Something may have been recorded without being heard; not while anybody streams, for then all is heard."""
        self._heard += 1
        self._known.clear()
