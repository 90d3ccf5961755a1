"""What HTTP adds to the ways in which a request can be wrong."""

from collections.abc import Mapping, Sequence

import msgspec

from domain.errors import DomainError


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one place of a request."""

    pointer: str
    """JSON Pointer (RFC 6901) into the body, or ``?name`` for a query parameter."""
    detail: str
    code: str


class ApiError(DomainError):
    """A request that no part of the domain ever saw."""

    def __init__(
        self, detail: str | None = None, *, headers: Mapping[str, str] | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.errors = tuple(errors)


class MalformedJsonError(ApiError):
    """The body is not JSON in UTF-8."""

    code = "malformed_json"
    status = 400


class MalformedHeaderError(ApiError):
    """A request header cannot be read."""

    code = "malformed_header"
    status = 400


class NotOfPastError(ApiError):
    """This cannot be asked as of an earlier time: it changes something, follows what comes, or is about now alone."""

    code = "not_of_past"
    status = 400


class NoSuchRouteError(ApiError):
    """Nothing lives at this address; see /docs for what does."""

    code = "no_such_route"
    status = 404


class NoOutputError(ApiError):
    """The command has no such output to show: none of its attempts has reported a result."""

    code = "no_output"
    status = 404


class NotCheckpointedError(ApiError):
    """The event is in the log, and under no signed checkpoint yet; come again when the next one was made."""

    code = "not_checkpointed"
    status = 409


class MethodNotAllowedError(ApiError):
    """This address does not take that method; the Allow header lists those that it takes."""

    code = "method_not_allowed"
    status = 405


class BodyTooLargeError(ApiError):
    """The body is larger than this server takes."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaTypeError(ApiError):
    """Send the body as application/json."""

    code = "unsupported_media_type"
    status = 415


class InvalidRequestError(ApiError):
    """Some fields are not as the document at /openapi.json says; each is listed under errors."""

    code = "invalid_request"
    status = 422


class PositionAheadError(ApiError):
    """The log has not come to that position, so no read can have seen it."""

    code = "position_ahead"
    status = 422


class CrossSiteError(ApiError):
    """The request comes from a page of another site, or without a browser's word on where it comes from."""

    code = "cross_site"
    status = 403


class NoCsrfTokenError(ApiError):
    """A change by cookie needs the header X-CSRF-Token, with what `GET /session` shows as `csrf_token`."""

    code = "no_csrf_token"
    status = 403


class HttpsNeededError(ApiError):
    """A browser logs in over https, or on this very machine; elsewhere its cookie would travel for all to read."""

    code = "https_needed"
    status = 403


class TooManyFailuresError(ApiError):
    """Too many wrong API keys came from this address; wait, and check the key."""

    code = "too_many_failures"
    status = 429


class TooManyRequestsError(ApiError):
    """This API key asks for too much at once or too often; nothing was done. Come again after Retry-After seconds."""

    code = "too_many_requests"
    status = 429


class BodyTimeoutError(ApiError):
    """The body took too long to arrive; nothing was done."""

    code = "body_timeout"
    status = 408


class InternalError(ApiError):
    """Something went wrong on our side; the server's log tells more under the id given as instance."""

    code = "internal_error"
    status = 500


class UndecodableError(ApiError):
    """The log holds an event, of what was asked for, that this server cannot read: it is newer than it, or damaged."""

    code = "undecodable_event"
    status = 500


class StartingError(ApiError):
    """The server is still starting, or waiting for its database; try again in a moment."""

    code = "starting"
    status = 503


class OverloadedError(ApiError):
    """The server has more to do than it can take; nothing was done. Come again after Retry-After seconds."""

    code = "overloaded"
    status = 503


class UnavailableError(ApiError):
    """The database cannot be reached; nothing was recorded. Try again in a moment."""

    code = "log_unavailable"
    status = 503


class UncertainError(ApiError):
    """The connection broke during the commit: look whether it is recorded, or repeat it with its Idempotency-Key."""

    code = "outcome_unknown"
    status = 503


class BehindError(ApiError):
    """The read model has not come to that position in time; try again in a moment."""

    code = "projection_behind"
    status = 503
