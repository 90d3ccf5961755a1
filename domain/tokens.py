"""Enrollment tokens: what lets a new machine in, to one site, so many times, until a date."""

from datetime import datetime
from uuid import UUID

from domain.errors import ExpiryInPastError, InvalidValueError, TokenExpiredError, TokenRevokedError, TokenUsedUpError
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, SiteId

MAX_USES = 1_000_000


class EnrollmentTokenCreated(Event, frozen=True, kw_only=True):
    site_id: SiteId
    client_id: ClientId
    secret_sha256: str
    """Of the secret half, in hex. The secret has 256 random bits, so a plain hash keeps it."""
    max_uses: int
    expires_at: datetime
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

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return None, self.client_id

    def create(self, created: EnrollmentTokenCreated, at: datetime) -> Change:
        if not 1 <= created.max_uses <= MAX_USES:
            raise InvalidValueError(f"max_uses: 1 to {MAX_USES}, not {created.max_uses}.")
        if created.expires_at <= at:
            raise ExpiryInPastError
        return self.decide(created)

    def use(self, agent_id: AgentId, at: datetime) -> Change:
        """Let one machine in.

        Raises:
            TokenRevokedError, TokenExpiredError, TokenUsedUpError: it no longer opens the door.
        """
        if self.revoked:
            raise TokenRevokedError
        if at >= self.expires_at:
            raise TokenExpiredError
        if self.uses >= self.max_uses:
            raise TokenUsedUpError
        return self.decide(EnrollmentTokenUsed(agent_id=agent_id))

    def revoke(self, reason: str) -> Change:
        if self.revoked:
            raise TokenRevokedError("The enrollment token is revoked already.")
        return self.decide(EnrollmentTokenRevoked(reason=reason))

    def when(self, event: Event) -> None:
        match event:
            case EnrollmentTokenCreated():
                self.site_id = event.site_id
                self.client_id = event.client_id
                self.secret_sha256 = event.secret_sha256
                self.max_uses = event.max_uses
                self.expires_at = event.expires_at
            case EnrollmentTokenUsed():
                self.uses += 1
            case EnrollmentTokenRevoked():
                self.revoked = True
            case _:
                super().when(event)
