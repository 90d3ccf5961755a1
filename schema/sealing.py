"""Seals what one agent alone may read, to the key that it enrolled with.

    ephemeral X25519 key, agent's X25519 key --ECDH--> HKDF-SHA-256 --> AES-256-GCM

An agent has one Ed25519 key. Its X25519 key follows from that, as libsodium's ``crypto_sign_ed25519_pk_to_curve25519``
has it (RFC 7748, RFC 8032): the curves are birationally equivalent, u = (1 + y) / (1 - y).
"""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_P = 2**255 - 19
_KEY_BYTES = 32
_NONCE = b"\x00" * 12
"""The key is used once: each message has an ephemeral key of its own."""
_INFO = b"fleetlog-sealing-1"


class SealError(ValueError):
    """It was not sealed for this key and name, or was altered."""


def seal(public_key: bytes, plain: bytes, name: bytes) -> bytes:
    """Seal for an agent.

    Args:
        public_key: its Ed25519 key, 32 bytes.
        plain: what only it may read.
        name: bound to it; whoever opens must name the same.

    Returns:
        The ephemeral public key (32 bytes), then the ciphertext and its tag (16 bytes).

    Raises:
        SealError: that is no such key.
    """
    ephemeral = X25519PrivateKey.generate()
    mine = ephemeral.public_key().public_bytes_raw()
    theirs = _montgomery(public_key)
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:
        raise SealError(f"Nothing can be sealed for that key: {error}") from error
    return mine + AESGCM(_derived(shared, mine, theirs)).encrypt(_NONCE, plain, name)


def unseal(private_key: Ed25519PrivateKey, sealed: bytes, name: bytes) -> bytes:
    """Open what was sealed for this key.

    Raises:
        SealError: it does not open.
    """
    digest = hashlib.sha512(private_key.private_bytes_raw()).digest()
    own = X25519PrivateKey.from_private_bytes(digest[:_KEY_BYTES])  # clamped when it is used (RFC 7748)
    theirs, box = sealed[:_KEY_BYTES], sealed[_KEY_BYTES:]
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(theirs))
        return AESGCM(_derived(shared, theirs, own.public_key().public_bytes_raw())).decrypt(_NONCE, box, name)
    except (InvalidTag, ValueError) as error:
        raise SealError("It was sealed for another key or name, or was altered.") from error


def _montgomery(public_key: bytes) -> bytes:
    if len(public_key) != _KEY_BYTES:
        raise SealError("An Ed25519 key has 32 bytes.")
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    if y in (0, 1):
        raise SealError("That Ed25519 key is of small order.")
    return ((1 + y) * pow(1 - y, -1, _P) % _P).to_bytes(_KEY_BYTES, "little")


def _derived(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=ephemeral + recipient, info=_INFO).derive(shared)
