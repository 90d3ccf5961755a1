"""Whom an agent trusts, and how it comes to trust others: authorities, and the server's own keys.

Both are signed by a delivery key of the server, so who carries them, and over which connection, does not matter.
"""

import hashlib
from datetime import datetime

import msgspec


def trust_digest(server_ca: str | None, nats_ca: str | None) -> str:
    """Tells apart which authorities an agent trusts, so that they need not be sent with each hello."""
    return hashlib.sha256(msgspec.json.encode([server_ca, nats_ca])).hexdigest()


class TrustBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server signs. It is for all agents, and no secret."""

    made_at: datetime
    """An agent takes none that is older than the one it has."""
    server_ca: str | None = None
    """PEM: whom to trust at the address of the API, and nobody else; absent where its certificate is a public one."""
    nats_ca: str | None = None
    """The same for NATS."""


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to trust from now on; while one authority takes over from another, that is both."""

    body: bytes
    """msgpack of a `TrustBody`."""
    signature: bytes
    """Ed25519 over ``b"fleetlog-trust-1\0" + body``, by the server's key."""


TRUST_CONTEXT = b"fleetlog-trust-1\x00"


class KeyLink(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery key of the server announces the next; both count from then on."""

    previous: bytes
    """Ed25519, 32 bytes."""
    public_key: bytes
    """The same."""
    signature: bytes
    """By the previous key, over `key_link_signed`."""


class ServerKeys(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an agent comes from the delivery key that it knows to the one in use, however long it was away.

    It is for all agents, and no secret. Whoever accepts one key of the chain can follow it to its end: each link is
    checked by the key before it, and the private halves of those that are over are not needed for it.
    """

    links: list[KeyLink] = []
    """In order, from the first there ever was."""
    oldest: bytes = b""
    """The oldest key that still counts, where others were before it."""
    retired: bytes = b""
    """By that key, over `keys_retired_signed`: none counts but it and those that follow from it."""


KEY_LINK_CONTEXT = b"fleetlog-server-key-1\x00"
KEYS_RETIRED_CONTEXT = b"fleetlog-keys-retired-1\x00"


def key_link_signed(previous: bytes, public_key: bytes) -> bytes:
    """What the signature of a `KeyLink` is over."""
    return KEY_LINK_CONTEXT + previous + public_key


def keys_retired_signed(oldest: bytes) -> bytes:
    """What ``retired`` of a `ServerKeys` is over."""
    return KEYS_RETIRED_CONTEXT + oldest


def key_name(public_key: bytes) -> bytes:
    """What a signed message calls the key that it was signed with."""
    return public_key[:8]


class WhomToTrust(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of ``GET /api/v1/agent/trust``, open to everybody, and no secret.

    For agents that were away while one authority took over from another: it is believed by its signatures alone.
    """

    server_keys: ServerKeys
    trust: Trust


WHOM_TO_TRUST_PATH = "/api/v1/agent/trust"

decode_body = msgspec.msgpack.Decoder(TrustBody).decode
