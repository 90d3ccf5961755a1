"""Secrets: values that commands use and that no event holds.

A secret has a name within a scope: the whole fleet, a client, a site or one agent. Where a command names it, the
nearest one counts. Its stream is named after scope and name, so the log itself keeps a name from being there twice. The
value is kept beside the log, sealed (`command_bus.keystore`), under an id that changes with each value; neither it nor
a hash of it is ever recorded.
"""

import re
from collections.abc import Iterator
from uuid import UUID

import msgspec

from domain.errors import InvalidValueError, SecretRemovedError
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, CommandId, SecretId, SiteId, derived_id
from domain.placeholders import NAME, ScopeKind

MIN_CHARACTERS = 4
"""A shorter value could not be masked without masking half of what scripts print."""
MAX_BYTES = 16 * 1024
_NAME = re.compile(NAME)


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a secret counts: for the whole fleet, or for what is named last of the three."""

    client_id: ClientId | None = None
    site_id: SiteId | None = None
    agent_id: AgentId | None = None

    @property
    def kind(self) -> ScopeKind:
        if self.agent_id is not None:
            return ScopeKind.AGENT
        if self.site_id is not None:
            return ScopeKind.SITE
        return ScopeKind.FLEET if self.client_id is None else ScopeKind.CLIENT

    @property
    def holder(self) -> UUID | None:
        """What it counts for; None for the whole fleet."""
        return self.agent_id or self.site_id or self.client_id

    def counts_in(self, client_id: UUID) -> bool:
        """Whether it counts for what belongs to this client: one set for an agent by its client of before does not."""
        return self.client_id in (None, client_id)


class SecretSet(Event, frozen=True, kw_only=True):
    """It has this value from now on: the one that is kept under ``value_id``."""

    name: str
    scope: Scope
    value_id: UUID
    number: int
    """Of the value: 1 for the first, and one more each time."""
    note: str = ""


class SecretRemoved(Event, frozen=True, kw_only=True):
    reason: str = ""


class ReadSecret(msgspec.Struct, frozen=True, kw_only=True):
    """One that was read."""

    secret_id: SecretId
    name: str
    number: int
    value_id: UUID


class SecretsRead(Event, frozen=True, kw_only=True):
    """A gateway opened these to hand them over with one attempt of a command. Recorded before they leave."""

    command_id: CommandId
    attempt: int
    agent_id: AgentId
    client_id: ClientId
    secrets: tuple[ReadSecret, ...]


class SecretsRewrapped(Event, frozen=True, kw_only=True):
    """All values are sealed under the present master key from now on."""

    key_id: str
    """Names the master key and says nothing of it."""
    count: int


def secret_stream(name: str, scope_holder: UUID | None) -> SecretId:
    """The stream of a name within a scope."""
    return SecretId(derived_id("secret", scope_holder or "", name.casefold()))


def nearest_first(agent_id: AgentId, site_id: SiteId, client_id: ClientId, widest: ScopeKind) -> Iterator[UUID | None]:
    """Whose secrets an agent may have, the nearest first, up to the widest; None is the whole fleet."""
    holders = (None, client_id, site_id, agent_id)
    yield from reversed(holders[list(ScopeKind).index(widest) :])


def reads_stream(command_id: UUID) -> UUID:
    """Where the reads for one command are recorded."""
    return derived_id("secrets-read", command_id)


def check_name(name: str) -> str:
    """Refuse a name that no placeholder could hold.

    Raises:
        InvalidValueError: it is not 1 to 64 letters, digits and '_', beginning with a letter.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError("name: 1 to 64 letters, digits and '_', beginning with a letter.")
    return name


def check_value(value: str) -> bytes:
    """A value's bytes. What is refused is never named in the error.

    Raises:
        InvalidValueError: it is too short to be masked, too long, or no environment could hold it.
    """
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise InvalidValueError("value: it is not text.") from None
    if len(value.strip()) < MIN_CHARACTERS or len(data) > MAX_BYTES or b"\x00" in data:
        raise InvalidValueError(f"value: {MIN_CHARACTERS} characters to {MAX_BYTES} bytes of text without NUL.")
    return data


class Secret(Aggregate):
    name: str = ""
    scope: Scope = Scope()
    number: int = 0
    value_id: UUID | None = None
    """None where it is removed, or never was."""

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.scope.agent_id, self.scope.client_id

    def put(self, name: str, scope: Scope, value_id: UUID, note: str) -> Change:
        """Give it a value, the first or another."""
        return self.decide(
            SecretSet(name=check_name(name), scope=scope, value_id=value_id, number=self.number + 1, note=note)
        )

    def remove(self, reason: str) -> Change:
        """Take it away; what names it from now on finds none."""
        if self.value_id is None:
            raise SecretRemovedError
        return self.decide(SecretRemoved(reason=reason))

    def when(self, event: Event) -> None:
        match event:
            case SecretSet():
                self.name, self.scope = event.name, event.scope
                self.number, self.value_id = event.number, event.value_id
            case SecretRemoved():
                self.value_id = None
            case _:
                super().when(event)


class SecretReads(Aggregate):
    """Which secrets were read for one command."""

    agent_id: AgentId
    client_id: ClientId
    last: SecretsRead | None = None

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    def read(self, read: SecretsRead) -> list[Change]:
        """Record a read; the same once more, as a delivery that was not answered is repeated, is one event."""
        return [] if self.last == read else [self.decide(read)]

    def when(self, event: Event) -> None:
        match event:
            case SecretsRead():
                self.agent_id, self.client_id, self.last = event.agent_id, event.client_id, event
            case _:
                super().when(event)


class Rewrapping(Aggregate):
    """The whole keystore, as far as it was sealed anew."""

    STREAM = derived_id("secrets-rewrapped")

    def rewrapped(self, key_id: str, count: int) -> Change:
        return self.decide(SecretsRewrapped(key_id=key_id, count=count))

    def when(self, event: Event) -> None:
        match event:
            case SecretsRewrapped():
                pass
            case _:
                super().when(event)
