"""The delivery keys of the server that this agent accepts, as they are on disk: `schema.server_keys` says which count.

What is learned is on disk, whole or not at all, before the server is told: `Identity.save`.
"""

import msgspec

from agent.identity import Identity, ServerKey
from schema import server_keys, trust
from schema.server_keys import MOST_KEYS, CountingKey, ServerKeysRefusedError

__all__ = ["MOST_KEYS", "ServerKeysRefusedError", "following"]


def following(identity: Identity, told: trust.ServerKeys) -> Identity:
    """An identity that accepts the keys that follow from those it accepts, and no longer those that are over.

    Args:
        identity: as it is on disk.
        told: what the server says.

    Raises:
        ServerKeysRefusedError: see `schema.server_keys.following`.
    """
    counting = [CountingKey(bytes.fromhex(one.public_key), bytes.fromhex(one.previous)) for one in identity.accepted]
    found = server_keys.following(counting, told)
    if found == counting:
        return identity
    keys = [ServerKey(public_key=one.public_key.hex(), previous=one.previous.hex()) for one in found]
    return msgspec.structs.replace(identity, server_public_key=keys[0].public_key, server_keys=keys[1:])
