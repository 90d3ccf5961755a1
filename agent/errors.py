"""What can go wrong on the endpoint, each with a stable code. The docstring is the default message."""

from datetime import datetime


class AgentError(Exception):
    """The agent cannot go on."""

    code = "agent_error"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or self.code).strip())


class UsageError(AgentError):
    """The command line cannot be understood."""

    code = "usage"


class NotEnrolledError(AgentError):
    """This machine is not enrolled. Run `fleetlog agent enroll URL TOKEN` first."""

    code = "not_enrolled"


class AlreadyEnrolledError(AgentError):
    """This machine is enrolled already."""

    code = "already_enrolled"


class EnrollmentRefusedError(AgentError):
    """The server refused the enrollment."""

    code = "enrollment_refused"


class EnrollmentLaterError(EnrollmentRefusedError):
    """The server cannot be asked just now, or asks to come again later."""

    def __init__(self, message: str, again_s: float | None = None) -> None:
        super().__init__(message)
        self.again_s = again_s
        """How long it asks to wait."""


class EnrollmentWaitingError(AgentError):
    """This machine waits until somebody approves it. `fleetlog agent run` goes on waiting, and starts then."""

    code = "enrollment_waiting"

    def __init__(self, message: str = "", again_s: float | None = None) -> None:
        super().__init__(message)
        self.again_s = again_s
        """When to ask again."""


class AlreadyRunningError(AgentError):
    """Another agent runs on this state directory."""

    code = "already_running"


class StateDamagedError(AgentError):
    """A file of the state directory cannot be read."""

    code = "state_damaged"


class JournalFullError(AgentError):
    """There is no room to write down another command."""

    code = "journal_full"


class WorkRefusedError(AgentError):
    """This machine can never do this work; ``code`` says why."""

    code = "work_refused"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LinkError(AgentError):
    """The message was not answered: the connection is down, nobody listens, or the answer took too long."""

    code = "link_down"


class ClockSkewError(LinkError):
    """The server takes this machine's time for too far off its own."""

    code = "clock_skew"

    def __init__(self, message: str, server_time: datetime) -> None:
        super().__init__(message)
        self.server_time = server_time


class LaterError(LinkError):
    """The server asks to come again later."""

    code = "later"

    def __init__(self, message: str, again_s: float | None, *, full: bool) -> None:
        super().__init__(message)
        self.again_s = again_s
        """How long it asks to wait."""
        self.full = full
        """It is there and has too much to do, so that to hear of it again is no reason to come sooner."""
