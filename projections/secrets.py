"""Secrets: which there are, where they count, and who set them when; nothing of their values."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.event import Event, Recorded
from domain.secrets import SecretRemoved, SecretSet
from projections import sql
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query, Tenants
from projections.projection import Batch, Projection


class SecretRow(msgspec.Struct, frozen=True):
    secret_id: UUID
    name: str
    scope: str
    client_id: UUID | None
    site_id: UUID | None
    agent_id: UUID | None
    number: int
    """Of the value: how often it was set."""
    note: str
    created_at: datetime
    set_at: datetime
    set_by: str
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        return cls(*row)


class Secrets(Projection):
    name: ClassVar[str] = "secrets"
    folds: ClassVar[tuple[type[Event], ...]] = (SecretSet, SecretRemoved)

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        secrets, key, version = batch["secrets"], recorded.originator_id, recorded.originator_version
        match recorded.event:
            case SecretSet() as event:
                cells = {
                    "name": event.name,
                    "sort_key": event.name.casefold(),
                    "number": event.number,
                    "note": event.note,
                    "set_at": recorded.recorded_at,
                    "set_by": recorded.actor,
                    "removed_at": None,
                    "version": version,
                }
                if version > 1:
                    secrets.update(key, **cells)
                    return
                scope = event.scope
                secrets.insert(
                    key,
                    scope=str(scope.kind),
                    client_id=scope.client_id,
                    site_id=scope.site_id,
                    agent_id=scope.agent_id,
                    created_at=recorded.recorded_at,
                    **cells,
                )
            case SecretRemoved():
                secrets.update(key, removed_at=recorded.recorded_at, version=version)


_SQL = sql.load("secrets")
_BY_NAME = Order("secrets.name", "sort_key, secret_id", (str, UUID))


def _seen(query: Query, scope: Tenants) -> None:
    """Leave what lies within: a client's, a site's, and those of machines that are in a site now."""
    if scope is None or scope.everything or not scope.sites:
        query.tenants("client_id", scope)
        return
    sites = list(scope.site_ids)
    query.where("client_id = ANY(%s::uuid[])", list(scope.known_clients))
    query.where(
        "(client_id = ANY(%s::uuid[]) OR site_id = ANY(%s::uuid[])"
        " OR agent_id = ANY(ARRAY(SELECT agent_id FROM read.agents WHERE site_id = ANY(%s::uuid[]))))",
        list(scope.clients),
        sites,
        sites,
    )


async def list_secrets(
    connection: Connection, *, client_ids: Tenants, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[SecretRow]:
    """Secrets by name, those of the whole fleet for callers who see all of it."""
    query = Query(_SQL["select"])
    query.where("removed_at IS NULL")
    _seen(query, client_ids)
    return await query.page(
        connection,
        SecretRow.from_row,
        _BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.secret_id),
    )


async def get_secret(connection: Connection, secret_id: UUID, *, client_ids: Tenants) -> SecretRow | None:
    """One secret, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("secret_id = %s", secret_id)
    query.where("removed_at IS NULL")
    _seen(query, client_ids)
    return await query.one(connection, SecretRow.from_row)
