"""Requests that wait, or waited, for another person."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from domain.approvals import (
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRefused,
    ApprovalRequested,
    ApprovalState,
    ApprovalWithdrawn,
)
from domain.event import Event, Recorded
from projections import sql
from projections.pages import BY_POSITION, DEFAULT_LIMIT, Connection, Page, Query, Tenants
from projections.projection import Batch, Cells, Projection


class ApprovalRow(msgspec.Struct, frozen=True):
    approval_id: UUID
    state: ApprovalState
    intent: str
    request: dict[str, Any]
    why: str
    agents: int | None
    requester: str
    user_id: UUID | None
    """Who asked, as is ``user``."""
    user: str | None
    decided_by: UUID | None
    decider: str | None
    reason: str
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    correlation_id: UUID
    position: int
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[1] = ApprovalState(row[1])
        return cls(*cells)


class Approvals(Projection):
    name: ClassVar[str] = "approvals"
    folds: ClassVar[tuple[type[Event], ...]] = (
        ApprovalRequested,
        ApprovalGranted,
        ApprovalRefused,
        ApprovalWithdrawn,
        ApprovalExpired,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        approvals, key, event = batch["approvals"], recorded.originator_id, recorded.event
        if isinstance(event, ApprovalRequested):
            approvals.insert(
                key,
                state=ApprovalState.WAITING,
                intent=event.intent,
                request=event.request,
                why=event.why,
                agents=event.agents,
                requester=event.actor,
                user_id=event.user_id,
                client_ids=event.client_ids,
                decided_by=None,
                reason="",
                requested_at=recorded.recorded_at,
                expires_at=event.expires_at,
                decided_at=None,
                correlation_id=recorded.correlation_id,
                position=recorded.position,
                version=recorded.originator_version,
            )
            return
        cells: Cells = {"decided_at": recorded.recorded_at, "version": recorded.originator_version}
        approvals.update(key, **cells, **_decided(event))


def _decided(event: Event) -> Cells:
    match event:
        case ApprovalGranted(user_id=user_id, reason=reason):
            return {"state": ApprovalState.GRANTED, "decided_by": user_id, "reason": reason}
        case ApprovalRefused(user_id=user_id, reason=reason):
            return {"state": ApprovalState.REFUSED, "decided_by": user_id, "reason": reason}
        case ApprovalWithdrawn(reason=reason):
            return {"state": ApprovalState.WITHDRAWN, "reason": reason}
        case _:
            return {"state": ApprovalState.EXPIRED}


_SQL = sql.load("approvals")


def _visible(query: Query, client_ids: Tenants, requester: str) -> None:
    """Who sees all that it reaches sees it, and so does whoever asked."""
    if client_ids is not None and not client_ids.everything:
        clients = Jsonb([str(client_id) for client_id in client_ids.clients])
        query.where("(client_ids <@ %s OR requester = %s)", clients, requester)


async def list_approvals(
    connection: Connection,
    *,
    client_ids: Tenants,
    requester: str,
    state: ApprovalState | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[ApprovalRow]:
    """Requests, newest first.

    Args:
        connection: to the database.
        client_ids: what the caller sees.
        requester: the caller, who sees their own in any case.
        state: only those in this state.
        cursor: of the page before.
        limit: at most so many.
    """
    query = Query(_SQL["select"])
    _visible(query, client_ids, requester)
    if state is not None:
        query.where("state = %s", state.value)
    return await query.page(
        connection, ApprovalRow.from_row, BY_POSITION, cursor=cursor, limit=limit, key=lambda row: (row.position,)
    )


async def get_approval(
    connection: Connection, approval_id: UUID, *, client_ids: Tenants, requester: str
) -> ApprovalRow | None:
    """One request, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("approval_id = %s", approval_id)
    _visible(query, client_ids, requester)
    return await query.one(connection, ApprovalRow.from_row)


async def due(connection: Connection, now: datetime, limit: int) -> list[UUID]:
    """Those that wait and whose time is up: for the scheduler, who sees all."""
    query = Query(_SQL["due"])
    query.where("state = 'waiting' AND expires_at <= %s", now)
    return await query.all(connection, lambda row: row[0], "ORDER BY expires_at LIMIT %s", limit)
