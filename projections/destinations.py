"""Destinations of forwarded events: which there are, and how far each of them is."""

import enum
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.destinations import (
    DestinationAdded,
    DestinationChanged,
    DestinationPaused,
    DestinationRemoved,
    DestinationResumed,
    DestinationSkipped,
    EventFilter,
    Target,
)
from domain.event import Event, Recorded
from projections import sql, tracking
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query
from projections.projection import Batch, Projection

_decode_target = msgspec.json.Decoder(Target).decode
_decode_filter = msgspec.json.Decoder(EventFilter).decode


class DestinationState(enum.StrEnum):
    WAITING = "waiting"
    """No worker has taken it up yet."""
    RUNNING = "running"
    FAILING = "failing"
    """The last try failed; it is tried again."""
    PAUSED = "paused"


class DestinationRow(msgspec.Struct, frozen=True, kw_only=True):
    destination_id: UUID
    name: str
    to: Target
    only: EventFilter
    sealed: tuple[str, ...]
    """What it is told in confidence: names alone."""
    state: DestinationState
    reason: str
    """Why it is paused."""
    created_at: datetime
    changed_by: str
    version: int
    position: int
    """Whatever is to go there up to here has arrived."""
    sent: int
    sent_at: datetime | None
    failures: int
    """In a row."""
    failing_since: datetime | None
    error: str
    """Of the last try, where that failed."""
    tries_at: datetime | None
    stuck_at: int | None
    """Position of the event that the receiver has answered to, and did not take."""
    stuck_type: str
    skipped_at: int | None
    """Position of the event that was passed over last."""

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        (destination_id, name, target, only, sealed, paused, reason, created_at, changed_by, version) = row[:10]
        (position, taken_up, sent, sent_at, failures, failing_since, error, tries_at) = row[10:18]
        (stuck_at, stuck_type, skipped_at) = row[18:]
        state = DestinationState.RUNNING if taken_up else DestinationState.WAITING
        if paused:
            state = DestinationState.PAUSED
        elif failures:
            state = DestinationState.FAILING
        return cls(
            destination_id=destination_id,
            name=name,
            to=_decode_target(target),
            only=_decode_filter(only),
            sealed=tuple(sealed),
            state=state,
            reason=reason,
            created_at=created_at,
            changed_by=changed_by,
            version=version,
            position=position,
            sent=sent or 0,
            sent_at=sent_at,
            failures=failures or 0,
            failing_since=failing_since,
            error=error or "",
            tries_at=tries_at,
            stuck_at=stuck_at,
            stuck_type=stuck_type or "",
            skipped_at=skipped_at,
        )


class Destinations(Projection):
    name: ClassVar[str] = "destinations"
    folds: ClassVar[tuple[type[Event], ...]] = (
        DestinationAdded,
        DestinationChanged,
        DestinationPaused,
        DestinationResumed,
        DestinationSkipped,
        DestinationRemoved,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        rows, key = batch["destinations"], recorded.originator_id
        by = {"changed_by": recorded.actor, "version": recorded.originator_version}
        match recorded.event:
            case DestinationAdded() as event:
                rows.insert(
                    key,
                    after=event.after,
                    paused=False,
                    reason="",
                    created_at=recorded.recorded_at,
                    removed_at=None,
                    skipped_at=None,
                    **_terms(event),
                    **by,
                )
            case DestinationChanged() as event:
                rows.update(key, **_terms(event), **by)
            case DestinationPaused(reason=reason):
                rows.update(key, paused=True, reason=reason, **by)
            case DestinationResumed():
                rows.update(key, paused=False, reason="", **by)
            case DestinationSkipped(position=position):
                rows.update(key, skipped_at=position, **by)
            case DestinationRemoved():
                rows.update(key, removed_at=recorded.recorded_at, **by)


async def log_head(connection: Connection) -> int:
    """How far the log is; read after destinations, it is never behind them."""
    return await tracking.read_head(connection)


def _terms(event: DestinationAdded | DestinationChanged) -> dict[str, Any]:
    return {
        "name": event.name,
        "sort_key": event.name.casefold(),
        "target": event.to,
        "filter": event.only,
        "sealed": event.sealed,
    }


_SQL = sql.load("destinations")
_BY_NAME = Order("destinations.name", "sort_key, destination_id", (str, UUID))


async def list_destinations(
    connection: Connection, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[DestinationRow]:
    """Destinations by name."""
    query = Query(_SQL["select"])
    query.where("removed_at IS NULL")
    return await query.page(
        connection,
        DestinationRow.from_row,
        _BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.destination_id),
    )


async def get_destination(connection: Connection, destination_id: UUID) -> DestinationRow | None:
    """One destination, or None if there is none."""
    query = Query(_SQL["select"])
    query.where("destination_id = %s", destination_id)
    query.where("removed_at IS NULL")
    return await query.one(connection, DestinationRow.from_row)
