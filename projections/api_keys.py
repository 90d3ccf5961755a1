"""API keys: who may call."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from domain.api_keys import ApiKeyCreated, ApiKeyRevoked, Role
from domain.event import Event, Recorded
from projections import sql
from projections.pages import BY_POSITION, DEFAULT_LIMIT, Connection, Page, Query, Tenants, as_uuid_tuple
from projections.projection import Batch, Projection


class ApiKeyRow(msgspec.Struct, frozen=True):
    api_key_id: UUID
    name: str
    role: Role
    secret_sha256: str
    client_ids: tuple[UUID, ...] | None
    """The tenants it sees; None sees all."""
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    created_by: str
    position: int
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[2], cells[4] = Role(row[2]), as_uuid_tuple(row[4])
        return cls(*cells)


class ApiKeys(Projection):
    name: ClassVar[str] = "api_keys"
    folds: ClassVar[tuple[type[Event], ...]] = (ApiKeyCreated, ApiKeyRevoked)

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        keys, version = batch["api_keys"], recorded.originator_version
        match recorded.event:
            case ApiKeyCreated() as event:
                keys.insert(
                    recorded.originator_id,
                    name=event.name,
                    role=event.role,
                    secret_sha256=event.secret_sha256,
                    client_ids=event.client_ids,
                    expires_at=event.expires_at,
                    revoked_at=None,
                    created_at=recorded.recorded_at,
                    created_by=recorded.actor,
                    position=recorded.position,
                    version=version,
                )
            case ApiKeyRevoked():
                keys.update(recorded.originator_id, revoked_at=recorded.recorded_at, version=version)


_SQL = sql.load("api_keys")


def _only_within(query: Query, client_ids: Tenants) -> None:
    """A tenant's administrator sees the keys that open no more than what they see themselves."""
    if client_ids is not None:
        query.where("client_ids <@ %s", Jsonb([str(client_id) for client_id in client_ids]))


async def list_api_keys(
    connection: Connection, *, client_ids: Tenants, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[ApiKeyRow]:
    """API keys, newest first."""
    query = Query(_SQL["select"])
    _only_within(query, client_ids)
    return await query.page(
        connection, ApiKeyRow.from_row, BY_POSITION, cursor=cursor, limit=limit, key=lambda row: (row.position,)
    )


async def get_api_key(connection: Connection, api_key_id: UUID, *, client_ids: Tenants) -> ApiKeyRow | None:
    """One key, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("api_key_id = %s", api_key_id)
    _only_within(query, client_ids)
    return await query.one(connection, ApiKeyRow.from_row)
