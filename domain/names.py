"""Names that must be unique: each claimed name is a stream of its own, so the log itself refuses a second claim."""

import hashlib
import hmac
import unicodedata
from typing import ClassVar
from uuid import UUID

from domain.errors import InvalidValueError, NameTakenError
from domain.event import Aggregate, Change, Event
from domain.ids import derived_id
from domain.personal import Personal, SubjectKind

MAX_NAME_LENGTH = 200


class NameClaimed(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(
        fields=("name",), of=SubjectKind.USER, subject="holder", only=("kind", "user")
    )

    kind: str
    scope: UUID | None
    name: str
    holder: UUID


class NameReleased(Event, frozen=True, kw_only=True):
    holder: UUID


def clean_name(name: str, *, what: str) -> str:
    """Trim a name and refuse what no list could show.

    Raises:
        InvalidValueError: it is empty, longer than 200 characters, or holds control characters.
    """
    cleaned = unicodedata.normalize("NFC", name).strip()
    if not cleaned or len(cleaned) > MAX_NAME_LENGTH:
        raise InvalidValueError(f"{what}: give a name of 1 to {MAX_NAME_LENGTH} characters, not {len(cleaned)}.")
    if any(unicodedata.category(character).startswith("C") for character in cleaned):
        raise InvalidValueError(f"{what}: control characters are not allowed in a name.")
    return cleaned


class Name(Aggregate):
    """One name of one kind, within one scope (a client for its sites; nothing for clients and scripts)."""

    holder: UUID | None = None

    @staticmethod
    def id_of(kind: str, scope: UUID | None, name: str) -> UUID:
        return derived_id("name", kind, scope or "", name.casefold())

    @staticmethod
    def secret_id_of(key: bytes, kind: str, scope: UUID | None, name: str) -> UUID:
        """As `id_of`, of a name that is personal: without the key nobody tells from the id whose name it is of.

        Args:
            key: a secret of the fleet's.
            kind: as for `id_of`.
            scope: as for `id_of`.
            name: as for `id_of`.
        """
        plain = Name.id_of(kind, scope, name)
        return UUID(bytes=hmac.digest(key, plain.bytes, hashlib.sha256)[:16], version=5)

    def must_be_free(self, kind: str, name: str, holder: UUID) -> None:
        """Raise NameTakenError where another holds it."""
        if self.holder is not None and self.holder != holder:
            raise NameTakenError(f"The {kind} name {name!r} is already in use; choose another.")

    def claim(self, kind: str, scope: UUID | None, name: str, holder: UUID) -> Change:
        self.must_be_free(kind, name, holder)
        return self.decide(NameClaimed(kind=kind, scope=scope, name=name, holder=holder))

    def release(self) -> Change:
        if self.holder is None:
            raise InvalidValueError("The name is not claimed.")
        return self.decide(NameReleased(holder=self.holder))

    def when(self, event: Event) -> None:
        match event:
            case NameClaimed():
                self.holder = event.holder
            case NameReleased():
                self.holder = None
            case _:
                super().when(event)
