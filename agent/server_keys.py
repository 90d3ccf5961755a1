"""Which delivery keys of the server this agent accepts: the one that it enrolled with, and what followed from it.

A key announces the next one, signed by itself; both count until a key says that those before it are over. So an agent
that knows any key of the chain finds the one in use, however long it was away, and whoever holds a key that is over
finds no ear. What is learned is on disk, whole or not at all, before the server is told: `Identity.save`.
"""

from collections.abc import Sequence

import msgspec

from agent.identity import Identity, ServerKey, verified
from schema import trust

MOST_KEYS = 16
"""More than there ever are at once; whoever holds a key that counts may announce as many as they please."""


class ServerKeysRefusedError(ValueError):
    """No key that counts here has signed this."""


def following(identity: Identity, told: trust.ServerKeys) -> Identity:
    """An identity that accepts the keys that follow from those it accepts, and no longer those that are over.

    Args:
        identity: as it is on disk.
        told: what the server says; links that say nothing new are passed over.

    Raises:
        ServerKeysRefusedError: a link or the end of a key is not signed by a key that counts. Nothing is believed then.
    """
    keys = list(identity.accepted)
    for link in told.links:
        known = {key.public_key for key in keys}
        if link.public_key.hex() in known or link.previous.hex() not in known:
            continue  # nothing new; or from before the first that is known here, as for who enrolled later
        signed = trust.key_link_signed(link.previous, link.public_key)
        if not verified(link.previous.hex(), link.signature, signed):
            raise ServerKeysRefusedError("A key was announced that the one before it has not signed.")
        keys.append(ServerKey(public_key=link.public_key.hex(), previous=link.previous.hex()))
    if told.oldest and told.oldest.hex() in {key.public_key for key in keys}:
        if not verified(told.oldest.hex(), told.retired, trust.keys_retired_signed(told.oldest)):
            raise ServerKeysRefusedError("Keys were said to be over, and the one that is left has not signed it.")
        keys = _from(keys, told.oldest.hex())
    if len(keys) > MOST_KEYS:
        raise ServerKeysRefusedError(f"More than {MOST_KEYS} keys would count at once.")
    if keys == list(identity.accepted):
        return identity
    return msgspec.structs.replace(identity, server_public_key=keys[0].public_key, server_keys=keys[1:])


def _from(keys: Sequence[ServerKey], oldest: str) -> list[ServerKey]:
    """A key and those that follow from it: another branch that an older key began is over with that key."""
    kept = [ServerKey(public_key=oldest)]
    for key in keys:
        if key.public_key != oldest and key.previous in {one.public_key for one in kept}:
            kept.append(key)
    return kept
