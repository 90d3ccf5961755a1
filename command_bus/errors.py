"""What the command bus itself refuses."""

from domain.errors import DomainError


class ForbiddenError(DomainError):
    """Your roles do not cover this; ask for one that does."""

    code = "forbidden"
    status = 403


class UnauthenticatedError(DomainError):
    """No valid API key came with the request; send `Authorization: Bearer <key>`."""

    code = "unauthenticated"
    status = 401


class BusyStreamError(DomainError):
    """Others kept changing the same thing; try again in a moment."""

    code = "busy_stream"
    status = 503


class LoginsBusyError(DomainError):
    """Too many log in at this moment; try again in a moment."""

    code = "logins_busy"
    status = 503
