"""API keys: what a program calls with; a key does what it was granted, and never more than its owner may."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from domain.access import Grant, check_grants
from domain.errors import ExpiryInPastError, KeyRevokedError
from domain.event import Aggregate, Change, Event, Upcaster
from domain.ids import UserId
from domain.names import clean_name
from domain.roles import Role

_ROLES_OF_VERSION_1 = {"admin": Role.ADMIN, "operator": Role.OPERATOR, "auditor": Role.READ_ONLY}
"""What each of the three could do is what these still can: an auditor saw all but the people."""


def _as_a_grant(body: dict[str, Any]) -> dict[str, Any]:
    """Until 2 a key had one of three roles, over all clients or some."""
    body = dict(body)
    grant: dict[str, Any] = {"role_id": str(_ROLES_OF_VERSION_1[body.pop("role")].id)}
    clients = body.pop("client_ids", None)
    return body | {"grants": [grant | ({"everything": True} if clients is None else {"clients": clients})]}


def _unattended(body: dict[str, Any]) -> dict[str, Any]:
    """Until 3 no key was asked for a fresh proof."""
    return body | {"unattended": True}


class ApiKeyCreated(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 3
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_a_grant, 2: _unattended}

    name: str
    secret_sha256: str
    """Of the secret half, in hex. The secret has 256 random bits, so a plain hash keeps it."""
    owner_id: UserId | None = None
    """The user or service account that it speaks for. None of keys of before, which stand for themselves."""
    grants: tuple[Grant, ...] | None = None
    """What it may do of what its owner may; None is all of that."""
    expires_at: datetime | None = None
    unattended: bool = False
    """It may do what a person has to give a fresh proof for, since nobody sits there who could."""


class ApiKeyRevoked(Event, frozen=True, kw_only=True):
    reason: str = ""


class ApiKey(Aggregate):
    name: str
    secret_sha256: str
    owner_id: UserId | None = None
    grants: tuple[Grant, ...] | None = None
    expires_at: datetime | None = None
    unattended: bool = False
    revoked: bool = False

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        # A key of one tenant is that tenant's business; a key of several or of all is the operator's alone.
        if not self.grants or any(one.everything or one.sites for one in self.grants):
            return None, None
        clients = {client_id for grant in self.grants for client_id in grant.clients}
        return None, clients.pop() if len(clients) == 1 else None

    def create(self, created: ApiKeyCreated, at: datetime) -> Change:
        clean_name(created.name, what="API key")
        check_grants(created.grants or ())
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
                self.secret_sha256 = event.secret_sha256
                self.owner_id = event.owner_id
                self.grants = event.grants
                self.expires_at = event.expires_at
                self.unattended = event.unattended
            case ApiKeyRevoked():
                self.revoked = True
            case _:
                super().when(event)
