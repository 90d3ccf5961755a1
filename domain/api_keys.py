"""API keys: who may call, what they may do, and whose machines they see."""

import enum
from datetime import datetime
from uuid import UUID

from domain.errors import ExpiryInPastError, KeyRevokedError
from domain.event import Aggregate, Change, Event
from domain.ids import ClientId
from domain.names import clean_name


class Role(enum.StrEnum):
    """Each role may do all that the one after it may."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) <= order.index(other)


class ApiKeyCreated(Event, frozen=True, kw_only=True):
    name: str
    role: Role
    secret_sha256: str
    """Of the secret half, in hex. The secret has 256 random bits, so a plain hash keeps it."""
    client_ids: tuple[ClientId, ...] | None = None
    """The tenants it sees; None sees all."""
    expires_at: datetime | None = None


class ApiKeyRevoked(Event, frozen=True, kw_only=True):
    reason: str = ""


class ApiKey(Aggregate):
    name: str
    role: Role
    secret_sha256: str
    client_ids: tuple[ClientId, ...] | None = None
    expires_at: datetime | None = None
    revoked: bool = False

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        # A key of one tenant is that tenant's business; a key of several or of all is the operator's alone.
        only = self.client_ids[0] if self.client_ids is not None and len(self.client_ids) == 1 else None
        return None, only

    def create(self, created: ApiKeyCreated, at: datetime) -> Change:
        clean_name(created.name, what="API key")
        if created.expires_at is not None and created.expires_at <= at:
            raise ExpiryInPastError
        return self.decide(created)

    def revoke(self, reason: str) -> Change:
        if self.revoked:
            raise KeyRevokedError
        return self.decide(ApiKeyRevoked(reason=reason))

    def opens(self, secret_sha256: str, at: datetime) -> bool:
        fresh = self.expires_at is None or at < self.expires_at
        return self.exists and not self.revoked and fresh and secret_sha256 == self.secret_sha256

    def when(self, event: Event) -> None:
        match event:
            case ApiKeyCreated():
                self.name = event.name
                self.role = event.role
                self.secret_sha256 = event.secret_sha256
                self.client_ids = event.client_ids
                self.expires_at = event.expires_at
            case ApiKeyRevoked():
                self.revoked = True
            case _:
                super().when(event)
