"""Refusals: somebody may not do what they asked for, or did not prove who they are. Each is a fact in the log.

Whoever floods does not fill the log: the first few of each kind and caller are events of their own, and the rest is
counted by the minute (`command_bus.refusals`). Each has a stream of its own, so nobody who is refused makes
anybody's story longer. A credential is named by the id that is in front of it, which is no secret, and by nothing else.
"""

import enum
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec

from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, TokenId, UserId
from domain.personal import Personal, SubjectKind


class Door(enum.StrEnum):
    """Where somebody was turned away."""

    REQUEST = "request"
    """Of the API, by what the caller may do, or has to show first."""
    KEY = "key"
    """An API key, or a session's token, that opens nothing."""
    LOGIN = "login"
    ENROLLMENT = "enrollment"
    CONNECT = "connect"
    """At NATS."""
    CHECK_IN = "check_in"
    """Over HTTP."""


class RequestRefused(Event, frozen=True, kw_only=True):
    """A person or program was refused; who it was is the event's actor, where that was proved."""

    personal: ClassVar[Personal | None] = Personal(fields=("address",), of=SubjectKind.USER, subject="user_id")

    door: Door
    code: str
    """Of the error, as the caller was told."""
    what: str = ""
    """The route that was asked for."""
    key_id: UUID | None = None
    """Of the key that was shown, as it says of itself."""
    user_id: UserId | None = None
    """Whose key or session it is."""
    address: str = ""


class AgentRefused(Event, frozen=True, kw_only=True):
    """A machine was not let in."""

    personal: ClassVar[Personal | None] = Personal(fields=("address",), of=SubjectKind.AGENT)

    door: Door
    code: str
    claimed: UUID | None = None
    """The agent that it said it is, where there is none of that id."""
    token_id: TokenId | None = None
    """Of the enrollment token that was shown, as it says of itself."""
    address: str = ""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """So many of one kind."""

    door: Door
    code: str
    count: int


class RefusalsCounted(Event, frozen=True, kw_only=True):
    """What one process refused besides those that are events of their own."""

    since: datetime
    until: datetime
    counts: tuple[Counted, ...]


class Refusals(Aggregate):
    """One refusal, or some that were counted.

    Args:
        stream_id: of its own.
        agent_id: the agent that it concerns, where that is known.
        client_id: the client that it concerns, where that is known.
    """

    def __init__(self, stream_id: UUID, agent_id: AgentId | None = None, client_id: ClientId | None = None) -> None:
        super().__init__(stream_id)
        self._concerns = (agent_id, client_id)

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self._concerns

    def record(self, refused: RequestRefused | AgentRefused | RefusalsCounted) -> Change:
        return self.decide(refused)

    def when(self, event: Event) -> None:
        match event:
            case RequestRefused() | AgentRefused() | RefusalsCounted():
                pass
            case _:
                super().when(event)
