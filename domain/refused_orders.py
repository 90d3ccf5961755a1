"""Orders that an agent refused since the server cannot have meant them: altered, redirected, replayed, kept back.

They are told beside the command that they name, or beside the agent where that is none of its own: neither story is
changed by what somebody made up.
"""

import enum
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from domain.event import Aggregate, Change, Event, Upcaster
from domain.ids import AgentId, ClientId, CommandId, derived_id


class Brought(enum.StrEnum):
    """What it claimed to be."""

    DELIVERY = "delivery"
    CANCEL = "cancel"
    HELD = "held"
    """A list of what the server takes the agent to have."""
    CHECKS = "checks"
    """A list of what it is to measure."""
    OTHER = "other"


class RefusedFor(enum.StrEnum):
    BAD_SIGNATURE = "bad_signature"
    """The server has not signed it as it came."""
    WRONG_AGENT = "wrong_agent"
    """The server signed it for another agent."""
    UNKNOWN_KEY = "unknown_key"
    """It names a key that the server does not have, or has no more."""
    EXPIRED = "expired"
    """Its time was up when it came."""
    REPLAYED = "replayed"
    """It came before; it was not run once more."""
    OTHER = "other"


def _as_it_was(body: dict[str, Any]) -> dict[str, Any]:
    return body


class OrderRefused(Event, frozen=True, kw_only=True):
    """An agent refused what came in the server's name; of a flood, one such event tells how many there were."""

    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was}
    """Since 2 it may have been a list of checks."""

    what: Brought
    why: RefusedFor
    run: str
    """Of the agent's program; with the number it names the report."""
    number: int
    refused_at: datetime
    """By the agent's account."""
    command_id: CommandId | None = None
    """As it was named there: the agent's own, or none that there is. Another agent's is left out."""
    attempt: int | None = None
    key: str = ""
    """In hex, how it named the key that it was signed with."""
    detail: str = ""
    count: int = 1


def refused_orders_stream(subject: UUID) -> UUID:
    """Beside a command, or beside an agent."""
    return derived_id("refused_orders", subject)


class RefusedOrders(Aggregate):
    """Those beside one command or one agent, as their last event leaves them."""

    agent_id: AgentId
    client_id: ClientId
    last: OrderRefused | None = None

    @classmethod
    def after(
        cls, subject: UUID, agent_id: AgentId, client_id: ClientId, version: int, last: Event | None
    ) -> "RefusedOrders":
        """As they stand after their last event; those before it say nothing more."""
        found = cls(refused_orders_stream(subject))
        found.agent_id, found.client_id = agent_id, client_id
        found.version = version
        found.last = last if isinstance(last, OrderRefused) else None
        return found

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    def report(self, refused: OrderRefused) -> list[Change]:
        """Record a report. An agent sends one after the other: one that is said again is none that follows the last."""
        last = self.last
        if last is not None and last.run == refused.run and refused.number <= last.number:
            return []
        return [self.decide(refused)]

    def when(self, event: Event) -> None:
        match event:
            case OrderRefused():
                self.last = event
            case _:
                super().when(event)
