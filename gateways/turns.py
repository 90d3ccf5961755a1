"""Who is next: lanes take turns, so that a long one keeps no other waiting."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Lane = TypeVar("Lane", bound=Hashable)
Item = TypeVar("Item", bound=Hashable)


class Turns(Generic[Lane, Item]):
    """Items in lanes, each item once. One item of each lane in turn, within a lane in the order in which they came.

    So an item waits for those before it in its own lane, and for as many rounds of the others, however long they are.
    """

    def __init__(self) -> None:
        self._lanes: dict[Lane, OrderedDict[Item, None]] = {}
        self._order: deque[Lane] = deque()
        self._lane_of: dict[Item, Lane] = {}

    def __len__(self) -> int:
        return len(self._lane_of)

    def __contains__(self, item: Item) -> bool:
        return item in self._lane_of

    def add(self, lane: Lane, item: Item) -> None:
        """Put an item at the end of a lane; one that waits already keeps its place."""
        if item in self._lane_of:
            return
        self._lane_of[item] = lane
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = OrderedDict()
            self._order.append(lane)
        waiting[item] = None

    def discard(self, item: Item) -> None:
        lane = self._lane_of.pop(item, None)
        if lane is not None:
            # A lane that is empty now is noticed when it is its turn.
            del self._lanes[lane][item]

    def take(self, limit: int) -> list[Item]:
        """Up to so many, by turns; the lane after the last one that had its turn is the first of the next call."""
        taken: list[Item] = []
        while len(taken) < limit and (item := self.next()) is not None:
            taken.append(item)
        return taken

    def next(self, may: Callable[[Lane], bool] = lambda _: True) -> Item | None:
        """Whose turn it is; lanes that may not now are passed over."""
        for _ in range(len(self._order)):
            lane = self._order.popleft()
            waiting = self._lanes[lane]
            if not waiting:
                del self._lanes[lane]
                continue
            if not may(lane):
                self._order.append(lane)
                continue
            item, _ = waiting.popitem(last=False)
            del self._lane_of[item]
            if waiting:
                self._order.append(lane)
            else:
                del self._lanes[lane]
            return item
        return None
