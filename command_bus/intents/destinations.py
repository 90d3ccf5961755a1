"""Intents about where events are forwarded to."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from command_bus.bus import Intent
from command_bus.context import NewId
from command_bus.intents.extracts import EventType
from domain import destinations as domain
from domain.errors import SecretCannotWaitError
from domain.permissions import Permission

MAX_POSITION = 2**53 - 1
MAX_SECRET = 16 * 1024
Reason = Annotated[str, Field(max_length=2000)]
Authority = Annotated[
    str,
    Field(
        max_length=domain.MAX_AUTHORITIES,
        description="Certificates (PEM) that its own must be under; empty: one that the server's system trusts.",
    ),
]
Secret = Annotated[SecretStr | None, Field(max_length=MAX_SECRET)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ToWebhook(_Part):
    """A POST of each event as a CloudEvent, or of several, signed (Standard Webhooks)."""

    kind: Literal["webhook"]
    url: str = Field(
        max_length=domain.MAX_URL, description="By https, without user, password and query: those are `secrets`."
    )
    batch: int = Field(
        default=1,
        ge=1,
        le=domain.MAX_BATCH,
        description="So many events at the most in one request; more than 1 sends them in batched mode, as an array.",
    )
    authority: Authority = ""

    def to_domain(self) -> domain.Webhook:
        return domain.Webhook(url=self.url, batch=self.batch, authority=self.authority)


class ToSyslog(_Part):
    """An RFC 5424 message for each event, with the CloudEvent in it."""

    kind: Literal["syslog"]
    host: str = Field(max_length=253)
    port: int | None = Field(default=None, ge=1, le=65535, description="Left out: 6514 for TLS, else 514.")
    transport: domain.SyslogTransport = domain.SyslogTransport.TLS
    facility: int = Field(default=domain.AUDIT_FACILITY, ge=0, le=domain.MAX_FACILITY)
    authority: Authority = ""

    def to_domain(self) -> domain.Syslog:
        by_tls = self.transport is domain.SyslogTransport.TLS
        return domain.Syslog(
            host=self.host,
            port=self.port or (domain.SYSLOG_TLS_PORT if by_tls else domain.SYSLOG_PORT),
            transport=self.transport,
            facility=self.facility,
            authority=self.authority,
        )


class ToNats(_Part):
    """A message for each event as a CloudEvent, at a subject of a NATS server of your own."""

    kind: Literal["nats"]
    url: str = Field(max_length=domain.MAX_URL, description="Scheme `tls` (or `nats`), a host and a port.")
    subject: str = Field(max_length=domain.MAX_URL)
    jetstream: bool = Field(
        default=True, description="A JetStream stream listens at the subject, and acknowledges each event."
    )
    authority: Authority = ""

    def to_domain(self) -> domain.NatsSubject:
        return domain.NatsSubject(
            url=self.url, subject=self.subject, jetstream=self.jetstream, authority=self.authority
        )


To = Annotated[ToWebhook | ToSyslog | ToNats, Field(discriminator="kind")]


class Only(_Part):
    """Which events; what is empty does not restrict. Clients and sites together are either."""

    types: list[EventType] = Field(default=[], max_length=200)
    clients: list[UUID] = Field(default=[], max_length=domain.MAX_PLACES)
    sites: list[UUID] = Field(
        default=[],
        max_length=domain.MAX_PLACES,
        description="Their own events, and those about a machine while it is there.",
    )


class Secrets(_Part):
    """What a destination is told in confidence. It is sealed, and no answer ever has it."""

    signing_key: Secret = Field(
        default=None,
        description="Of a webhook: `whsec_` and 24 to 64 bytes in base 64. Left out: one is made, and shown once.",
    )
    authorization: Secret = Field(default=None, description="Of a webhook: the header `Authorization`, in whole.")
    query: Secret = Field(default=None, description="Of a webhook: what stands after `?` in its URL.")
    user: Secret = Field(default=None, description="Of NATS, with `password`.")
    password: Secret = None
    token: Secret = Field(default=None, description="Of NATS.")
    credentials: Secret = Field(default=None, description="Of NATS: the content of a `.creds` file.")

    def given(self) -> dict[str, str]:
        """Those that are named, and empty where one is to go."""
        found = {name: getattr(self, name) for name in Secrets.model_fields}
        return {name: value.get_secret_value() for name, value in found.items() if value is not None}


class _Wanted(Intent):
    needs: ClassVar[Permission] = Permission.FORWARDING_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    name: str = Field(max_length=200)
    to: To
    only: Only = Field(default=Only(), description="All events, if left out.")

    def required(self) -> tuple[Permission, ...]:
        """Nobody has more sent away than they may read: events, and the outputs' ends that some of them hold."""
        return (Permission.FORWARDING_MANAGE, Permission.EVENTS_SEE, Permission.COMMANDS_OUTPUT)

    def _waits(self, secrets: Secrets | None) -> Intent:
        if isinstance(self.to, ToWebhook) or secrets is not None:
            raise SecretCannotWaitError
        return self


class AddDestination(_Wanted):
    """Have events forwarded. It goes on by itself from then on, at least once for each event, in order.

    A repeat with the same Idempotency-Key is answered as before, whatever its secrets.
    """

    after: Literal["now", "beginning"] | Annotated[int, Field(ge=0, le=MAX_POSITION)] = Field(
        default="now", description="Events from now on, all there are, or those after a position."
    )
    secrets: Secrets | None = None

    def sealed(self, new_id: NewId) -> tuple[Intent, str | None]:
        """It waits only where it has no secrets: what waits is an event."""
        del new_id
        return self._waits(self.secrets), None


class ChangeDestination(_Wanted):
    """Change a destination as a whole; it goes on from where it is.

    Secrets that are left out stay, and an empty one goes. Where it is to reach somebody else from now on (another host,
    port or kind), all but the signing key go, unless they are given anew.
    """

    destination_id: UUID
    secrets: Secrets | None = None

    def sealed(self, new_id: NewId) -> tuple[Intent, str | None]:
        """As for a new one."""
        del new_id
        return self._waits(self.secrets), None


class _Steer(Intent):
    needs: ClassVar[Permission] = Permission.FORWARDING_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    destination_id: UUID
    reason: Reason = ""


class PauseDestination(_Steer):
    """Forward nothing there for now; it keeps its place."""


class _SetGoing(Intent):
    needs: ClassVar[Permission] = Permission.FORWARDING_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    destination_id: UUID

    def required(self) -> tuple[Permission, ...]:
        """What leaves because of it holds outputs' ends. Which events leave was for whoever chose them."""
        return (Permission.FORWARDING_MANAGE, Permission.COMMANDS_OUTPUT)


class ResumeDestination(_SetGoing):
    """Forward on from where it was: what was recorded meanwhile is sent, too."""

    reason: Reason = ""


class SkipEvent(_SetGoing):
    """Never send one event there: its receiver will not take it, and all later ones wait behind it.

    The destination says which event it is stuck on. That it was passed over, by whom and why, is an event itself.
    """

    position: int = Field(ge=1, le=MAX_POSITION, description="Of the event: `stuck_on` of the destination.")
    reason: Annotated[str, Field(min_length=1, max_length=2000, description="Why it may be missing there.")]


class RemoveDestination(_Steer):
    """Forward nothing there any more, and forget its place and its secrets."""
