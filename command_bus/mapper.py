"""Fleetlog's events at the eventsourcing library's seams: its transcoder, its mapper, its stored events.

The library's own read paths (recorders, event stores, notification logs) thereby understand our log. The hot write
path packs changes straight into rows (rows.py) and skips these objects.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder

from domain.codec import TOPICS, UndecodableEventError, decode, encode
from domain.event import Change, Event, Metadata, Recorded


@dataclass(frozen=True)
class AttributedEvent(StoredEvent):
    """A stored event with who caused it and whom it concerns."""

    change: Change
    metadata: Metadata


class Attributed(msgspec.Struct, frozen=True):
    """A change and its metadata, as the library's event store takes events."""

    change: Change
    metadata: Metadata

    @property
    def originator_id(self) -> UUID:
        return self.change.originator_id

    @property
    def originator_version(self) -> int:
        return self.change.originator_version


class EventTranscoder(Transcoder):
    """Bodies as JSON by msgspec, 3 to 5 times the speed of the library's transcoder."""

    def encode(self, obj: Any) -> bytes:
        return encode(obj)

    def decode(self, data: bytes) -> Any:
        return msgspec.json.decode(data)


class EventMapper(Mapper[UUID]):
    """Topics are names with versions, not Python paths: a moved class does not orphan its events."""

    def __init__(self) -> None:
        super().__init__(EventTranscoder())

    def to_stored_event(self, domain_event: Any) -> AttributedEvent:
        """Encode an `Attributed` event."""
        change = domain_event.change
        return AttributedEvent(
            originator_id=change.originator_id,
            originator_version=change.originator_version,
            topic=TOPICS[type(change.event)],
            state=self.transcoder.encode(change.event),
            change=change,
            metadata=domain_event.metadata,
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """Decode, lifting an older version to the present one."""
        event: Event = decode(stored_event.topic, stored_event.state)
        return event


RECORDED_COLUMNS = (
    "notification_id, originator_id, originator_version, topic, state, recorded_at, actor, correlation_id, "
    "causation_id, agent_id, client_id"
)
RecordedRow = tuple[int, UUID, int, str, bytes, datetime, str, UUID, UUID | None, UUID | None, UUID | None]


def to_recorded(row: RecordedRow, read: Callable[[str, bytes], Event] = decode) -> Recorded:
    """From a row of `RECORDED_COLUMNS`.

    Args:
        row: as the log holds it.
        read: makes the event from its topic and body.

    Raises:
        UndecodableEventError: its body cannot be read; says at which position.
    """
    position, stream_id, version, topic, state, *rest = row
    try:
        event = read(topic, state)
    except UndecodableEventError as error:
        raise UndecodableEventError(f"The event at position {position} cannot be read: {error}") from error
    return Recorded(position, stream_id, version, topic, event, *rest)  # type: ignore[arg-type]


def recorded_as(change: Change, metadata: Metadata, position: int, recorded_at: datetime) -> Recorded:
    """What a reader will see of a change that was just inserted."""
    return Recorded(
        position,
        change.originator_id,
        change.originator_version,
        TOPICS[type(change.event)],
        change.event,
        recorded_at,
        metadata.actor,
        metadata.correlation_id,
        metadata.causation_id,
        change.agent_id,
        change.client_id,
    )
