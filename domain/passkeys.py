"""Passkeys: keys that a person's devices keep, and that answer to one address alone (WebAuthn).

The public half is no secret, so the event holds it. What is used up, the challenge, is kept beside the log.
"""

from typing import ClassVar
from uuid import UUID

import msgspec

from domain.event import Aggregate, Change, Event
from domain.ids import UserId, derived_id
from domain.personal import Personal, SubjectKind

MOST = 20
"""Of one person."""


class Passkey(msgspec.Struct, frozen=True):
    name: str
    credential_id: str
    """As the device calls it, in URL-safe base 64."""
    public_key: str
    """In COSE, in URL-safe base 64."""

    @property
    def id(self) -> UUID:
        return derived_id("passkey", self.credential_id)


class PasskeyAdded(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("name",), of=SubjectKind.USER, subject="user_id")

    user_id: UserId
    name: str
    credential_id: str
    public_key: str
    synced: bool
    """Whether the device says that it may be on others as well."""


class PasskeyRenamed(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("name",), of=SubjectKind.USER, subject="user_id")

    user_id: UserId
    credential_id: str
    name: str


class PasskeyRemoved(Event, frozen=True, kw_only=True):
    user_id: UserId
    credential_id: str


class PasskeyUsed(Event, frozen=True, kw_only=True):
    user_id: UserId
    sign_count: int
    """By the device's own count; 0 where it keeps none."""


class PasskeyUse(Aggregate):
    """How often one passkey was used, apart from how its user logs in: that stays short."""

    sign_count: int = 0

    @staticmethod
    def id_of(credential_id: str) -> UUID:
        return derived_id("passkey-use", credential_id)

    def use(self, user_id: UserId, sign_count: int) -> Change:
        return self.decide(PasskeyUsed(user_id=user_id, sign_count=sign_count))

    def when(self, event: Event) -> None:
        match event:
            case PasskeyUsed():
                self.sign_count = event.sign_count
            case _:
                super().when(event)
