"""Enrollment tokens."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.intents.tokens import CreateEnrollmentToken, RevokeEnrollmentToken
from domain.errors import ExpiryInPastError, NotFoundError, TokenRevokedError
from domain.permissions import Permission
from domain.tokens import Approval
from gateways.rest.route import Answer, Call, Model, PageOf, PageQuery, Route, page_of, write
from projections.tokens import TokenRow
from projections.tokens import list_tokens as read_tokens

TAG = "Enrollment"


class TokenModel(Model):
    """What lets machines into one site, so many times, until a date. Its text is not kept."""

    id: UUID
    client_id: UUID
    site_id: UUID
    max_uses: int
    uses: int = Field(description="Machines that came in; those that wait are not counted.")
    expires_at: AwareDatetime
    note: str
    approval: Approval = Field(description="`required`: a machine that comes waits until somebody approves it.")
    wait_s: int | None = Field(description="How long it waits at the most; null where it needs no approval.")
    waiting: int = Field(description="How many machines wait now.")
    revoked: bool
    revoked_at: AwareDatetime | None
    created_at: AwareDatetime
    actor: str = Field(description="Who made it.")
    version: int


class TokenCreated(Answer):
    """A new enrollment token."""

    token: str | None = Field(
        default=None,
        description="What a machine enrolls with. Shown this once: a repeat with the same Idempotency-Key has none.",
    )


def token_document(row: TokenRow) -> dict[str, Any]:
    return {
        "id": row.token_id,
        "client_id": row.client_id,
        "site_id": row.site_id,
        "max_uses": row.max_uses,
        "uses": row.uses,
        "expires_at": row.expires_at,
        "note": row.note,
        "approval": Approval.NONE if row.wait_s is None else Approval.REQUIRED,
        "wait_s": row.wait_s,
        "waiting": row.waiting,
        "revoked": row.revoked_at is not None,
        "revoked_at": row.revoked_at,
        "created_at": row.created_at,
        "actor": row.created_by,
        "version": row.version,
    }


async def list_tokens(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_tokens(connection, client_ids=call.tenants, cursor=query.cursor, limit=query.limit)
    return page_of(page, token_document)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/enrollment-tokens",
        needs=Permission.ENROLLMENT_SEE,
        summary="Enrollment tokens, newest first.",
        tag=TAG,
        handler=list_tokens,
        query=PageQuery,
        response=PageOf[TokenModel],
        reads=("tokens", "enrollments"),
    ),
    write(
        "POST",
        "/enrollment-tokens",
        CreateEnrollmentToken,
        tag=TAG,
        status=201,
        response=TokenCreated,
        errors=(NotFoundError, ExpiryInPastError),
    ),
    write(
        "POST",
        "/enrollment-tokens/{token_id}/revoke",
        RevokeEnrollmentToken,
        tag=TAG,
        errors=(NotFoundError, TokenRevokedError),
    ),
)
