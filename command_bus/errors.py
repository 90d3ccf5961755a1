"""What the command bus itself refuses."""

from domain.errors import DomainError


class ForbiddenError(DomainError):
    """Your roles do not cover this; ask for one that does."""

    code = "forbidden"
    status = 403


class UnauthenticatedError(DomainError):
    """No valid API key or session came with the request; send `Authorization: Bearer <key>`, or log in."""

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


class LoginRefusedError(UnauthenticatedError):
    """Name, password or code are not right; which of them is not said. At the first login leave the code out."""

    code = "login_refused"
    status = 401


class ProofRefusedError(DomainError):
    """Password or code are not right, or the code was used before; wait for the next one."""

    code = "proof_refused"
    status = 403


class LockedOutError(DomainError):
    """Too many attempts were wrong; nothing was compared. Come again after Retry-After seconds."""

    code = "locked_out"
    status = 429


class NoSessionError(DomainError):
    """This is for people who have logged in; an API key has no session."""

    code = "no_session"
    status = 409


class LoginIncompleteError(DomainError):
    """First change your password and enroll a second factor (`fleetlog login` does both); until then this waits."""

    code = "login_incomplete"
    status = 403


class FreshProofNeededError(DomainError):
    """This can do harm, so show once more that it is you (`POST /session/proof`, or by passkey), then repeat it."""

    code = "fresh_proof_needed"
    status = 403


class SsoOffError(DomainError):
    """Nobody logs in through a provider here: set FLEETLOG_OIDC_ISSUER and FLEETLOG_OIDC_CLIENT_ID first."""

    code = "sso_off"
    status = 409


class SsoRefusedError(UnauthenticatedError):
    """The provider's answer opens nothing here; begin the login anew. What was wrong is in the log."""

    code = "sso_refused"
    status = 401


class LogoutRefusedError(DomainError):
    """The logout token does not hold, or was taken before. What was wrong is in the log."""

    code = "logout_refused"
    status = 400


class CodeNeededError(DomainError):
    """A code from your second factor (or a recovery code) is needed as well; repeat it with one."""

    code = "code_needed"
    status = 403


class IdentityNotLinkedError(DomainError):
    """The provider knows you, and no user here is linked to you; an administrator links one."""

    code = "identity_not_linked"
    status = 403


class ProviderUnavailableError(DomainError):
    """The provider that people log in through cannot be asked; try again in a moment, or log in with a password."""

    code = "provider_unavailable"
    status = 503
