"""What the command line says in one red line, with exit code 2."""

from typing import ClassVar


class CommandLineError(Exception):
    """The command could not be carried out."""

    code: ClassVar[str] = "command_line"

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)

    @property
    def shown_code(self) -> str:
        return self.code


class NoAddressError(CommandLineError):
    """No Fleetlog is known here: start one with `fleetlog up`, or point to one with `fleetlog login URL`."""

    code = "no_address"


class NoKeyError(CommandLineError):
    """No way in is known for that address: `fleetlog login URL`, or set FLEETLOG_API_KEY."""

    code = "no_key"


class NoPlatformError(CommandLineError):
    """No Fleetlog runs on this machine: start it with `fleetlog up`, or set FLEETLOG_POSTGRES_URL."""

    code = "no_platform"


class UnreachableError(CommandLineError):
    """Nothing answers at that address; start it with `fleetlog up`, or point elsewhere with `fleetlog login URL`."""

    code = "unreachable"


class UntrustedError(CommandLineError):
    """The server does not show a certificate that is trusted."""

    code = "untrusted"


class NotFoundHereError(CommandLineError):
    """Nothing goes by that name."""

    code = "not_found"


class AmbiguousError(CommandLineError):
    """More than one thing goes by that name; use the id."""

    code = "ambiguous"


class BadValueError(CommandLineError):
    """A value on the command line cannot be understood."""

    code = "bad_value"


class LostSecretError(CommandLineError):
    """A secret is shown once, and that answer was lost on its way; make another, and revoke this one."""

    code = "lost_secret"


class RefusedError(CommandLineError):
    """The API refused the request."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.refused_as = code
        self.secret: str | None = None
        """What is shown once all the same: a key that waits for another person."""

    @property
    def shown_code(self) -> str:
        return self.refused_as
