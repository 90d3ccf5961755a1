"""What a handler is told besides its intent, and the parts of the outside it may lean on."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec import structs

from command_bus.errors import ForbiddenError, FreshProofNeededError
from domain.access import FULL, Access, Grant
from domain.event import Metadata
from domain.ids import AgentId, UserId
from domain.permissions import Permission
from domain.scopes import EVERYTHING, Scope

BY_KEY = (
    "This can do harm, and a key cannot show that it is you. Log in and do it there (`fleetlog login`), or have a key "
    "made for it that may (`fleetlog keys create --unattended`)."
)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and what they may."""

    actor: str
    access: Access = FULL
    """What they may do."""
    grants: tuple[Grant, ...] = ()
    """What that was worked out from, to be shown."""
    scope: Scope = EVERYTHING
    """Over what the caller may do that which is asked; the bus works it out for each intent."""
    allowed: "Allowed | None" = None
    """Another person allowed what is asked."""
    user_id: UserId | None = None
    """The user or service account behind the key, where there is one."""
    freshness: "Freshness | None" = None
    """Of a person's session, or of a key that is not unattended; others are never asked."""
    correlation_id: UUID
    causation_id: UUID | None = None
    idempotency_key: str | None = None
    if_match: int | None = None
    """The version of the thing that the caller means to change; None means whatever it is now."""

    @property
    def metadata(self) -> Metadata:
        return Metadata(actor=self.actor, correlation_id=self.correlation_id, causation_id=self.causation_id)

    @property
    def stale(self) -> bool:
        """Whether it is a session whose person has not shown themselves lately, or a key of which nobody can."""
        return self.freshness is not None and not self.freshness.proved

    def must_be_fresh(self) -> None:
        """Refuse what can do harm to a session whose person has not shown themselves lately, and to most keys.

        Raises:
            FreshProofNeededError: they are to do so first.
        """
        if self.freshness is not None and not self.freshness.proved:
            raise FreshProofNeededError(None if self.freshness.of_person else BY_KEY)

    def must_be_fresh_to_touch(self, agents: int | None) -> None:
        """The same where it touches many agents; None where nobody knows how many."""
        if self.freshness is not None and (agents is None or agents > self.freshness.agents):
            self.must_be_fresh()

    def asking(self, *permissions: Permission) -> "Caller":
        """The caller as one who does what needs these permissions, within what is asked already.

        Raises:
            ForbiddenError: the caller has not all of them, anywhere.
        """
        scope = self.scope & self.access.scope(*permissions)
        if scope.empty:
            wanted = " and ".join(f"`{permission}`" for permission in permissions)
            raise ForbiddenError(f"This needs the permission {wanted}; ask for a role that has it.")
        return structs.replace(self, scope=scope)


class Freshness(msgspec.Struct, frozen=True):
    """Whether the person behind a session has shown themselves lately."""

    proved: bool
    agents: int
    """What touches more than so many asks for it."""
    of_person: bool = True
    """Somebody sits there; of a key nobody does, and so it is never proved."""


class Allowed(msgspec.Struct, frozen=True):
    """How far another person's word goes."""

    agents: int | None
    """To touch so many agents and no more; None where none were spoken of."""


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
