"""Clients and their sites."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.clients import ClientCreated, ClientRenamed
from domain.event import Event, Recorded
from domain.sites import SiteCreated, SiteRenamed
from projections import sql
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query, Tenants
from projections.projection import Batch, Projection


class ClientRow(msgspec.Struct, frozen=True):
    client_id: UUID
    name: str
    created_at: datetime
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        return cls(*row)


class SiteRow(msgspec.Struct, frozen=True):
    site_id: UUID
    client_id: UUID
    name: str
    created_at: datetime
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        return cls(*row)


class Clients(Projection):
    name: ClassVar[str] = "clients"
    folds: ClassVar[tuple[type[Event], ...]] = (ClientCreated, ClientRenamed, SiteCreated, SiteRenamed)

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        key, version = recorded.originator_id, recorded.originator_version
        match recorded.event:
            case ClientCreated(name=name):
                batch["clients"].insert(
                    key, name=name, sort_key=name.casefold(), created_at=recorded.recorded_at, version=version
                )
            case ClientRenamed(name=name):
                batch["clients"].update(key, name=name, sort_key=name.casefold(), version=version)
            case SiteCreated(client_id=client_id, name=name):
                batch["sites"].insert(
                    key,
                    client_id=client_id,
                    name=name,
                    sort_key=name.casefold(),
                    created_at=recorded.recorded_at,
                    version=version,
                )
            case SiteRenamed(name=name):
                batch["sites"].update(key, name=name, sort_key=name.casefold(), version=version)


_SQL = sql.load("clients")
_CLIENTS_BY_NAME = Order("clients.name", "sort_key, client_id", (str, UUID))
_SITES_BY_NAME = Order("sites.name", "sort_key, site_id", (str, UUID))


def _known(query: Query, client_ids: Tenants) -> None:
    """Whoever sees a site knows whose it is."""
    query.tenants("client_id", None if client_ids is None else client_ids.with_their_clients())


async def list_clients(
    connection: Connection,
    *,
    client_ids: Tenants,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[ClientRow]:
    """Clients by name.

    Args:
        connection: to the database.
        client_ids: the tenants that the caller sees.
        cursor: of the page before.
        limit: at most so many.
    """
    query = Query(_SQL["select_clients"])
    _known(query, client_ids)
    return await query.page(
        connection,
        ClientRow.from_row,
        _CLIENTS_BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.client_id),
    )


async def get_client(connection: Connection, client_id: UUID, *, client_ids: Tenants) -> ClientRow | None:
    """One client, or None if there is none that the caller sees."""
    query = Query(_SQL["select_clients"])
    query.where("client_id = %s", client_id)
    _known(query, client_ids)
    return await query.one(connection, ClientRow.from_row)


async def list_sites(
    connection: Connection,
    *,
    client_ids: Tenants,
    client_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[SiteRow]:
    """Sites by name, of one client or of all that the caller sees."""
    query = Query(_SQL["select_sites"])
    query.tenants("client_id", client_ids, site="site_id")
    if client_id is not None:
        query.where("client_id = %s", client_id)
    return await query.page(
        connection,
        SiteRow.from_row,
        _SITES_BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.site_id),
    )


async def get_site(connection: Connection, site_id: UUID, *, client_ids: Tenants) -> SiteRow | None:
    """One site, or None if there is none that the caller sees."""
    query = Query(_SQL["select_sites"])
    query.where("site_id = %s", site_id)
    query.tenants("client_id", client_ids, site="site_id")
    return await query.one(connection, SiteRow.from_row)
