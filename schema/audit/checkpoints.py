"""Checkpoints: what is signed, by whom, and how it looks outside of the database.

A statement is JSON in the form of RFC 8785. Its bytes are what is signed (Ed25519), so that anybody can sign or verify
them with any tool: `openssl pkeyutl -sign -rawin` over the text of ``statement`` is a countersignature.
"""

from datetime import datetime
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schema.audit.canonical import unpack

FORMAT = 1
NO_STATEMENT = "0" * 64
"""What the first statement names as the one before it."""
OWN = "fleetlog"
"""The name under which Fleetlog itself signs."""


class AuditError(Exception):
    """Something that is to prove the log's history cannot be used."""

    code = "audit_error"


class BadCheckpointError(AuditError):
    """That is no checkpoint, or its signature is not its own."""

    code = "bad_checkpoint"


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says. Fields in the order of their names."""

    chain_head: str
    """After its last event."""
    events: int
    """Of its own tree."""
    first_position: int
    format: int = FORMAT
    key: str
    """The public half of the key that Fleetlog signs it with."""
    last_position: int
    made_at: datetime
    number: int
    previous: str
    """SHA-256 of the statement before."""
    root: str
    """Of the Merkle tree (RFC 6962) over its events."""
    total_events: int
    """Of this and all before."""


class Signature(msgspec.Struct, frozen=True):
    """Somebody's word for a statement."""

    name: str
    key: str
    """Ed25519, in hex."""
    signature: str


class Checkpoint(msgspec.Struct, frozen=True):
    """A statement and its signatures, as they are exported."""

    statement: str
    """As it was signed."""
    signatures: list[Signature]

    @property
    def sha256(self) -> str:
        return hash_of(self.statement)

    def read(self) -> Statement:
        """What it says.

        Raises:
            BadCheckpointError: it cannot be read, or is not in the form that is signed.
        """
        return read_statement(self.statement)

    def verify(self) -> Statement:
        """What it says, once every signature is shown to be its signer's, and Fleetlog's own is among them.

        Raises:
            BadCheckpointError: one is not.
        """
        statement = self.read()
        for one in self.signatures:
            if not verifies(one.key, one.signature, self.statement):
                raise BadCheckpointError(
                    f"Checkpoint {statement.number}: the signature of {one.name!r} is not its own."
                )
        if statement.key not in {one.key for one in self.signatures}:
            raise BadCheckpointError(f"Checkpoint {statement.number} is not signed with the key that it names.")
        return statement


def encode_statement(statement: Statement) -> str:
    """As it is signed and hashed."""
    return msgspec.json.encode(statement).decode()


def read_statement(text: str) -> Statement:
    """The statement of a text.

    Raises:
        BadCheckpointError: it is none of this format.
    """
    try:
        statement = msgspec.json.decode(text, type=Statement)
    except msgspec.DecodeError as error:
        raise BadCheckpointError(f"A checkpoint's statement cannot be read: {error}") from error
    if statement.format != FORMAT:
        raise BadCheckpointError(f"Checkpoint {statement.number} is of format {statement.format}; this reads {FORMAT}.")
    if encode_statement(statement) != text:
        raise BadCheckpointError(f"Checkpoint {statement.number} is not in the form that is signed.")
    return statement


def hash_of(statement: str) -> str:
    return sha256(statement.encode()).hexdigest()


def sign(seed: bytes, statement: str, name: str = OWN) -> Signature:
    """Sign a statement.

    Args:
        seed: of an Ed25519 key, 32 bytes.
        statement: the text.
        name: who signs.
    """
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes_raw().hex()
    return Signature(name, public, key.sign(statement.encode()).hex())


def verifies(key: str, signature: str, statement: str) -> bool:
    """Whether a signature is that of a key, over a statement."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), statement.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def public_of(seed: bytes) -> str:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """As a file or a message."""
    return msgspec.json.format(msgspec.json.encode(checkpoint), indent=1) + b"\n"


def decode_checkpoint(data: bytes) -> Checkpoint:
    """From a file or a message.

    Raises:
        BadCheckpointError: it is none.
    """
    try:
        return msgspec.json.decode(data, type=Checkpoint)
    except msgspec.DecodeError as error:
        raise BadCheckpointError(f"That is no checkpoint: {error}") from error


class Outside(msgspec.Struct, frozen=True):
    """A checkpoint as it was kept outside, with the leaves of its events where they were kept too."""

    checkpoint: Checkpoint
    statement: Statement
    entries: list[tuple[int, bytes]] | None


def file_name(statement: Statement, sha256_hex: str) -> str:
    """Of an exported checkpoint, without its ending; holds the hash, so that none replaces another."""
    return f"{statement.number:08}-{sha256_hex[:16]}"


def read_outside(place: Path) -> list[Outside]:
    """Exported checkpoints, each verified by itself.

    Args:
        place: one file, or a folder with many; a file of leaves beside it (``.leaves``) is read too.

    Raises:
        BadCheckpointError: one cannot be read, or its signature is not its own; or there is none.
        OSError: a file cannot be read.
    """
    files = sorted(place.glob("*.json")) if place.is_dir() else [place]
    found = []
    for file in files:
        checkpoint = decode_checkpoint(file.read_bytes())
        statement = checkpoint.verify()
        beside = file.with_suffix(".leaves")
        entries = None
        if beside.is_file():
            try:
                entries = unpack(beside.read_bytes())
            except ValueError as error:
                raise BadCheckpointError(f"{beside}: {error}.") from error
        found.append(Outside(checkpoint, statement, entries))
    if not found:
        raise BadCheckpointError(f"{place} holds no checkpoints.")
    return found
