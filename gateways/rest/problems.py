"""Everything that goes wrong becomes one problem document (RFC 9457) with a code that never changes."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
import psycopg
from prometheus_client import Counter
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLogError, OutcomeUnknownError
from domain.codec import UndecodableEventError
from domain.errors import ApprovalAwaitedError, DomainError
from gateways.rest.errors import (
    ApiError,
    BodyTooLargeError,
    FieldError,
    InternalError,
    MalformedHeaderError,
    MethodNotAllowedError,
    NoSuchRouteError,
    UnavailableError,
    UncertainError,
    UndecodableError,
)
from gateways.rest.observe import correlation_id

MEDIA_TYPE = "application/problem+json"
PROBLEMS = Counter("fleetlog_http_problems", "Requests that were refused or failed.", ["code"])
SERVICE_UNAVAILABLE = 503


class ProblemField(BaseModel):
    """One thing wrong with one place of a request."""

    model_config = ConfigDict(extra="forbid")

    pointer: str = Field(description="JSON Pointer into the body, or `?name` for a query parameter.")
    detail: str
    code: str


class Problem(BaseModel):
    """What went wrong, where, and what to do (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="Where the code is explained.")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    code: str = Field(description="Stable; match on this and on nothing else.")
    instance: str = Field(description="This very request, as the server's log names it.")
    errors: list[ProblemField] | None = Field(default=None, description="Each field that is wrong.")
    approval_id: UUID | None = Field(default=None, description="Of the request that waits for another person.")
    secret: str | None = Field(
        default=None,
        description="Of a key that waits for another person: shown this once, it opens nothing until then.",
    )


def problem_response(request: Request, error: DomainError, **more: object) -> Response:
    """An error as its problem document, counted.

    Args:
        request: that went wrong.
        error: how.
        more: members of the document beyond those of every problem.
    """
    PROBLEMS.labels(error.code).inc()
    headers: dict[str, str] = {}
    errors: Sequence[FieldError] = ()
    if isinstance(error, ApiError):
        headers |= error.headers
        errors = error.errors
    if "retry_after_s" in error.extra:
        headers["Retry-After"] = str(error.extra["retry_after_s"])
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = 'Bearer realm="fleetlog"'
    if error.status == SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", "1")
    document: dict[str, object] = {
        "type": f"/docs#{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "instance": f"urn:uuid:{correlation_id(request.scope)}",
    }
    if errors:
        document["errors"] = errors
    document |= more
    return Response(msgspec.json.encode(document), error.status, headers, MEDIA_TYPE)


def from_http(error: HTTPException) -> DomainError:
    """What Starlette itself refuses, in our words."""
    headers: Mapping[str, str] | None = error.headers
    match error.status_code:
        case 404:
            return NoSuchRouteError()
        case 405:
            return MethodNotAllowedError(headers=headers)
        case 413:
            return BodyTooLargeError()
        case status if status < 500:  # noqa: PLR2004
            return MalformedHeaderError(error.detail)
        case _:
            return InternalError()


def from_outage(error: Exception) -> DomainError:
    """A database that is away: the caller is asked to come again."""
    return UncertainError() if isinstance(error, OutcomeUnknownError) else UnavailableError()


OUTAGES = (EventLogError, psycopg.OperationalError, PoolTimeout, PoolClosed, TooManyRequests)


async def on_domain_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, DomainError):
        raise error
    more = error.extra if isinstance(error, ApprovalAwaitedError) else {}
    return problem_response(request, error, **{name: value for name, value in more.items() if value is not None})


async def on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return problem_response(request, from_http(error))


async def on_outage(request: Request, error: Exception) -> Response:
    return problem_response(request, from_outage(error))


async def on_undecodable(request: Request, error: Exception) -> Response:
    if not isinstance(error, UndecodableEventError):
        raise error
    return problem_response(request, UndecodableError(str(error)))
