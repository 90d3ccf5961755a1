"""An event as it is hashed, and the chain of hashes.

The canonical event is JSON in the form of RFC 8785 over what is stored, and nothing that is derived from it: position,
stream, version, type with its schema version, time, actor, ids, and the SHA-256 of the body's bytes as they lie in the
database. The body comes in by its hash, so that a proof stays small, and so that a body that is kept encrypted can be
forgotten (by losing its key) while the chain over it goes on to hold: nothing here ever sees a decrypted form.

    leaf  = SHA-256(0x00 | canonical event)          as RFC 6962 has it
    chain = SHA-256(0x02 | chain before | leaf)      32 zero bytes before the first
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import msgspec

from schema.archive import Row

NO_HEAD = bytes(32)
"""The chain before its first event."""
HASH_BYTES = 32
ENTRY_BYTES = 8 + HASH_BYTES
"""Of one event in a page: its position, big-endian, and its leaf."""


class Canonical(msgspec.Struct, frozen=True):
    """The fields of a canonical event, in the order of RFC 8785: by their names.

    msgspec writes them as RFC 8785 asks: no space, integers as they are, only what must be escaped, in the short forms.
    Times are UTC with a ``Z``; microseconds, six digits, are left out where they are zero. Positions and versions stay
    below 2**53.
    """

    actor: str
    agent_id: UUID | None
    body_sha256: str
    causation_id: UUID | None
    client_id: UUID | None
    correlation_id: UUID
    position: int
    recorded_at: datetime
    stream_id: UUID
    type: str
    """With its schema version: ``CommandQueued/2``."""
    version: int


_encode = msgspec.json.Encoder().encode


def canonical(row: Row) -> bytes:
    """The canonical form of an event as the log or the archive holds it."""
    return _encode(of_row(row))


def of_row(row: Row) -> Canonical:
    """The fields of an event that are hashed."""
    position, stream_id, version, topic, body, at, actor, correlation_id, causation_id, agent_id, client_id = row
    return Canonical(
        actor,
        agent_id,
        sha256(body).hexdigest(),
        causation_id,
        client_id,
        correlation_id,
        position,
        at.astimezone(UTC),
        stream_id,
        topic,
        version,
    )


def encode_canonical(event: Canonical) -> bytes:
    return _encode(event)


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def leaf_of(row: Row) -> bytes:
    """An event's leaf."""
    return leaf_hash(canonical(row))


def leaves_of(rows: Iterable[Row]) -> list[bytes]:
    """The leaves of many events; the loop that chains and verifies spend their time in."""
    encode, make, digest = _encode, Canonical, sha256
    found = []
    for position, stream_id, version, topic, body, at, actor, correlation_id, causation_id, agent_id, client_id in rows:
        data = encode(
            make(
                actor,
                agent_id,
                digest(body).hexdigest(),
                causation_id,
                client_id,
                correlation_id,
                position,
                at.astimezone(UTC),
                stream_id,
                topic,
                version,
            )
        )
        found.append(digest(b"\x00" + data).digest())
    return found


def fold(head: bytes, leaves: Iterable[bytes]) -> bytes:
    """The chain's hash after more events."""
    digest = sha256
    for leaf in leaves:
        head = digest(b"\x02" + head + leaf).digest()
    return head


def pack(positions: Iterable[int], leaves: Iterable[bytes]) -> bytes:
    """Entries of a page."""
    return b"".join([position.to_bytes(8, "big") + leaf for position, leaf in zip(positions, leaves, strict=True)])


def unpack(entries: bytes) -> list[tuple[int, bytes]]:
    """Positions and leaves of a page.

    Raises:
        ValueError: it is not made of whole entries.
    """
    if len(entries) % ENTRY_BYTES:
        raise ValueError("a page is cut within an entry")
    return [
        (int.from_bytes(entries[at : at + 8], "big"), entries[at + 8 : at + ENTRY_BYTES])
        for at in range(0, len(entries), ENTRY_BYTES)
    ]


def moved(row: Row, position: int) -> Row:
    """The same event at another position."""
    return (position, *row[1:])
