"""What can keep an event from its destination. All of it is tried again, for ever."""

from gateways.forward.envelope import Outgoing


class ForwardError(Exception):
    """Events could not be delivered."""

    code = "not_forwarded"

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        """When the receiver wants to be asked again."""


class AddressRefusedError(ForwardError):
    """The destination lies where this server does not send to: see the setting `forward_allowed_networks`."""

    code = "destination_not_allowed"


class UnreachableError(ForwardError):
    """The destination does not answer."""

    code = "destination_unreachable"


class NotTakenError(ForwardError):
    """The destination answers, and does not take the event."""

    code = "destination_refuses"

    def __init__(self, detail: str, *, retry_after_s: float | None = None, event: Outgoing | None = None) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.event = event
        """Which; None where it may be any of those that were sent together."""


class EventRefusedError(NotTakenError):
    """The destination does not take what it was sent, and says that it is what it was sent that is wrong."""

    code = "event_refused"
