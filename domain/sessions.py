"""Sessions: a person who logged in, at one place, for a while."""

import enum
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from domain.errors import SessionOverError
from domain.event import Aggregate, Change, Event, Upcaster
from domain.ids import UserId
from domain.personal import Personal, SubjectKind


class Ending(enum.StrEnum):
    """Why a session is over."""

    LOGGED_OUT = "logged_out"
    REVOKED = "revoked"
    """By its user, from another one, or by an administrator."""
    REPLACED = "replaced"
    """By one with a new secret: what the session may do has changed."""
    EXPIRED = "expired"
    PROVIDER = "provider"
    """By a logout at the provider through which it was begun."""


class Proof(enum.StrEnum):
    """What somebody has shown themselves by."""

    PASSWORD = "password"  # noqa: S105 -- names it
    TOTP = "totp"
    RECOVERY_CODE = "recovery_code"
    PASSKEY = "passkey"
    SSO = "sso"
    """A provider's word for who it is."""
    SSO_SECOND_FACTOR = "sso_second_factor"
    """A provider's word that there were two factors, where that is trusted."""


OF_PROVIDER = frozenset({Proof.SSO, Proof.SSO_SECOND_FACTOR})


def _as_it_was(body: dict[str, Any]) -> dict[str, Any]:
    return body


class SessionOpened(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 3
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was, 2: _as_it_was}
    """Since 2 there are passkeys, since 3 identities at a provider."""
    personal: ClassVar[Personal | None] = Personal(fields=("address", "agent"), of=SubjectKind.USER, subject="user_id")

    user_id: UserId
    generation: int
    """Of the user's login; with a later one the session is over."""
    proofs: tuple[Proof, ...]
    address: str
    agent: str = ""
    """What the program calls itself; its word, and no proof."""
    replaces: UUID | None = None
    identity_id: UUID | None = None
    """At a provider, where that vouched."""
    expires_at: datetime


class SessionProved(Event, frozen=True, kw_only=True):
    """Whoever sits there has shown themselves once more."""

    schema_version: ClassVar[int] = 3
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was, 2: _as_it_was}
    """Since 2 there are passkeys, since 3 identities at a provider."""
    personal: ClassVar[Personal | None] = Personal(fields=("address",), of=SubjectKind.USER, subject="user_id")

    user_id: UserId
    proof: Proof
    address: str


class SessionEnded(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was}
    """Since 2 a provider may end it."""
    personal: ClassVar[Personal | None] = Personal(fields=("address",), of=SubjectKind.USER, subject="user_id")

    user_id: UserId
    why: Ending
    address: str = ""


class UserSession(Aggregate):
    user_id: UserId
    generation: int = 0
    expires_at: datetime
    ended: bool = False
    proofs: tuple[Proof, ...] = ()
    """What it was begun with."""
    identity_id: UUID | None = None

    def open(self, opened: SessionOpened) -> Change:
        return self.decide(opened)

    def prove(self, proof: Proof, address: str) -> Change:
        self._must_go_on()
        return self.decide(SessionProved(user_id=self.user_id, proof=proof, address=address))

    def end(self, why: Ending, address: str) -> Change:
        self._must_go_on()
        return self.decide(SessionEnded(user_id=self.user_id, why=why, address=address))

    def _must_go_on(self) -> None:
        if not self.exists or self.ended:
            raise SessionOverError

    def when(self, event: Event) -> None:
        match event:
            case SessionOpened():
                self.user_id, self.generation, self.expires_at = event.user_id, event.generation, event.expires_at
                self.proofs, self.identity_id = event.proofs, event.identity_id
            case SessionProved():
                pass
            case SessionEnded():
                self.ended = True
            case _:
                super().when(event)
