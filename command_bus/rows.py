"""Events packed as Postgres reads them: binary rows for COPY, and a binary array for the append function.

Packed by hand because this is the log's hottest loop: a few joins per event, where the driver would look up a dumper
for each of nine values. Layouts: "COPY ... Binary Format" in the Postgres manual, and what `record_recv` and
`array_recv` of the server read for composite values and arrays.
"""

import struct
from collections.abc import Iterable, Sequence
from uuid import UUID

from domain.codec import TOPICS, encode
from domain.event import Change, Metadata

UUID_OID = 2950
INT8_OID = 20
TEXT_OID = 25
BYTEA_OID = 17

COLUMNS = "originator_id, originator_version, agent_id, client_id, topic, state, actor, correlation_id, causation_id"
_FIELDS = 9
_COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_TRAILER = b"\xff\xff"

_int32 = struct.Struct(">i").pack


class RowFormat:
    """How one row is laid out.

    Args:
        composite: as a composite value, with its type before each field; otherwise as COPY reads it.
    """

    def __init__(self, *, composite: bool) -> None:
        self._composite = composite
        count = struct.pack(">i" if composite else ">h", _FIELDS)
        self._opening = count + self._prefix(UUID_OID, 16)
        self._version = self._prefix(INT8_OID, 8)
        self._uuid = self._prefix(UUID_OID, 16)
        self._no_uuid = self._prefix(UUID_OID, -1)
        self._state = _int32(BYTEA_OID) if composite else b""
        self._head = struct.Struct(f">{len(self._opening)}s16s{len(self._version)}sq").pack
        self._topics = {event_type: self._topic(topic) for event_type, topic in TOPICS.items()}

    def _prefix(self, oid: int, length: int) -> bytes:
        return (_int32(oid) if self._composite else b"") + _int32(length)

    def _text(self, text: str) -> bytes:
        data = text.encode()
        return self._prefix(TEXT_OID, len(data)) + data

    def _uuid_field(self, value: UUID | None) -> bytes:
        return self._uuid + value.bytes if value is not None else self._no_uuid

    def _topic(self, topic: str) -> bytes:
        return self._text(topic) + self._state

    def _metadata(self, metadata: Metadata) -> bytes:
        ids = self._uuid_field(metadata.correlation_id) + self._uuid_field(metadata.causation_id)
        return self._text(metadata.actor) + ids

    def rows(self, changes: Iterable[Change], metadata: Metadata) -> list[bytes]:
        """Encode and pack changes, a row each."""
        tail = self._metadata(metadata)
        topics, head, opening, version = self._topics, self._head, self._opening, self._version
        uuid, no_uuid = self._uuid, self._no_uuid
        packed = []
        for change in changes:
            state = encode(change.event)
            agent_id, client_id = change.agent_id, change.client_id
            packed.append(
                b"".join(
                    (
                        head(opening, change.originator_id.bytes, version, change.originator_version),
                        uuid + agent_id.bytes if agent_id is not None else no_uuid,
                        uuid + client_id.bytes if client_id is not None else no_uuid,
                        topics[type(change.event)],
                        _int32(len(state)),
                        state,
                        tail,
                    )
                )
            )
        return packed


COPY = RowFormat(composite=False)
COMPOSITE = RowFormat(composite=True)


def array_of(rows: Sequence[bytes], type_oid: int) -> bytes:
    """A one-dimensional array, as the append function's argument.

    Args:
        rows: of the composite format.
        type_oid: of `fleetlog.new_event` in this database.
    """
    pieces = [struct.pack(">iiIii", 1, 0, type_oid, len(rows), 1)]
    for row in rows:
        pieces.append(_int32(len(row)))
        pieces.append(row)
    return b"".join(pieces)


def copy_block(rows: Sequence[bytes]) -> bytes:
    """A whole COPY stream, of rows of the COPY format."""
    return b"".join((_COPY_HEADER, *rows, _COPY_TRAILER))
