"""API keys: what programs call with. When each was last used is telemetry, which the API keeps beside the log."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from domain.access import Grant
from domain.api_keys import ApiKeyCreated, ApiKeyRevoked
from domain.event import Event, Recorded
from projections import sql
from projections.pages import BY_POSITION, DEFAULT_LIMIT, Connection, Page, Query, Tenants
from projections.projection import Batch, Projection


class ApiKeyRow(msgspec.Struct, frozen=True):
    api_key_id: UUID
    name: str
    owner_id: UUID | None
    owner: str | None
    """The owner's name."""
    secret_sha256: str
    grants: tuple[Grant, ...] | None
    """None is all that the owner may."""
    expires_at: datetime | None
    unattended: bool
    """Nobody is asked for a fresh proof of it."""
    revoked_at: datetime | None
    created_at: datetime
    created_by: str
    position: int
    version: int
    last_used_at: datetime | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[5] = None if row[5] is None else msgspec.convert(row[5], tuple[Grant, ...])
        return cls(*cells)


class ApiKeys(Projection):
    name: ClassVar[str] = "api_keys"
    version: ClassVar[int] = 3
    folds: ClassVar[tuple[type[Event], ...]] = (ApiKeyCreated, ApiKeyRevoked)

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        keys, version = batch["api_keys"], recorded.originator_version
        match recorded.event:
            case ApiKeyCreated() as event:
                keys.insert(
                    recorded.originator_id,
                    name=event.name,
                    owner_id=event.owner_id,
                    secret_sha256=event.secret_sha256,
                    grants=event.grants,
                    client_ids=_clients(event),
                    expires_at=event.expires_at,
                    unattended=event.unattended,
                    revoked_at=None,
                    created_at=recorded.recorded_at,
                    created_by=recorded.actor,
                    position=recorded.position,
                    version=version,
                )
            case ApiKeyRevoked():
                keys.update(recorded.originator_id, revoked_at=recorded.recorded_at, version=version)


def _clients(event: ApiKeyCreated) -> list[UUID] | None:
    """All clients that it could reach by itself; None where that is everything, or what its owner may."""
    if event.grants is None or any(grant.everything for grant in event.grants):
        return None
    return sorted({client_id for grant in event.grants for client_id in grant.scope.known_clients})


_SQL = sql.load("api_keys")


def _only_within(query: Query, client_ids: Tenants) -> None:
    """Who sees some tenants alone sees the keys that reach no others."""
    if client_ids is not None and not client_ids.everything:
        query.where("client_ids <@ %s", Jsonb([str(client_id) for client_id in client_ids.clients]))


async def list_api_keys(
    connection: Connection,
    *,
    client_ids: Tenants,
    owner_id: UUID | None = None,
    between: tuple[UUID, UUID] | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[ApiKeyRow]:
    """API keys, newest first.

    Args:
        connection: to the database.
        client_ids: the tenants that the caller sees.
        owner_id: only those of this user or service account.
        between: only those with these ids, and the ones in between.
        cursor: of the page before.
        limit: at most so many.
    """
    query = Query(_SQL["select"])
    _only_within(query, client_ids)
    if owner_id is not None:
        query.where("owner_id = %s", owner_id)
    if between is not None:
        query.where("api_key_id >= %s", between[0])
        query.where("api_key_id <= %s", between[1])
    return await query.page(
        connection, ApiKeyRow.from_row, BY_POSITION, cursor=cursor, limit=limit, key=lambda row: (row.position,)
    )


async def get_api_key(connection: Connection, api_key_id: UUID, *, client_ids: Tenants) -> ApiKeyRow | None:
    """One key, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("api_key_id = %s", api_key_id)
    _only_within(query, client_ids)
    return await query.one(connection, ApiKeyRow.from_row)
