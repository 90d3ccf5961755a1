"""Requests that wait for another person."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.intents.approvals import ApproveRequest, RefuseRequest, WithdrawRequest
from domain.approvals import ApprovalState
from domain.errors import (
    ApprovalDecidedError,
    ApprovalExpiredError,
    NotFoundError,
    OwnApprovalError,
    PersonNeededError,
    TooManyAgentsError,
)
from domain.permissions import Permission
from gateways.rest.route import Answer, Call, Model, PageOf, PageQuery, ReadQuery, Route, found, one, page_of, write
from projections.approvals import ApprovalRow, get_approval
from projections.approvals import list_approvals as read_approvals

TAG = "Approvals"
READS = ("approvals", "users")
_TOO_LATE = (NotFoundError, ApprovalDecidedError, ApprovalExpiredError)
_NOT_ANOTHER = (OwnApprovalError, PersonNeededError)


class ApprovalModel(Model):
    """What somebody asked for, and whether another person allowed it."""

    id: UUID
    state: ApprovalState
    intent: str = Field(description="What kind of request it is.")
    request: dict[str, Any] = Field(description="As it was made.")
    why: str = Field(description="What made another person necessary.")
    agents: int | None = Field(description="How many it would touch; an approval allows no more.")
    actor: str = Field(description="Who asked.")
    user_id: UUID | None
    user: str | None = Field(description="The name of who asked.")
    decided_by: UUID | None
    decider: str | None = Field(description="The name of who decided.")
    reason: str = Field(description="Why it was decided so, where that was said.")
    requested_at: AwareDatetime
    expires_at: AwareDatetime
    decided_at: AwareDatetime | None
    correlation_id: UUID
    version: int


class DecidedAnswer(Answer):
    """A request that is decided."""

    state: ApprovalState
    answer: dict[str, Any] | None = Field(description="Of what was asked for, where that is done now.")


class ApprovalsQuery(PageQuery):
    state: ApprovalState | None = None


def approval_document(row: ApprovalRow) -> dict[str, Any]:
    """One request, as `ApprovalModel` describes it."""
    return {
        "id": row.approval_id,
        "state": row.state,
        "intent": row.intent,
        "request": row.request,
        "why": row.why,
        "agents": row.agents,
        "actor": row.requester,
        "user_id": row.user_id,
        "user": row.user,
        "decided_by": row.decided_by,
        "decider": row.decider,
        "reason": row.reason,
        "requested_at": row.requested_at,
        "expires_at": row.expires_at,
        "decided_at": row.decided_at,
        "correlation_id": row.correlation_id,
        "version": row.version,
    }


async def list_approvals(call: Call) -> Response:
    query: ApprovalsQuery = call.query
    async with call.connection() as connection:
        page = await read_approvals(
            connection,
            client_ids=call.tenants,
            requester=call.caller.actor,
            state=query.state,
            cursor=query.cursor,
            limit=query.limit,
        )
    return page_of(page, approval_document)


async def show_approval(call: Call) -> Response:
    approval_id = call.path["approval_id"]
    async with call.connection() as connection:
        row = await get_approval(connection, approval_id, client_ids=call.tenants, requester=call.caller.actor)
    row = found(row, "request", approval_id)
    return one(approval_document(row), row.version)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/approvals",
        needs=Permission.APPROVALS_SEE,
        summary="Requests that wait, or waited, for another person, newest first.",
        tag=TAG,
        handler=list_approvals,
        query=ApprovalsQuery,
        response=PageOf[ApprovalModel],
        reads=READS,
    ),
    Route(
        method="GET",
        path="/approvals/{approval_id}",
        needs=Permission.APPROVALS_SEE,
        summary="One request.",
        tag=TAG,
        handler=show_approval,
        query=ReadQuery,
        response=ApprovalModel,
        reads=READS,
        etag=True,
    ),
    write(
        "POST",
        "/approvals/{approval_id}/approve",
        ApproveRequest,
        tag=TAG,
        response=DecidedAnswer,
        errors=(*_TOO_LATE, *_NOT_ANOTHER, TooManyAgentsError),
        bulk=True,
    ),
    write(
        "POST",
        "/approvals/{approval_id}/refuse",
        RefuseRequest,
        tag=TAG,
        response=DecidedAnswer,
        errors=(*_TOO_LATE, *_NOT_ANOTHER),
    ),
    write(
        "POST", "/approvals/{approval_id}/withdraw", WithdrawRequest, tag=TAG, response=DecidedAnswer, errors=_TOO_LATE
    ),
)
