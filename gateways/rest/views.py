"""Saved views of the fleet: one's own, and those that others share."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.handlers.views import owner_of
from command_bus.intents.views import ChangeView, RemoveView, SaveView
from domain.errors import InvalidValueError, NotFoundError
from domain.permissions import Permission
from gateways.rest.route import Call, Model, PageOf, PageQuery, ReadQuery, Route, found, one, page_of, write
from projections.views import ViewRow, get_view
from projections.views import list_views as read_views

TAG = "Views"
READS = ("views",)


class ViewModel(Model):
    """A view of the fleet, saved under a name."""

    id: UUID
    name: str
    query: str = Field(description="As typed into the dashboard's search box.")
    client_id: UUID | None
    site_id: UUID | None
    sort: str
    columns: list[str] = Field(description="Empty: those that each person has chosen.")
    shared: bool
    own: bool = Field(description="It is the caller's own, or their user's.")
    saved_at: AwareDatetime
    actor: str = Field(description="Who saved it as it is.")
    version: int


def view_document(row: ViewRow, owner: str) -> dict[str, Any]:
    """One view, as `ViewModel` describes it."""
    return {
        "id": row.view_id,
        "name": row.name,
        "query": row.query,
        "client_id": row.client_id,
        "site_id": row.site_id,
        "sort": row.sort,
        "columns": row.columns,
        "shared": row.shared,
        "own": row.owner == owner,
        "saved_at": row.saved_at,
        "actor": row.saved_by,
        "version": row.version,
    }


async def list_views(call: Call) -> Response:
    query: PageQuery = call.query
    owner = owner_of(call.caller)
    async with call.connection() as connection:
        page = await read_views(
            connection, owner=owner, client_ids=call.tenants, cursor=query.cursor, limit=query.limit
        )
    return page_of(page, lambda row: view_document(row, owner))


async def show_view(call: Call) -> Response:
    view_id, owner = call.path["view_id"], owner_of(call.caller)
    async with call.connection() as connection:
        row = found(await get_view(connection, view_id, owner=owner, client_ids=call.tenants), "view", view_id)
    return one(view_document(row, owner), row.version)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/views",
        needs=Permission.AGENTS_SEE,
        summary="Saved views by name: one's own, and those that are shared.",
        tag=TAG,
        handler=list_views,
        query=PageQuery,
        response=PageOf[ViewModel],
        reads=READS,
    ),
    write(
        "POST",
        "/views",
        SaveView,
        tag=TAG,
        status=201,
        location="/views/{id}",
        errors=(NotFoundError, InvalidValueError),
    ),
    Route(
        method="GET",
        path="/views/{view_id}",
        needs=Permission.AGENTS_SEE,
        summary="One saved view.",
        tag=TAG,
        handler=show_view,
        query=ReadQuery,
        response=ViewModel,
        reads=READS,
        etag=True,
    ),
    write("PUT", "/views/{view_id}", ChangeView, tag=TAG, errors=(NotFoundError, InvalidValueError)),
    write("POST", "/views/{view_id}/remove", RemoveView, tag=TAG, errors=(NotFoundError,)),
)
