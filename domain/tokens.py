"""Enrollment tokens: what lets a new machine in, to one site, so many times, until a date."""

import enum
from datetime import datetime, timedelta
from uuid import UUID

from domain.errors import ExpiryInPastError, InvalidValueError, TokenExpiredError, TokenRevokedError, TokenUsedUpError
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, SiteId

MAX_USES = 1_000_000
WAIT = timedelta(days=1)
"""So long a machine waits for approval, unless its token says otherwise."""
MIN_WAIT_S, MAX_WAIT_S = 60, 90 * 86_400


class Approval(enum.StrEnum):
    """Whether somebody has to approve each machine that comes by a token."""

    NONE = "none"
    REQUIRED = "required"


class EnrollmentTokenCreated(Event, frozen=True, kw_only=True):
    site_id: SiteId
    client_id: ClientId
    secret_sha256: str
    """Of the secret half, in hex. The secret has 256 random bits, so a plain hash keeps it."""
    max_uses: int
    expires_at: datetime
    note: str = ""


class GuardedTokenCreated(Event, frozen=True, kw_only=True):
    """A token by which machines do not come in, but wait until somebody approves them.

    A type of its own, and no field of the other: a program that does not know it cannot read such a token, and so lets
    nobody in by it.
    """

    site_id: SiteId
    client_id: ClientId
    secret_sha256: str
    max_uses: int
    expires_at: datetime
    wait_s: int
    """So long a machine waits at the most."""
    note: str = ""


class EnrollmentTokenUsed(Event, frozen=True, kw_only=True):
    agent_id: AgentId


class EnrollmentTokenRevoked(Event, frozen=True, kw_only=True):
    reason: str = ""


class EnrollmentToken(Aggregate):
    site_id: SiteId
    client_id: ClientId
    secret_sha256: str
    max_uses: int
    expires_at: datetime
    uses: int = 0
    revoked: bool = False
    wait_s: int | None = None
    """How long a machine waits for approval; None where it needs none."""

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return None, self.client_id

    def create(self, created: EnrollmentTokenCreated | GuardedTokenCreated, at: datetime) -> Change:
        if isinstance(created, GuardedTokenCreated) and not MIN_WAIT_S <= created.wait_s <= MAX_WAIT_S:
            raise InvalidValueError(f"wait_s: {MIN_WAIT_S} to {MAX_WAIT_S}, not {created.wait_s}.")
        if not 1 <= created.max_uses <= MAX_USES:
            raise InvalidValueError(f"max_uses: 1 to {MAX_USES}, not {created.max_uses}.")
        if created.expires_at <= at:
            raise ExpiryInPastError
        return self.decide(created)

    def use(self, agent_id: AgentId, at: datetime) -> Change:
        """Let one machine in; raises as `must_open` does."""
        self.must_open(at)
        return self.decide(EnrollmentTokenUsed(agent_id=agent_id))

    def admit(self, agent_id: AgentId) -> Change:
        """Let one machine in that came in time, and was approved since.

        Raises:
            TokenRevokedError, TokenUsedUpError: it no longer opens the door.
        """
        self._must_let_in()
        return self.decide(EnrollmentTokenUsed(agent_id=agent_id))

    def must_open(self, at: datetime) -> None:
        """Raise TokenRevokedError, TokenExpiredError or TokenUsedUpError where it no longer opens the door."""
        if at >= self.expires_at and not self.revoked:
            raise TokenExpiredError
        self._must_let_in()

    def _must_let_in(self) -> None:
        if self.revoked:
            raise TokenRevokedError
        if self.uses >= self.max_uses:
            raise TokenUsedUpError

    def revoke(self, reason: str) -> Change:
        if self.revoked:
            raise TokenRevokedError("The enrollment token is revoked already.")
        return self.decide(EnrollmentTokenRevoked(reason=reason))

    def when(self, event: Event) -> None:
        match event:
            case EnrollmentTokenCreated() | GuardedTokenCreated():
                self.site_id = event.site_id
                self.client_id = event.client_id
                self.secret_sha256 = event.secret_sha256
                self.max_uses = event.max_uses
                self.expires_at = event.expires_at
                self.wait_s = event.wait_s if isinstance(event, GuardedTokenCreated) else None
            case EnrollmentTokenUsed():
                self.uses += 1
            case EnrollmentTokenRevoked():
                self.revoked = True
            case _:
                super().when(event)
