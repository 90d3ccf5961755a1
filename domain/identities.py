"""Identities at a provider (OpenID Connect): who vouches, and what it calls somebody; each opens one user's door.

A provider's word for somebody is its issuer and a subject, which it never gives to anybody else (OpenID Connect Core
1.0, section 2). Names and addresses there may change hands, so nothing goes by them. That an identity belongs to one
user alone is a stream of its own, as with names.
"""

import hashlib
import hmac
from typing import ClassVar
from uuid import UUID

import msgspec

from domain.errors import IdentityTakenError, InvalidValueError
from domain.event import Aggregate, Change, Event
from domain.ids import UserId, derived_id
from domain.personal import Personal, SubjectKind

MOST = 20
"""Of one user."""
MAX_SUBJECT_LENGTH = 255
MAX_ISSUER_LENGTH = 500


class Identity(msgspec.Struct, frozen=True, order=True):
    issuer: str
    subject: str

    @property
    def plain_id(self) -> UUID:
        """What its stream was called once: whoever guesses the subject sees that it is right."""
        return derived_id("sso-identity", self.issuer, self.subject)

    def secret_id(self, key: bytes) -> UUID:
        """Its id: without the key nobody tells whose it is.

        Args:
            key: a secret of the fleet's, that people's names are hashed with as well.
        """
        return UUID(bytes=hmac.digest(key, self.plain_id.bytes, hashlib.sha256)[:16], version=5)

    def ids(self, key: bytes) -> tuple[UUID, UUID]:
        """Its id, and what it was once: what was recorded before there was a key names it so."""
        return self.secret_id(key), self.plain_id


class IdentityLinked(Event, frozen=True, kw_only=True):
    """Whoever the provider calls so may log in as this user."""

    personal: ClassVar[Personal | None] = Personal(fields=("subject",), of=SubjectKind.USER, subject="user_id")

    user_id: UserId
    issuer: str
    subject: str


class IdentityUnlinked(Event, frozen=True, kw_only=True):
    """Not any more; all sessions of the user are over."""

    personal: ClassVar[Personal | None] = Personal(fields=("subject",), of=SubjectKind.USER, subject="user_id")

    user_id: UserId
    issuer: str
    subject: str
    reason: str = ""


class IdentityHeld(Event, frozen=True, kw_only=True):
    user_id: UserId


class IdentityFreed(Event, frozen=True, kw_only=True):
    user_id: UserId


class ProviderLogoutTaken(Event, frozen=True, kw_only=True):
    """The provider said that somebody has logged out there."""

    issuer: str
    sessions: tuple[UUID, ...] = ()
    """That ended by it, together with this."""


def clean_identity(issuer: str, subject: str) -> Identity:
    """Refuse what no provider says.

    Raises:
        InvalidValueError: one of the two is empty, too long, or holds what cannot be shown.
    """
    for name, text, most in (("issuer", issuer, MAX_ISSUER_LENGTH), ("subject", subject, MAX_SUBJECT_LENGTH)):
        if not 0 < len(text) <= most or not text.isprintable() or text != text.strip():
            raise InvalidValueError(f"{name}: 1 to {most} characters, exactly as the provider writes it.")
    return Identity(issuer, subject)


class IdentityHolder(Aggregate):
    """Whose an identity is."""

    holder: UserId | None = None

    def hold(self, user_id: UserId) -> Change:
        """Give it to a user.

        Raises:
            IdentityTakenError: it is somebody's.
        """
        self.must_be_free()
        return self.decide(IdentityHeld(user_id=user_id))

    def must_be_free(self) -> None:
        """Raise IdentityTakenError where it is somebody's."""
        if self.holder is not None:
            raise IdentityTakenError

    def free(self, user_id: UserId) -> Change:
        return self.decide(IdentityFreed(user_id=user_id))

    def when(self, event: Event) -> None:
        match event:
            case IdentityHeld():
                self.holder = event.user_id
            case IdentityFreed():
                self.holder = None
            case _:
                super().when(event)


class ProviderLogout(Aggregate):
    """One token by which a provider says that somebody has logged out; it counts once."""

    @staticmethod
    def id_of(issuer: str, jti: str) -> UUID:
        return derived_id("sso-logout", issuer, jti)

    def take(self, issuer: str, sessions: tuple[UUID, ...]) -> Change:
        return self.decide(ProviderLogoutTaken(issuer=issuer, sessions=sessions))

    def when(self, event: Event) -> None:
        match event:
            case ProviderLogoutTaken():
                pass
            case _:
                super().when(event)
