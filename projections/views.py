"""Saved views of the fleet."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.event import Event, Recorded
from domain.views import ViewRemoved, ViewSaved
from projections import sql
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query, Tenants
from projections.projection import Batch, Projection


class ViewRow(msgspec.Struct, frozen=True):
    view_id: UUID
    owner: str
    name: str
    query: str
    client_id: UUID | None
    site_id: UUID | None
    sort: str
    columns: tuple[str, ...]
    shared: bool
    saved_at: datetime
    saved_by: str
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[7] = tuple(row[7])
        return cls(*cells)


class Views(Projection):
    name: ClassVar[str] = "views"
    folds: ClassVar[tuple[type[Event], ...]] = (ViewSaved, ViewRemoved)

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        views, key, version = batch["views"], recorded.originator_id, recorded.originator_version
        match recorded.event:
            case ViewSaved() as event:
                cells = {
                    "owner": event.owner,
                    "name": event.name,
                    "sort_key": event.name.casefold(),
                    "query": event.query,
                    "client_id": event.client_id,
                    "site_id": event.site_id,
                    "sort": event.sort,
                    "columns": event.columns,
                    "shared": event.shared,
                    "saved_at": recorded.recorded_at,
                    "saved_by": recorded.actor,
                    "removed_at": None,
                    "version": version,
                }
                (views.insert if version == 1 else views.update)(key, **cells)
            case ViewRemoved():
                views.update(key, removed_at=recorded.recorded_at, version=version)


_SQL = sql.load("views")
_BY_NAME = Order("views.name", "sort_key, view_id", (str, UUID))


def _seen(owner: str, client_ids: Tenants) -> Query:
    """Views that are somebody's own, and those that are shared where they see."""
    query = Query(_SQL["select"])
    query.where("removed_at IS NULL")
    if client_ids is None or client_ids.everything:
        query.where("(owner = %s OR shared)", owner)
    else:
        query.where(
            "(owner = %s OR shared"
            " AND (client_id IS NULL OR client_id = ANY(%s::uuid[]) OR site_id = ANY(%s::uuid[])))",
            owner,
            list(client_ids.clients),
            list(client_ids.site_ids),
        )
    return query


async def list_views(
    connection: Connection,
    *,
    owner: str,
    client_ids: Tenants,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[ViewRow]:
    """Views by name: the owner's own, and those that are shared where they see."""
    return await _seen(owner, client_ids).page(
        connection,
        ViewRow.from_row,
        _BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.view_id),
    )


async def get_view(connection: Connection, view_id: UUID, *, owner: str, client_ids: Tenants) -> ViewRow | None:
    """One view, or None if there is none that they see."""
    query = _seen(owner, client_ids)
    query.where("view_id = %s", view_id)
    return await query.one(connection, ViewRow.from_row)
