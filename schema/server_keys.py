"""Which delivery keys of the server count for an agent: the one that it enrolled with, and what followed from it.

A key announces the next one, signed by itself; both count until a key says that those before it are over. So an agent
that knows any key of the chain finds the one in use, however long it was away, and whoever holds a key that is over
finds no ear.
"""

from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schema import trust

MOST_KEYS = 16
"""More than there ever are at once; whoever holds a key that counts may announce as many as they please."""


class ServerKeysRefusedError(ValueError):
    """No key that counts here has signed this."""


class CountingKey(msgspec.Struct, frozen=True):
    """A key that counts; Ed25519, 32 bytes."""

    public_key: bytes
    previous: bytes = b""
    """That announced it; empty of the oldest that counts."""


def verified(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the holder of a key signed the data."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def following(counting: Sequence[CountingKey], told: trust.ServerKeys) -> list[CountingKey]:
    """The keys that follow from those that count, without those that are over.

    Args:
        counting: so far, the oldest first.
        told: what the server says; links that say nothing new are passed over.

    Raises:
        ServerKeysRefusedError: a link or the end of a key is not signed by a key that counts. Nothing is believed then.
    """
    keys = list(counting)
    for link in told.links:
        known = {key.public_key for key in keys}
        if link.public_key in known or link.previous not in known:
            continue  # nothing new; or from before the first that is known here, as for who enrolled later
        if not verified(link.previous, link.signature, trust.key_link_signed(link.previous, link.public_key)):
            raise ServerKeysRefusedError("A key was announced that the one before it has not signed.")
        keys.append(CountingKey(link.public_key, link.previous))
    if told.oldest and told.oldest in {key.public_key for key in keys}:
        if not verified(told.oldest, told.retired, trust.keys_retired_signed(told.oldest)):
            raise ServerKeysRefusedError("Keys were said to be over, and the one that is left has not signed it.")
        keys = _from(keys, told.oldest)
    if len(keys) > MOST_KEYS:
        raise ServerKeysRefusedError(f"More than {MOST_KEYS} keys would count at once.")
    return keys


def _from(keys: Sequence[CountingKey], oldest: bytes) -> list[CountingKey]:
    """A key and those that follow from it: another branch that an older key began is over with that key."""
    kept = [CountingKey(oldest)]
    for key in keys:
        if key.public_key != oldest and key.previous in {one.public_key for one in kept}:
            kept.append(key)
    return kept
