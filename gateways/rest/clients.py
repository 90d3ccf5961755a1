"""Clients and their sites."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.intents.clients import CreateClient, CreateSite, RenameClient, RenameSite
from domain.errors import NameTakenError, NotFoundError
from domain.permissions import Permission
from gateways.rest.route import Call, Model, PageOf, PageQuery, ReadQuery, Route, found, one, page_of, write
from projections.agents import PlaceCounts, count_at_clients, count_at_sites
from projections.clients import ClientRow, SiteRow, get_client, get_site
from projections.clients import list_clients as read_clients
from projections.clients import list_sites as read_sites

TAG = "Clients"
READS = ("clients", "agents")


class ClientModel(Model):
    """A customer."""

    id: UUID
    name: str
    agents: int = Field(description="That are not retired.")
    online: int = Field(description="Of these.")
    created_at: AwareDatetime
    version: int


class SiteModel(Model):
    """A location of a client; agents belong to one."""

    id: UUID
    client_id: UUID
    name: str
    agents: int = Field(description="That are not retired.")
    online: int = Field(description="Of these.")
    created_at: AwareDatetime
    version: int


NONE = PlaceCounts()


def client_document(row: ClientRow, counted: PlaceCounts) -> dict[str, Any]:
    """One client, as `ClientModel` describes it."""
    return {
        "id": row.client_id,
        "name": row.name,
        "agents": counted.agents,
        "online": counted.online,
        "created_at": row.created_at,
        "version": row.version,
    }


def site_document(row: SiteRow, counted: PlaceCounts) -> dict[str, Any]:
    """One site, as `SiteModel` describes it."""
    return {
        "id": row.site_id,
        "client_id": row.client_id,
        "name": row.name,
        "agents": counted.agents,
        "online": counted.online,
        "created_at": row.created_at,
        "version": row.version,
    }


async def list_clients(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_clients(connection, client_ids=call.tenants, cursor=query.cursor, limit=query.limit)
        ids = [row.client_id for row in page.items]
        counted = await count_at_clients(connection, ids, client_ids=call.tenants)
    return page_of(page, lambda row: client_document(row, counted.get(row.client_id, NONE)))


async def show_client(call: Call) -> Response:
    client_id = call.path["client_id"]
    async with call.connection() as connection:
        row = found(await get_client(connection, client_id, client_ids=call.tenants), "client", client_id)
        counted = await count_at_clients(connection, [client_id], client_ids=call.tenants)
    return one(client_document(row, counted.get(client_id, NONE)), row.version)


async def _sites(call: Call, client_id: UUID | None = None) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        if client_id is not None:
            found(await get_client(connection, client_id, client_ids=call.tenants), "client", client_id)
        page = await read_sites(
            connection, client_ids=call.tenants, client_id=client_id, cursor=query.cursor, limit=query.limit
        )
        counted = await count_at_sites(connection, [row.site_id for row in page.items], client_ids=call.tenants)
    return page_of(page, lambda row: site_document(row, counted.get(row.site_id, NONE)))


async def list_sites(call: Call) -> Response:
    return await _sites(call)


async def list_sites_of_client(call: Call) -> Response:
    return await _sites(call, call.path["client_id"])


async def show_site(call: Call) -> Response:
    site_id = call.path["site_id"]
    async with call.connection() as connection:
        row = found(await get_site(connection, site_id, client_ids=call.tenants), "site", site_id)
        counted = await count_at_sites(connection, [site_id], client_ids=call.tenants)
    return one(site_document(row, counted.get(site_id, NONE)), row.version)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/clients",
        needs=Permission.CLIENTS_SEE,
        summary="Clients by name.",
        tag=TAG,
        handler=list_clients,
        query=PageQuery,
        response=PageOf[ClientModel],
        reads=READS,
    ),
    write("POST", "/clients", CreateClient, tag=TAG, status=201, location="/clients/{id}", errors=(NameTakenError,)),
    Route(
        method="GET",
        path="/clients/{client_id}",
        needs=Permission.CLIENTS_SEE,
        summary="One client.",
        tag=TAG,
        handler=show_client,
        query=ReadQuery,
        response=ClientModel,
        reads=READS,
        etag=True,
    ),
    write("PATCH", "/clients/{client_id}", RenameClient, tag=TAG, errors=(NotFoundError, NameTakenError)),
    Route(
        method="GET",
        path="/clients/{client_id}/sites",
        needs=Permission.CLIENTS_SEE,
        summary="A client's sites by name.",
        tag=TAG,
        handler=list_sites_of_client,
        query=PageQuery,
        response=PageOf[SiteModel],
        reads=READS,
    ),
    write(
        "POST",
        "/clients/{client_id}/sites",
        CreateSite,
        tag=TAG,
        status=201,
        location="/sites/{id}",
        errors=(NotFoundError, NameTakenError),
    ),
    Route(
        method="GET",
        path="/sites",
        needs=Permission.CLIENTS_SEE,
        summary="All sites by name.",
        tag=TAG,
        handler=list_sites,
        query=PageQuery,
        response=PageOf[SiteModel],
        reads=READS,
    ),
    Route(
        method="GET",
        path="/sites/{site_id}",
        needs=Permission.CLIENTS_SEE,
        summary="One site.",
        tag=TAG,
        handler=show_site,
        query=ReadQuery,
        response=SiteModel,
        reads=READS,
        etag=True,
    ),
    write("PATCH", "/sites/{site_id}", RenameSite, tag=TAG, errors=(NotFoundError, NameTakenError)),
)
