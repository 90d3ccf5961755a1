"""Clients and their sites."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime
from starlette.responses import Response

from command_bus.intents.clients import CreateClient, CreateSite, RenameClient, RenameSite
from domain.errors import NameTakenError, NotFoundError
from domain.permissions import Permission
from gateways.rest.route import Call, Model, PageOf, PageQuery, ReadQuery, Route, found, one, page_of, write
from projections.clients import ClientRow, SiteRow, get_client, get_site
from projections.clients import list_clients as read_clients
from projections.clients import list_sites as read_sites

TAG = "Clients"
READS = ("clients",)


class ClientModel(Model):
    """A customer."""

    id: UUID
    name: str
    created_at: AwareDatetime
    version: int


class SiteModel(Model):
    """A location of a client; agents belong to one."""

    id: UUID
    client_id: UUID
    name: str
    created_at: AwareDatetime
    version: int


def client_document(row: ClientRow) -> dict[str, Any]:
    return {"id": row.client_id, "name": row.name, "created_at": row.created_at, "version": row.version}


def site_document(row: SiteRow) -> dict[str, Any]:
    return {
        "id": row.site_id,
        "client_id": row.client_id,
        "name": row.name,
        "created_at": row.created_at,
        "version": row.version,
    }


async def list_clients(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_clients(connection, client_ids=call.tenants, cursor=query.cursor, limit=query.limit)
    return page_of(page, client_document)


async def show_client(call: Call) -> Response:
    client_id = call.path["client_id"]
    async with call.connection() as connection:
        row = found(await get_client(connection, client_id, client_ids=call.tenants), "client", client_id)
    return one(client_document(row), row.version)


async def list_sites(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_sites(connection, client_ids=call.tenants, cursor=query.cursor, limit=query.limit)
    return page_of(page, site_document)


async def list_sites_of_client(call: Call) -> Response:
    query: PageQuery = call.query
    client_id = call.path["client_id"]
    async with call.connection() as connection:
        found(await get_client(connection, client_id, client_ids=call.tenants), "client", client_id)
        page = await read_sites(
            connection, client_ids=call.tenants, client_id=client_id, cursor=query.cursor, limit=query.limit
        )
    return page_of(page, site_document)


async def show_site(call: Call) -> Response:
    site_id = call.path["site_id"]
    async with call.connection() as connection:
        row = found(await get_site(connection, site_id, client_ids=call.tenants), "site", site_id)
    return one(site_document(row), row.version)


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
