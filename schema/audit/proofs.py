"""A proof that one event is in the log, which holds without the rest of the log: a few kB."""

import base64
import binascii
from collections.abc import Collection, Sequence
from hashlib import sha256

import msgspec

from schema.archive import Row
from schema.audit import merkle
from schema.audit.canonical import Canonical, encode_canonical, leaf_hash, of_row
from schema.audit.checkpoints import AuditError, Checkpoint, Statement

FORMAT = 1


class BadProofError(AuditError):
    """The proof does not hold."""

    code = "bad_proof"


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One event, its way up to a root, and who signed that root."""

    format: int = FORMAT
    event: Canonical
    body: str | None
    """As stored; none where it was left out or is no text."""
    body_base64: str | None = None
    """In place of it, where it is no text."""
    index: int
    """Of its leaf in the checkpoint's tree, from 0."""
    size: int
    """How many leaves that tree has."""
    path: list[str]
    """The audit path of RFC 6962, in hex."""
    checkpoint: Checkpoint


def make_proof(
    row: Row, index: int, leaves: Sequence[bytes], checkpoint: Checkpoint, *, with_body: bool = True
) -> Proof:
    """Prove an event.

    Args:
        row: the event, as stored.
        index: its place among the leaves.
        leaves: all of its checkpoint's tree.
        checkpoint: with its signatures.
        with_body: its content too, and not its hash alone.
    """
    text, coded = None, None
    if with_body:
        try:
            text = bytes(row[4]).decode()
        except UnicodeDecodeError:
            coded = base64.b64encode(row[4]).decode()
    return Proof(
        event=of_row(row),
        body=text,
        body_base64=coded,
        index=index,
        size=len(leaves),
        path=[node.hex() for node in merkle.path(leaves, index)],
        checkpoint=checkpoint,
    )


def encode_proof(proof: Proof) -> bytes:
    return msgspec.json.format(msgspec.json.encode(proof), indent=1) + b"\n"


def decode_proof(data: bytes) -> Proof:
    """Read a proof.

    Raises:
        BadProofError: it is none of this format.
    """
    try:
        proof = msgspec.json.decode(data, type=Proof)
    except msgspec.DecodeError as error:
        raise BadProofError(f"That is no proof: {error}") from error
    if proof.format != FORMAT:
        raise BadProofError(f"It is a proof of format {proof.format}; this reads {FORMAT}.")
    return proof


def check_proof(proof: Proof, keys: Collection[str] = ()) -> Statement:
    """Show that a proof holds.

    Args:
        proof: as it was handed over.
        keys: public keys that are trusted; one of them must have signed. None: the proof's own word is taken.

    Returns:
        What the checkpoint says that the event is under.

    Raises:
        BadProofError: it does not hold; the text says where it breaks.
        BadCheckpointError: a signature of its checkpoint is not its signer's.
    """
    statement = trusted(proof.checkpoint, keys)
    check_under(proof, statement)
    return statement


def trusted(checkpoint: Checkpoint, keys: Collection[str] = ()) -> Statement:
    """What a checkpoint says, once it is shown that its signers signed it.

    Args:
        checkpoint: with its signatures.
        keys: public keys that are trusted, as for `check_proof`.

    Raises:
        BadProofError: none of the keys has signed it.
        BadCheckpointError: a signature is not its signer's.
    """
    statement = checkpoint.verify()
    if keys and not {one.key for one in checkpoint.signatures} & set(keys):
        raise BadProofError("None of the keys that you trust has signed the checkpoint.")
    return statement


def check_under(proof: Proof, statement: Statement) -> None:
    """Show that an event is under a checkpoint that is verified already: of a file, once for all of its events.

    Args:
        proof: whose own checkpoint is not looked at.
        statement: what the checkpoint says.

    Raises:
        BadProofError: it does not hold; the text says where it breaks.
    """
    try:
        body = base64.b64decode(proof.body_base64, validate=True) if proof.body_base64 is not None else None
        path = [bytes.fromhex(node) for node in proof.path]
    except (binascii.Error, ValueError) as error:
        raise BadProofError(f"It cannot be read: {error}") from error
    if proof.body is not None:
        body = proof.body.encode()
    if body is not None and sha256(body).hexdigest() != proof.event.body_sha256:
        raise BadProofError("The body is not the one that was recorded.")
    if not statement.first_position <= proof.event.position <= statement.last_position:
        raise BadProofError("The checkpoint does not reach over the event's position.")
    if proof.size != statement.events:
        raise BadProofError("The checkpoint's tree has another size.")
    try:
        root = merkle.root_from(leaf_hash(encode_canonical(proof.event)), proof.index, proof.size, path)
    except ValueError as error:
        raise BadProofError(f"Its path leads nowhere: {error}.") from error
    if root.hex() != statement.root:
        raise BadProofError("Its path does not lead to the root that was signed: the event is not the one recorded.")
