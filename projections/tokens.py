"""Enrollment tokens, without their secrets' hashes: those are for the handler that checks them, out of the log."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.event import Event, Recorded
from domain.tokens import EnrollmentTokenCreated, EnrollmentTokenRevoked, EnrollmentTokenUsed, GuardedTokenCreated
from projections import sql
from projections.pages import BY_POSITION, DEFAULT_LIMIT, Connection, Page, Query, Tenants
from projections.projection import Batch, Projection


class TokenRow(msgspec.Struct, frozen=True):
    token_id: UUID
    client_id: UUID
    site_id: UUID
    max_uses: int
    uses: int
    expires_at: datetime
    note: str
    revoked_at: datetime | None
    created_at: datetime
    created_by: str
    position: int
    version: int
    wait_s: int | None
    """How long a machine waits for approval; None where it needs none."""
    waiting: int
    """How many wait now."""

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        return cls(*row)


class Tokens(Projection):
    name: ClassVar[str] = "tokens"
    folds: ClassVar[tuple[type[Event], ...]] = (
        EnrollmentTokenCreated,
        GuardedTokenCreated,
        EnrollmentTokenUsed,
        EnrollmentTokenRevoked,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        tokens, version = batch["tokens"], recorded.originator_version
        match recorded.event:
            case (EnrollmentTokenCreated() | GuardedTokenCreated()) as event:
                tokens.insert(
                    recorded.originator_id,
                    client_id=event.client_id,
                    site_id=event.site_id,
                    max_uses=event.max_uses,
                    uses=0,
                    expires_at=event.expires_at,
                    note=event.note,
                    revoked_at=None,
                    created_at=recorded.recorded_at,
                    created_by=recorded.actor,
                    position=recorded.position,
                    version=version,
                    wait_s=event.wait_s if isinstance(event, GuardedTokenCreated) else None,
                )
            case EnrollmentTokenUsed():
                # A stream is created once, then used, and not used any more once revoked: so its version counts the
                # uses, and no row has to be read to add one.
                tokens.update(recorded.originator_id, uses=version - 1, version=version)
            case EnrollmentTokenRevoked():
                tokens.update(recorded.originator_id, revoked_at=recorded.recorded_at, version=version)


_SQL = sql.load("tokens")


async def list_tokens(
    connection: Connection,
    *,
    client_ids: Tenants,
    site_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[TokenRow]:
    """Enrollment tokens, newest first."""
    query = Query(_SQL["select"])
    query.tenants("client_id", client_ids, site="site_id")
    if site_id is not None:
        query.where("site_id = %s", site_id)
    return await query.page(
        connection, TokenRow.from_row, BY_POSITION, cursor=cursor, limit=limit, key=lambda row: (row.position,)
    )


async def get_token(connection: Connection, token_id: UUID, *, client_ids: Tenants) -> TokenRow | None:
    """One token, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("token_id = %s", token_id)
    query.tenants("client_id", client_ids, site="site_id")
    return await query.one(connection, TokenRow.from_row)
