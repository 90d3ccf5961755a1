"""What a handler is told besides its intent, and the parts of the outside it may lean on."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from domain.api_keys import Role
from domain.event import Metadata
from domain.ids import AgentId, ClientId


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and what they may."""

    actor: str
    role: Role = Role.ADMIN
    client_ids: frozenset[ClientId] | None = None
    """The tenants the caller sees; None sees all."""
    correlation_id: UUID
    causation_id: UUID | None = None
    idempotency_key: str | None = None
    if_match: int | None = None
    """The version of the thing that the caller means to change; None means whatever it is now."""

    @property
    def metadata(self) -> Metadata:
        return Metadata(actor=self.actor, correlation_id=self.correlation_id, causation_id=self.causation_id)

    def sees(self, client_id: UUID) -> bool:
        return self.client_ids is None or client_id in self.client_ids


Clock = Callable[[], datetime]
"""Now, in UTC."""
NewId = Callable[[], UUID]
"""A fresh version 7 UUID."""


class InFlight(Protocol):
    """Which commands a gateway may have handed over without having heard an answer."""

    def hold(self, agent_id: AgentId) -> AbstractAsyncContextManager[frozenset[UUID]]:
        """Keep every gateway from leasing this agent's commands while the context is open.

        Yields:
            The ids of its commands that are, or may be, on their way.
        """
