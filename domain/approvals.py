"""Approvals: what somebody asked for waits until another person allows it; then it is done once.

The request is kept as it was made. When it is approved it is decided anew, by what the one who asked may do by then,
and in the very transaction that says so: an approval cannot be used twice.
"""

import enum
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.errors import ApprovalDecidedError, ApprovalExpiredError, OwnApprovalError
from domain.event import Aggregate, Change, Event
from domain.ids import ClientId, UserId

LIFE = timedelta(hours=24)
"""So long a request waits."""


class ApprovalState(enum.StrEnum):
    WAITING = "waiting"
    GRANTED = "granted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class ApprovalRequested(Event, frozen=True, kw_only=True):
    intent: str
    """Its type."""
    request: dict[str, Any]
    """Its fields, as JSON."""
    why: str
    """What made another person necessary."""
    agents: int | None = None
    """How many it would touch; no more are allowed by the approval."""
    user_id: UserId | None = None
    """Who asked, where that is a user or service account; the actor stands beside the event."""
    actor: str
    client_ids: tuple[ClientId, ...] | None = None
    """The clients that it may reach; None is all."""
    expires_at: datetime


class ApprovalGranted(Event, frozen=True, kw_only=True):
    """Allowed, and done, in this very transaction."""

    user_id: UserId
    """Who allowed it."""
    reason: str = ""


class ApprovalRefused(Event, frozen=True, kw_only=True):
    user_id: UserId
    reason: str = ""


class ApprovalWithdrawn(Event, frozen=True, kw_only=True):
    """Whoever asked does not want it any more."""

    reason: str = ""


class ApprovalExpired(Event, frozen=True, kw_only=True):
    """Nobody decided in time."""


class Approval(Aggregate):
    requested: ApprovalRequested
    state: ApprovalState = ApprovalState.WAITING

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        clients = self.requested.client_ids
        return None, clients[0] if clients is not None and len(clients) == 1 else None

    def request(self, requested: ApprovalRequested) -> Change:
        return self.decide(requested)

    def grant(self, user_id: UserId, reason: str, at: datetime) -> Change:
        """Allow it.

        Raises:
            ApprovalDecidedError, ApprovalExpiredError: it is too late.
            OwnApprovalError: by whoever asked.
        """
        self._must_be_anothers(user_id, at)
        return self.decide(ApprovalGranted(user_id=user_id, reason=reason))

    def refuse(self, user_id: UserId, reason: str, at: datetime) -> Change:
        """Do not allow it; raises as `grant` does."""
        self._must_be_anothers(user_id, at)
        return self.decide(ApprovalRefused(user_id=user_id, reason=reason))

    def withdraw(self, reason: str, at: datetime) -> Change:
        self._must_wait(at)
        return self.decide(ApprovalWithdrawn(reason=reason))

    def expire(self, at: datetime) -> list[Change]:
        """End it, if it still waits and its time is up."""
        if self.state is not ApprovalState.WAITING or at < self.requested.expires_at:
            return []
        return [self.decide(ApprovalExpired())]

    def asked_by(self, actor: str, user_id: UserId | None) -> bool:
        """Whether somebody is who asked; a user is, by whatever key."""
        return actor == self.requested.actor or (user_id is not None and user_id == self.requested.user_id)

    def _must_be_anothers(self, user_id: UserId, at: datetime) -> None:
        self._must_wait(at)
        if user_id == self.requested.user_id:
            raise OwnApprovalError

    def _must_wait(self, at: datetime) -> None:
        if self.state is not ApprovalState.WAITING:
            raise ApprovalDecidedError(f"The request is {self.state} already.")
        if at >= self.requested.expires_at:
            raise ApprovalExpiredError

    def when(self, event: Event) -> None:
        match event:
            case ApprovalRequested():
                self.requested = event
            case ApprovalGranted():
                self.state = ApprovalState.GRANTED
            case ApprovalRefused():
                self.state = ApprovalState.REFUSED
            case ApprovalWithdrawn():
                self.state = ApprovalState.WITHDRAWN
            case ApprovalExpired():
                self.state = ApprovalState.EXPIRED
            case _:
                super().when(event)
