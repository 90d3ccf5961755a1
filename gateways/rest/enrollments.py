"""Machines that wait for approval."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.intents.enrollments import ApproveEnrollments, RefuseEnrollments
from command_bus.intents.erasures import EraseEnrollment
from domain.agents import Platform
from domain.enrollments import EnrollmentState
from domain.errors import (
    EnrollmentDecidedError,
    EnrollmentExpiredError,
    EnrollmentOpenError,
    ErasedError,
    NotFoundError,
    TokenRevokedError,
    TokenUsedUpError,
    TooManyAgentsError,
)
from domain.permissions import Permission
from domain.personal import ERASED
from gateways.rest.erasures import ErasedAnswer
from gateways.rest.route import Call, Model, PageOf, PageQuery, ReadQuery, Route, found, one, page_of, write
from gateways.rest.tokens import TAG
from projections.enrollments import EnrollmentRow, get_enrollment
from projections.enrollments import list_enrollments as read_enrollments
from schema.fingerprints import key_fingerprint

READS = ("enrollments", "tokens")
_TOO_LATE = (NotFoundError, EnrollmentDecidedError, EnrollmentExpiredError)


class EnrollmentModel(Model):
    """A machine that came by a token that asks for approval. What it says of itself nobody has checked."""

    id: UUID
    state: EnrollmentState
    agent_id: UUID = Field(description="What it is called as an agent, once it is approved; there is none before.")
    hostname: str
    platform: Platform
    arch: str
    agent_version: str
    public_key: str = Field(description="Ed25519, in hex: the machine holds the private half.")
    fingerprint: str = Field(description="SHA-256 of that key, as the machine's console shows it.")
    address: str = Field(description="From where it came, as the server saw it.")
    token_id: UUID
    token_note: str
    client_id: UUID
    site_id: UUID
    requested_at: AwareDatetime
    expires_at: AwareDatetime
    decided_at: AwareDatetime | None
    actor: str = Field(description="Who decided; empty while it waits.")
    erased: bool = Field(description="What it said of itself is erased for good.")
    reason: str = Field(description="Why it was decided so, where that was said; `time` or `token_revoked` if expired.")
    version: int


class EnrollmentsDecided(Model):
    """All of them are decided."""

    agents: list[UUID] = Field(description="Who is an agent now; of refused ones, nobody.")
    position: int = Field(description="Of its last event in the log; a read that waits for it sees the change.")
    version: None = None


class EnrollmentsQuery(PageQuery):
    state: EnrollmentState | None = None
    token_id: UUID | None = Field(default=None, description="Only those that came by this token.")


def enrollment_document(row: EnrollmentRow) -> dict[str, Any]:
    """One machine, as `EnrollmentModel` describes it."""
    return {
        "id": row.enrollment_id,
        "state": row.state,
        "agent_id": row.agent_id,
        "hostname": row.hostname,
        "platform": row.platform,
        "arch": row.arch,
        "agent_version": row.agent_version,
        "public_key": row.public_key,
        "fingerprint": key_fingerprint(row.public_key),
        "address": row.address,
        "token_id": row.token_id,
        "token_note": row.token_note or "",
        "client_id": row.client_id,
        "site_id": row.site_id,
        "requested_at": row.requested_at,
        "expires_at": row.expires_at,
        "decided_at": row.decided_at,
        "actor": row.decided_by,
        "erased": row.address == ERASED,
        "reason": row.reason,
        "version": row.version,
    }


async def list_enrollments(call: Call) -> Response:
    query: EnrollmentsQuery = call.query
    async with call.connection() as connection:
        page = await read_enrollments(
            connection,
            client_ids=call.tenants,
            state=query.state,
            token_id=query.token_id,
            cursor=query.cursor,
            limit=query.limit,
        )
    return page_of(page, enrollment_document)


async def show_enrollment(call: Call) -> Response:
    enrollment_id = call.path["enrollment_id"]
    async with call.connection() as connection:
        row = await get_enrollment(connection, enrollment_id, client_ids=call.tenants)
    row = found(row, "enrollment", enrollment_id)
    return one(enrollment_document(row), row.version)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/enrollments",
        needs=Permission.ENROLLMENT_SEE,
        summary="Machines that wait for approval, or waited for it, newest first.",
        tag=TAG,
        handler=list_enrollments,
        query=EnrollmentsQuery,
        response=PageOf[EnrollmentModel],
        reads=READS,
    ),
    write(
        "POST",
        "/enrollments/approve",
        ApproveEnrollments,
        tag=TAG,
        response=EnrollmentsDecided,
        errors=(*_TOO_LATE, TokenRevokedError, TokenUsedUpError, TooManyAgentsError),
        bulk=True,
    ),
    write("POST", "/enrollments/refuse", RefuseEnrollments, tag=TAG, response=EnrollmentsDecided, errors=_TOO_LATE),
    Route(
        method="GET",
        path="/enrollments/{enrollment_id}",
        needs=Permission.ENROLLMENT_SEE,
        summary="One of them.",
        tag=TAG,
        handler=show_enrollment,
        query=ReadQuery,
        response=EnrollmentModel,
        reads=READS,
        etag=True,
    ),
    write(
        "POST",
        "/enrollments/{enrollment_id}/erase",
        EraseEnrollment,
        tag=TAG,
        response=ErasedAnswer,
        errors=(NotFoundError, EnrollmentOpenError, ErasedError),
    ),
)
