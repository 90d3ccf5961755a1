"""Destinations: where events are forwarded to, and which of them.

What a destination is told in confidence (a token, the key that signs) is no part of it: that is kept sealed beside the
log under an id, and events name only which parts there are. How far a destination is, is no event either: it changes
with each event, and would feed itself.
"""

import enum
import re
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

import msgspec

from domain.errors import (
    DestinationNotPausedError,
    DestinationPausedError,
    DestinationRemovedError,
    DestinationSkippedError,
    InvalidValueError,
)
from domain.event import Aggregate, Change, Event
from domain.ids import ClientId
from domain.names import clean_name
from domain.scopes import Place

MAX_BATCH = 500
"""Events in one request to a webhook."""
MAX_PLACES = 1000
MAX_URL = 2000
MAX_AUTHORITIES = 64 * 1024
AUDIT_FACILITY = 13
"""*log audit* of RFC 5424."""
MAX_FACILITY = 23
SYSLOG_TLS_PORT, SYSLOG_PORT = 6514, 514
MAX_SKIPS = 1000
"""Events that one destination is never sent."""
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?|[0-9A-Fa-f:.]{2,45}")
_SUBJECT = re.compile(r"[!-#%-)+-=?-~][!-)+-=?-~]*")
"""Printable, without wildcards; one that begins with $ is the server's own."""
_MAX_PORT = 65_535


