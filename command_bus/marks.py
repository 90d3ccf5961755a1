"""What the last commits recorded, where it is known without asking the log.

A notification says which events its commit recorded if they are few (0051_marks.sql), and who appended something knows
it too. What came between two notifications that were heard one after the other is nothing: every commit of events is
notified, in the order of positions. So what is known are stretches of the log, and a reader whose stretch is among them
need not read it.
"""

import collections
from collections.abc import Sequence
from uuid import UUID

import msgspec

from command_bus.event_log import Mark
from domain.codec import TOPICS
from domain.event import Change

MAX_STRETCHES = 256
MAX_MARKS = 64
"""Of one append; more are read by those who want them."""
_decode = msgspec.json.Decoder(list[tuple[str, UUID, UUID | None, UUID | None]]).decode


class _Stretch(msgspec.Struct, frozen=True):
    """All events after one position and up to another."""

    after: int
    upto: int
    marks: Sequence[Mark]


class RecentMarks:
    """Stretches of the log's end, the newest last."""

    def __init__(self) -> None:
        self._stretches: collections.deque[_Stretch] = collections.deque(maxlen=MAX_STRETCHES)

    def add(self, after: int, upto: int, marks: Sequence[Mark]) -> None:
        """These and no others are the events after a position and up to another."""
        if self._stretches:
            newest = self._stretches[-1]
            if upto < newest.upto or (upto == newest.upto and after >= newest.after):
                return
            if upto == newest.upto:
                self._stretches.pop()
        self._stretches.append(_Stretch(after, upto, marks))

    def between(self, after: int, upto: int) -> list[Mark] | None:
        """The events after a position and up to another, in order; None where not all of them are known."""
        found: list[Mark] = []
        known_after = upto
        for stretch in reversed(self._stretches):
            if stretch.upto < known_after:
                break
            found += [mark for mark in reversed(stretch.marks) if after < mark.position <= known_after]
            known_after = min(known_after, stretch.after)
            if known_after <= after:
                return found[::-1]
        return None


def told(payload: str) -> tuple[int, list[Mark] | None]:
    """What a notification says: the position that its commit came to, and the events if it names them.

    Raises:
        ValueError: it is none of ours.
    """
    position, _, named = payload.partition(" ")
    last = int(position)
    if not named:
        return last, None
    try:
        events = _decode(named)
    except msgspec.MsgspecError as error:
        raise ValueError(f"The notification {payload!r} is none of ours: {error}") from error
    first = last - len(events) + 1
    return last, [
        Mark(first + number, stream_id, topic, agent_id, client_id)
        for number, (topic, stream_id, agent_id, client_id) in enumerate(events)
    ]


def marks_of(changes: Sequence[Change], positions: Sequence[int]) -> list[Mark] | None:
    """Of what was just appended; None where it is much, or others' events may lie between."""
    if len(positions) > MAX_MARKS or positions[-1] - positions[0] + 1 != len(positions):
        return None
    return [
        Mark(position, change.originator_id, TOPICS[type(change.event)], change.agent_id, change.client_id)
        for position, change in zip(positions, changes, strict=True)
    ]
