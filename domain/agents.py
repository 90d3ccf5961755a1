"""Agents: the program on a managed machine, and that machine's identity.

Three streams tell of one agent, so that none of them grows by another's pace: its life (this aggregate), its presence
(came and went) and its facts (what the machine is). The latter two are judged by their last event alone.
"""

import enum
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from domain.erasures import SubjectErased
from domain.errors import (
    AgentNotRetiredError,
    AgentNotSuspendedError,
    AgentRetiredError,
    AgentSuspendedError,
    ErasedError,
    InvalidValueError,
)
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, SiteId, TokenId, derived_id
from domain.names import clean_name
from domain.personal import Personal, SubjectKind

MAX_TAGS = 64
MAX_TAG_LENGTH = 64


class Platform(enum.StrEnum):
    LINUX = "linux"
    MACOS = "macos"
    WINDOWS = "windows"


class MachineType(enum.StrEnum):
    """What a machine is for, as its agent tells it (the fact ``machine_type``)."""

    SERVER = "server"
    WORKSTATION = "workstation"


class AgentState(enum.StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"


class AgentEnrolled(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("hostname",), of=SubjectKind.AGENT)

    site_id: SiteId
    client_id: ClientId
    token_id: TokenId | None
    hostname: str
    platform: Platform
    arch: str
    agent_version: str
    public_key: str
    """Ed25519, 32 bytes in hex; the private half never leaves the machine."""


class AgentMoved(Event, frozen=True, kw_only=True):
    site_id: SiteId
    client_id: ClientId


class AgentRenamed(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("name",), of=SubjectKind.AGENT)

    name: str


class AgentTagged(Event, frozen=True, kw_only=True):
    tags: tuple[str, ...]
    """All of its tags from now on, sorted."""


class AgentSuspended(Event, frozen=True, kw_only=True):
    reason: str = ""


class AgentResumed(Event, frozen=True, kw_only=True):
    reason: str = ""


class AgentRetired(Event, frozen=True, kw_only=True):
    reason: str = ""


class AgentKeyOffered(Event, frozen=True, kw_only=True):
    """The agent has made another key, and its present one vouches for it; both let it in."""

    public_key: str


class AgentKeyRotated(Event, frozen=True, kw_only=True):
    """The agent was let in under its other key; the one before is void."""

    public_key: str
    previous: str


class AgentServerKeyLearned(Event, frozen=True, kw_only=True):
    """The agent has it on disk that the server may sign by another delivery key, and said so."""

    number: int
    """Which of the server's keys, as `domain.server_keys` counts them."""


class AgentConnected(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("address",), of=SubjectKind.AGENT)

    gateway: str
    address: str = ""
    transport: str = "nats"


class AgentDisconnected(Event, frozen=True, kw_only=True):
    gateway: str
    reason: str = ""
    last_seen_at: datetime | None = None


class AgentFactsReported(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("facts",), of=SubjectKind.AGENT)

    facts: dict[str, Any]


def presence_stream(agent_id: AgentId) -> UUID:
    return derived_id("presence", agent_id)


def facts_stream(agent_id: AgentId) -> UUID:
    return derived_id("facts", agent_id)


def clean_tags(tags: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Sort tags and drop doubles.

    Raises:
        InvalidValueError: more than 64 tags, or one that is empty, longer than 64 characters or has a comma or space.
    """
    cleaned = sorted({tag.strip() for tag in tags})
    if len(cleaned) > MAX_TAGS:
        raise InvalidValueError(f"tags: at most {MAX_TAGS}, not {len(cleaned)}.")
    for tag in cleaned:
        if not 1 <= len(tag) <= MAX_TAG_LENGTH or any(c.isspace() or c == "," or not c.isprintable() for c in tag):
            raise InvalidValueError(f"tags: {tag!r} must be 1 to {MAX_TAG_LENGTH} characters without space or comma.")
    return tuple(cleaned)


class Agent(Aggregate):
    site_id: SiteId
    client_id: ClientId
    platform: Platform
    public_key: str
    hostname: str
    name: str
    tags: tuple[str, ...] = ()
    state: AgentState = AgentState.ACTIVE
    next_key: str | None = None
    """One that is to take over."""
    erased: bool = False
    """What it told of itself is seen by nobody any more."""
    server_key: int = 1
    """The newest of the server's delivery keys that it said it knows; the first needs no word."""

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.stream_id, self.client_id

    def enroll(self, enrolled: AgentEnrolled) -> Change:
        return self.decide(enrolled)

    def move(self, site_id: SiteId, client_id: ClientId) -> Change:
        self._must_not_be_retired()
        return self.decide(AgentMoved(site_id=site_id, client_id=client_id))

    def rename(self, name: str) -> Change:
        self._must_not_be_retired()
        return self.decide(AgentRenamed(name=clean_name(name, what="agent")))

    def tag(self, tags: list[str] | tuple[str, ...]) -> Change:
        self._must_not_be_retired()
        return self.decide(AgentTagged(tags=clean_tags(tags)))

    def suspend(self, reason: str) -> Change:
        self.must_take_commands()
        return self.decide(AgentSuspended(reason=reason))

    def resume(self, reason: str) -> Change:
        self._must_not_be_retired()
        if self.state is not AgentState.SUSPENDED:
            raise AgentNotSuspendedError
        return self.decide(AgentResumed(reason=reason))

    def retire(self, reason: str) -> Change:
        self._must_not_be_retired()
        return self.decide(AgentRetired(reason=reason))

    def erase(self, reason: str) -> Change:
        """Have all that is personal about it erased.

        Raises:
            AgentNotRetiredError: it still works.
            ErasedError: that was done before.
        """
        if self.state is not AgentState.RETIRED:
            raise AgentNotRetiredError
        self.must_not_be_erased()
        return self.decide(SubjectErased(kind=SubjectKind.AGENT, subject=self.stream_id, reason=reason))

    def must_not_be_erased(self) -> None:
        """Raise ErasedError where it is."""
        if self.erased:
            raise ErasedError

    def offer_key(self, public_key: str) -> list[Change]:
        """Another key is to take over; offered twice, it is one event. The last one that is offered counts."""
        self.must_take_commands()
        if public_key in (self.public_key, self.next_key):
            return []
        return [self.decide(AgentKeyOffered(public_key=public_key))]

    def use_key(self, public_key: str) -> list[Change]:
        """It was let in under a key: if that is the next one, it has taken over."""
        if public_key != self.next_key:
            return []
        return [self.decide(AgentKeyRotated(public_key=public_key, previous=self.public_key))]

    def learn_server_key(self, number: int) -> list[Change]:
        """It knows one of the server's keys; an older one than it is taken to know is no news."""
        self._must_not_be_retired()
        if number <= self.server_key:
            return []
        return [self.decide(AgentServerKeyLearned(number=number))]

    def must_take_commands(self) -> None:
        """Raise AgentRetiredError or AgentSuspendedError unless the agent is active."""
        self._must_not_be_retired()
        if self.state is AgentState.SUSPENDED:
            raise AgentSuspendedError

    def _must_not_be_retired(self) -> None:
        if self.state is AgentState.RETIRED:
            raise AgentRetiredError

    def when(self, event: Event) -> None:
        match event:
            case AgentEnrolled():
                self.site_id = event.site_id
                self.client_id = event.client_id
                self.platform = event.platform
                self.public_key = event.public_key
                self.hostname = event.hostname
                self.name = event.hostname
            case AgentMoved():
                self.site_id = event.site_id
                self.client_id = event.client_id
            case AgentRenamed():
                self.name = event.name
            case AgentTagged():
                self.tags = event.tags
            case AgentKeyOffered() | AgentKeyRotated() | AgentServerKeyLearned():
                self._when_keys(event)
            case AgentSuspended():
                self.state = AgentState.SUSPENDED
            case AgentResumed():
                self.state = AgentState.ACTIVE
            case AgentRetired():
                self.state = AgentState.RETIRED
            case SubjectErased():
                self.erased = True
            case _:
                super().when(event)

    def _when_keys(self, event: AgentKeyOffered | AgentKeyRotated | AgentServerKeyLearned) -> None:
        match event:
            case AgentKeyOffered():
                self.next_key = event.public_key
            case AgentKeyRotated():
                self.public_key, self.next_key = event.public_key, None
            case AgentServerKeyLearned():
                self.server_key = event.number
