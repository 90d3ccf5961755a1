"""Which fields of an event are personal, and whose: an event's class says so, and what seals and opens them asks here.

A field's value is sealed under a key of its subject and bound to its place in the log, so that none can be moved to
another. Whoever destroys the key has erased the value, in every copy of the log that there is. docs/decisions/0023
"""

import base64
import binascii
import enum
import zlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ERASED = "[erased]"
"""What every reader sees of what was erased."""
KEY_MISSING = "[key missing]"
"""What a reader sees where a key is gone and nobody erased it: the keys were not restored with their log."""
KEY_BYTES = 32
NONCE_BYTES = 12
COMPRESSED_FROM = 200
"""Bytes of a value."""
_COMPRESSED = b"\x78"
"""How zlib's form begins, and no JSON does."""
_PREFIX = "sealed:1:"
SEALED = "[sealed]"
"""The one name in a mapping that is sealed as a whole, so that its field stays a mapping; and what is said of a sealed
value where nobody has the key."""


class SubjectKind(enum.StrEnum):
    """Whom data are about."""

    AGENT = "agent"
    USER = "user"


class Personal(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of one type of event.

    Raises nothing by itself: a body that lacks a field, as older versions may, has nothing personal there.
    """

    fields: tuple[str, ...]
    """Texts and mappings, by name; of a field within another, both with a dot between."""
    of: SubjectKind
    subject: str = ""
    """The field that names the subject; empty: the agent that stands beside the event, the user whose stream it is."""
    only: tuple[str, str] | None = None
    """Where this field says so, and else nothing is personal."""

    def subject_of(self, body: dict[str, Any], stream_id: UUID, agent_id: UUID | None) -> UUID | None:
        """Whose a body is; None where it is nobody's who is known."""
        if self.only is not None and body.get(self.only[0]) != self.only[1]:
            return None
        if not self.subject:
            return agent_id if self.of is SubjectKind.AGENT else stream_id
        try:
            return UUID(body[self.subject])
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


Place = tuple[UUID, int]
"""A stream and a version in it."""


def seal(
    body: dict[str, Any], personal: Personal, key: bytes | None, place: Place, nonce: Callable[[int], bytes]
) -> None:
    """Seal a body's personal fields, in place. What is empty stays so: it says nothing of anybody.

    Args:
        body: as JSON.
        personal: of its type.
        key: of its subject, 32 bytes; None where that was erased, so that nothing of it is kept at all.
        place: where the event will be.
        nonce: so many random bytes.
    """
    box = AESGCM(key) if key is not None else None

    def sealed(name: str, value: Any) -> Any:
        if box is None:
            return _as(value, ERASED)
        once = nonce(NONCE_BYTES)
        content = box.encrypt(once, _packed(msgspec.json.encode(value)), _bound(place, name))
        text = _PREFIX + base64.b64encode(once + content).decode()
        return {SEALED: text} if isinstance(value, dict) else text

    _each(body, personal, sealed)


def unseal(body: dict[str, Any], personal: Personal, key: bytes | None, place: Place, *, known: bool) -> bool:
    """Open a body's personal fields, in place.

    Args:
        body: as JSON.
        personal: of its type.
        key: of its subject; None where there is none.
        place: where the event is.
        known: whether there is, or was, a key: without it and without a key the subject was erased.

    Returns:
        Whether anything is now other than it stood there.
    """
    box = AESGCM(key) if key is not None else None
    changed = False

    def opened(name: str, value: Any) -> Any:
        nonlocal changed
        content = _sealed(value)
        if box is None:
            if content is None and not known:
                return value  # from before there was sealing, and nobody erased it
            changed = True
            return _as(value, ERASED if known else KEY_MISSING)
        if content is None:
            return value
        try:
            plain = box.decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], _bound(place, name))
        except InvalidTag:
            return value  # a machine may call itself what it likes, also before there was sealing
        changed = True
        return msgspec.json.decode(zlib.decompress(plain) if plain.startswith(_COMPRESSED) else plain)

    _each(body, personal, opened)
    return changed


def cover(body: dict[str, Any], personal: Personal) -> None:
    """Put `SEALED` where something is sealed, in place."""
    _each(body, personal, lambda _name, value: value if _sealed(value) is None else _as(value, SEALED))


def in_clear(body: dict[str, Any], personal: Personal) -> bool:
    """Whether a personal field of a body is not sealed."""
    found = False

    def look(_name: str, value: Any) -> Any:
        nonlocal found
        found = found or (_sealed(value) is None and value not in (ERASED, {ERASED: ERASED}))
        return value

    _each(body, personal, look)
    return found


def _each(body: dict[str, Any], personal: Personal, change: Callable[[str, Any], Any]) -> None:
    for name in personal.fields:
        holder: Any = body
        *way, last = name.split(".")
        for step in way:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and (value := holder.get(last)) and isinstance(value, str | dict):
            holder[last] = change(name, value)


def _packed(plain: bytes) -> bytes:
    """What is large is compressed: the server cannot do it any more once it is sealed."""
    return zlib.compress(plain, 1) if len(plain) >= COMPRESSED_FROM else plain


def _as(value: Any, mark: str) -> Any:
    return {mark: mark} if isinstance(value, dict) else mark


def _sealed(value: Any) -> bytes | None:
    """The sealed bytes, where a value looks like such."""
    text = value.get(SEALED) if isinstance(value, dict) and len(value) == 1 else value
    if not isinstance(text, str) or not text.startswith(_PREFIX):
        return None
    try:
        content = base64.b64decode(text[len(_PREFIX) :], validate=True)
    except binascii.Error:
        return None
    return content if len(content) > NONCE_BYTES else None


def _bound(place: Place, name: str) -> bytes:
    stream_id, version = place
    return stream_id.bytes + version.to_bytes(8, "big") + name.encode()