class SyslogTransport(enum.StrEnum):
    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="webhook"):
    """A POST of each event, or of several at once."""

    url: str
    """Without its query, which is sealed: tokens stand there."""
    batch: int = 1
    """So many events at most in one request; 1 sends each by itself, in the form of a single event."""
    authority: str = ""
    """Certificates (PEM) that its own must be under; without them, one that the system trusts."""

    @property
    def address(self) -> str:
        """Whom it reaches: what is sealed for one is sent to no other."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{(parts.hostname or '').casefold()}:{port_of(parts) or ''}"


class Syslog(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="syslog"):
    """RFC 5424 messages, over TLS (RFC 5425), TCP with counted octets (RFC 6587) or UDP (RFC 5426)."""

    host: str
    port: int
    transport: SyslogTransport = SyslogTransport.TLS
    facility: int = AUDIT_FACILITY
    authority: str = ""

    @property
    def address(self) -> str:
        return f"{self.transport}://{self.host.casefold()}:{self.port}"


class NatsSubject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="nats"):
    """A subject of a NATS server of one's own."""

    url: str
    subject: str
    jetstream: bool = True
    """A stream listens at the subject, and says of each event that it has it. Without one, NATS promises nothing."""
    authority: str = ""

    @property
    def address(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{(parts.hostname or '').casefold()}:{port_of(parts) or ''}"


Target = Webhook | Syslog | NatsSubject


class EventFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events. What is empty does not restrict; clients and sites together are either."""

    types: tuple[str, ...] = ()
    """Names without version."""
    clients: tuple[ClientId, ...] = ()
    sites: tuple[Place, ...] = ()
    """Their own events, and those about a machine while it is there."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """A destination as somebody wants it."""

    name: str
    to: Target
    only: EventFilter = EventFilter()

    def cleaned(self) -> "Terms":
        """The same, tidied.

        Raises:
            InvalidValueError: it cannot be meant; says which field.
        """
        if len(self.only.clients) + len(self.only.sites) > MAX_PLACES:
            raise InvalidValueError(f"only: at most {MAX_PLACES} clients and sites.")
        check_target(self.to)
        return Terms(name=clean_name(self.name, what="destination"), to=self.to, only=self.only)


class DestinationAdded(Event, frozen=True, kw_only=True):
    name: str
    to: Target
    only: EventFilter
    after: int
    """Events after this position are sent."""
    value_id: UUID | None = None
    """Under which what it is told in confidence is kept."""
    sealed: tuple[str, ...] = ()
    """What that is."""


class DestinationChanged(Event, frozen=True, kw_only=True):
    """All of it from now on; where it is in the log stays."""

    name: str
    to: Target
    only: EventFilter
    value_id: UUID | None = None
    sealed: tuple[str, ...] = ()


class DestinationPaused(Event, frozen=True, kw_only=True):
    reason: str = ""


class DestinationResumed(Event, frozen=True, kw_only=True):
    """It goes on where it was: what was recorded meanwhile is sent now."""

    reason: str = ""


class DestinationRemoved(Event, frozen=True, kw_only=True):
    reason: str = ""


class DestinationSkipped(Event, frozen=True, kw_only=True):
    """One event is never sent there: its receiver will not take it, and somebody has said that it may be missing."""

    position: int
    event_type: str
    reason: str


def check_target(to: Target) -> None:
    """Refuse what could never be reached, or would show a secret.

    Raises:
        InvalidValueError: says which field.
    """
    if to.authority and (len(to.authority) > MAX_AUTHORITIES or "-----BEGIN CERTIFICATE-----" not in to.authority):
        raise InvalidValueError("to.authority: certificates in PEM, 64 KiB at the most.")
    match to:
        case Webhook():
            _check_url(to.url, ("https", "http"))
            if not 1 <= to.batch <= MAX_BATCH:
                raise InvalidValueError(f"to.batch: 1 to {MAX_BATCH}, not {to.batch}.")
        case Syslog():
            _check_syslog(to)
        case NatsSubject():
            _check_nats(to)


def _check_syslog(to: Syslog) -> None:
    if not _HOST.fullmatch(to.host):
        raise InvalidValueError("to.host: a host's name or address.")
    if not 1 <= to.port <= _MAX_PORT:
        raise InvalidValueError(f"to.port: 1 to {_MAX_PORT}, not {to.port}.")
    if not 0 <= to.facility <= MAX_FACILITY:
        raise InvalidValueError(f"to.facility: 0 to {MAX_FACILITY}, not {to.facility}.")


def _check_nats(to: NatsSubject) -> None:
    if _check_url(to.url, ("tls", "nats")).path not in ("", "/"):
        raise InvalidValueError("to.url: a NATS server has no path.")
    if len(to.subject) > MAX_URL or not _SUBJECT.fullmatch(to.subject) or "" in to.subject.split("."):
        raise InvalidValueError(
            "to.subject: printable characters without space, `*` and `>`, not beginning with `$`, in parts with a dot "
            "between them."
        )


def _check_url(url: str, schemes: tuple[str, ...]) -> SplitResult:
    expected = f"to.url: {' or '.join(f'{scheme}://' for scheme in schemes)} and a host"
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InvalidValueError(f"{expected}, in at most {MAX_URL} printable ASCII characters without space.")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidValueError(f"{expected}: {error}.") from None
    if parts.scheme not in schemes or not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise InvalidValueError(f"{expected}.")
    if port_of(parts) == 0:
        raise InvalidValueError(f"to.url: a port is 1 to {_MAX_PORT}.")
    if "@" in parts.netloc:
        raise InvalidValueError("to.url: no user and password in it: whoever sees the destination sees them.")
    if "?" in url or "#" in url:
        raise InvalidValueError("to.url: neither query nor fragment in it.")
    return parts


def port_of(parts: SplitResult) -> int | None:
    """The port that a URL names; None if it names none, 0 if it is none."""
    try:
        return parts.port
    except ValueError:
        return 0


class Destination(Aggregate):
    name: str
    to: Target
    only: EventFilter
    after: int
    value_id: UUID | None = None
    sealed: tuple[str, ...] = ()
    paused: bool = False
    removed: bool = False
    skips: frozenset[int] = frozenset()
    """Positions of events that are never sent there."""

    @property
    def terms(self) -> Terms:
        return Terms(name=self.name, to=self.to, only=self.only)

    @property
    def active(self) -> bool:
        return self.exists and not (self.paused or self.removed)

    def add(self, terms: Terms, after: int, value_id: UUID | None, sealed: tuple[str, ...]) -> Change:
        """Begin it."""
        wanted = terms.cleaned()
        return self.decide(
            DestinationAdded(
                name=wanted.name, to=wanted.to, only=wanted.only, after=after, value_id=value_id, sealed=sealed
            )
        )

    def change(self, terms: Terms, value_id: UUID | None, sealed: tuple[str, ...]) -> Change:
        """Have it be otherwise."""
        self._must_be_there()
        wanted = terms.cleaned()
        return self.decide(
            DestinationChanged(name=wanted.name, to=wanted.to, only=wanted.only, value_id=value_id, sealed=sealed)
        )

    def pause(self, reason: str) -> Change:
        """Send nothing more for now; it keeps its place."""
        self._must_be_there()
        if self.paused:
            raise DestinationPausedError
        return self.decide(DestinationPaused(reason=reason))

    def resume(self, reason: str) -> Change:
        """Go on where it was."""
        self._must_be_there()
        if not self.paused:
            raise DestinationNotPausedError
        return self.decide(DestinationResumed(reason=reason))

    def skip(self, position: int, event_type: str, reason: str) -> Change:
        """Pass over one event.

        Raises:
            InvalidValueError: without a reason, or once more than may be.
            DestinationSkippedError: it is passed over already.
        """
        self._must_be_there()
        if not reason.strip():
            raise InvalidValueError("reason: say why the event may be missing there; whoever looks for it reads that.")
        if position in self.skips:
            raise DestinationSkippedError
        if len(self.skips) >= MAX_SKIPS:
            raise InvalidValueError(
                f"position: {MAX_SKIPS} events are passed over there already. Its receiver has to be mended, or the "
                "destination narrowed to types that it takes."
            )
        return self.decide(DestinationSkipped(position=position, event_type=event_type, reason=reason))

    def remove(self, reason: str) -> Change:
        """Send nothing more, and forget its place and its secrets."""
        self._must_be_there()
        return self.decide(DestinationRemoved(reason=reason))

    def _must_be_there(self) -> None:
        if self.removed:
            raise DestinationRemovedError

    def when(self, event: Event) -> None:
        match event:
            case DestinationAdded():
                self.name, self.to, self.only, self.after = event.name, event.to, event.only, event.after
                self.value_id, self.sealed = event.value_id, event.sealed
            case DestinationChanged():
                self.name, self.to, self.only = event.name, event.to, event.only
                self.value_id, self.sealed = event.value_id, event.sealed
            case DestinationPaused():
                self.paused = True
            case DestinationResumed():
                self.paused = False
            case DestinationSkipped(position=position):
                self.skips |= {position}
            case DestinationRemoved():
                self.removed, self.value_id, self.sealed = True, None, ()
            case _:
                super().when(event)
