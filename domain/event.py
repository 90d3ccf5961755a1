"""Events, and the little machinery that aggregates share.

An event is a frozen struct: its class name is its type, ``schema_version`` its version. Types are for ever; a changed
shape is a new version with an upcaster from the one before (`upcast`), and ``schema/events/`` holds the JSON Schema of
each. Where it happened (stream, version) stands beside it in a `Change`; who caused it, and when, is added when it is
recorded.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.personal import Personal

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An immutable fact, named in the past tense."""

    schema_version: ClassVar[int] = 1
    upcasters: ClassVar[dict[int, Upcaster]] = {}
    """From an older version's decoded body to the next version's."""
    personal: ClassVar[Personal | None] = None
    """Which of its fields tell of a person or their machine, in all of its versions; they are sealed in the log."""


class Undecodable(Event, frozen=True, kw_only=True):
    """Stands for an event whose body this program cannot read, where a reader wants to see it all the same.

    It is of no type of the catalogue and never recorded; the `Recorded` that holds it says which topic it really has.
    """

    body: bytes
    """As recorded."""
    error: str


class Change(msgspec.Struct, frozen=True):
    """One event at its place in one stream, as an aggregate decided it.

    ``agent_id`` and ``client_id`` say whom it concerns; auditors filter by them, and a tenant sees by ``client_id``.
    """

    originator_id: UUID
    originator_version: int
    event: Event
    agent_id: UUID | None = None
    client_id: UUID | None = None


class Aggregate:
    """Folds its own events, and decides new ones.

    A subclass defines ``when(event)`` for the state, and methods named after what happens that return a `Change`.
    A decision is applied to the aggregate at once, so that several can follow each other before they are recorded.
    """

    def __init__(self, stream_id: UUID) -> None:
        self.stream_id = stream_id
        self.version = 0

    @classmethod
    def load(cls, stream_id: UUID, events: Iterable[Event]) -> Self:
        """Replay a stream.

        Args:
            stream_id: the stream's id.
            events: its events in the order of their versions, from the first.

        Returns:
            The aggregate as it stands after the last of them; ``version`` is their number.
        """
        aggregate = cls(stream_id)
        for event in events:
            aggregate.version += 1
            aggregate.when(event)
        return aggregate

    @property
    def exists(self) -> bool:
        return self.version > 0

    def when(self, event: Event) -> None:
        raise TypeError(f"{type(self).__name__} does not know {type(event).__name__}")

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        """The agent and the client that this stream is about, where there is one."""
        return None, None

    def decide(self, event: Event) -> Change:
        self.version += 1
        self.when(event)
        agent_id, client_id = self.concerns()
        return Change(self.stream_id, self.version, event, agent_id, client_id)


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused an event, and in the course of what."""

    actor: str
    """``user:<id>``, ``key:<id>``, ``agent:<id>``, ``gateway:<name>``, ``scheduler``, ``system``, ``up`` (a first
    start) or ``host:<account>``: whoever is at the server's own machine (gateways/host.py)."""
    correlation_id: UUID
    """One for the whole story, from the first request to the last result."""
    causation_id: UUID | None = None
    """The intent or message that was the immediate cause."""


class Recorded(msgspec.Struct, frozen=True):
    """An event as the log holds it."""

    position: int
    """Its place in the whole log; larger is later, and no reader meets a smaller one after it."""
    originator_id: UUID
    originator_version: int
    topic: str
    event: Event
    recorded_at: datetime
    actor: str
    correlation_id: UUID
    causation_id: UUID | None
    agent_id: UUID | None
    client_id: UUID | None
