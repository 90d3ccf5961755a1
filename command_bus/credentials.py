"""Credentials that Fleetlog mints: an id to find them by, and a secret that only their holder knows.

    flk_<id: 32 hex digits>_<secret: 43 characters of URL-safe base64, 256 random bits>

and likewise flt_ for enrollment, fls_ for a session.

A secret with that much randomness cannot be guessed from a plain SHA-256, so that is what is kept; a slow hash is for
what people choose themselves.
"""

import hashlib
import secrets
from uuid import UUID

import msgspec

KEY_PREFIX = "flk"
SESSION_PREFIX = "fls"
TOKEN_PREFIX = "flt"  # noqa: S105 -- a prefix that says what kind of credential follows
PREFIX_DIGITS = 16
"""Of an id: its time to the millisecond, and enough beside it to tell keys of one moment apart."""
_ID_DIGITS = 32
_MAX_LENGTH = 200


class Credential(msgspec.Struct, frozen=True):
    text: str
    secret_sha256: str


def mint(prefix: str, stream_id: UUID) -> Credential:
    """Make the text of a new credential for the stream that will record its hash."""
    secret = secrets.token_urlsafe(32)
    return Credential(f"{prefix}_{stream_id.hex}_{secret}", hashlib.sha256(secret.encode()).hexdigest())


def key_prefix(key_id: UUID) -> str:
    """How an API key begins: enough to find it by where it turns up, and nothing of what is secret about it."""
    return f"{KEY_PREFIX}_{key_id.hex[:PREFIX_DIGITS]}"


def begins_like(prefix: str) -> tuple[UUID, UUID]:
    """The first and the last id that a key could have which begins so.

    Args:
        prefix: ``flk_`` and up to 32 hexadecimal digits, as any leading piece of a key's public half.

    Raises:
        ValueError: it is none.
    """
    kind, _, digits = prefix.partition("_")
    if kind != KEY_PREFIX or not 1 <= len(digits) <= _ID_DIGITS:
        raise ValueError(prefix)
    return UUID(hex=digits.ljust(_ID_DIGITS, "0")), UUID(hex=digits.ljust(_ID_DIGITS, "f"))


def parse(prefix: str, text: str) -> tuple[UUID, str] | None:
    """Split a credential into the stream's id and the secret's SHA-256 in hex; None if it is not one of this kind."""
    if len(text) > _MAX_LENGTH:
        return None
    found, _, rest = text.partition("_")
    digits, _, secret = rest.partition("_")
    if found != prefix or len(digits) != _ID_DIGITS or not secret:
        return None
    try:
        stream_id = UUID(hex=digits)
    except ValueError:
        return None
    return stream_id, hashlib.sha256(secret.encode()).hexdigest()
