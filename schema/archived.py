"""Reads archived events, whoever reads: each read is a generator that asks for statements and is sent their rows.

The log's table is read first, and the archive after it: events go one way, so what has left the table by the second
look is found there. What is found in both, since it moved in between, is one event: positions tell.

A read goes through the blocks in windows. A window ends at a position up to which everything is in its blocks, so a
page needs no more windows than it has events for, wherever in the archive it lies.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from schema.archive import ArchiveDamagedError, Row, unpack

Question = tuple[LiteralString, dict[str, Any]]
Reading = Generator[Question, list[Row], list[Row]]
"""Yields a statement and its arguments, is sent its rows, and returns events in the order of position."""

WINDOW = 16
"""Blocks, or streams of one agent, that are looked at in one go."""
CACHED = 64
END = 2**63 - 2
"""Beyond every position; one less than the largest number, since a range ends at the next one."""

# A row of an event's columns that is none: it says that there is something in the archive.
_ANY: LiteralString = """
    SELECT NULL::bigint, NULL::uuid, max(last_position), NULL::text, NULL::bytea, NULL::timestamptz, NULL::text,
        NULL::uuid, NULL::uuid, NULL::uuid, NULL::uuid
    FROM fleetlog.archive_segments HAVING max(last_position) > %(archived_after)s
"""
_OF_STREAMS: LiteralString = """
    SELECT NULL::bigint, stream_id, last_version, NULL::text, NULL::bytea, NULL::timestamptz, NULL::text,
        NULL::uuid, NULL::uuid, NULL::uuid, NULL::uuid
    FROM fleetlog.archive_streams WHERE stream_id = ANY(%(ids)s::uuid[])
"""

_REFS: LiteralString = (
    "SELECT b.segment, b.block, b.first_position, b.last_position, encode(b.sha256, 'hex'), s.file, b.start, b.size"
    " FROM fleetlog.archive_blocks AS b JOIN fleetlog.archive_segments AS s ON s.number = b.segment"
)
_WITHIN: LiteralString = "int8range(b.first_position, b.last_position, '[]') && int8range(%(low)s, %(high)s, '[]')"
_OF_WINDOW: LiteralString = f"{_REFS} WHERE {_WITHIN} ORDER BY b.first_position"
_BY_STREAM: LiteralString = (
    f"{_REFS} JOIN fleetlog.archive_streams AS t ON t.segment = b.segment AND b.last_position >= t.first_position"
    " AND b.first_position <= t.last_position"
)
_BLOCKS_OF_STREAMS: LiteralString = f"{_BY_STREAM} WHERE t.stream_id = ANY(%(ids)s::uuid[])"
_BLOCKS_OF_AGENT: LiteralString = (
    f"{_BY_STREAM} WHERE t.agent_id = %(agent_id)s AND t.first_position <= %(high)s AND t.last_position >= %(low)s"
    f" AND {_WITHIN}"
)
_DATA: LiteralString = (
    "SELECT b.segment, b.block, b.data FROM unnest(%(segments)s::bigint[], %(blocks)s::int[]) AS w (segment, block)"
    " JOIN fleetlog.archive_blocks AS b USING (segment, block)"
)
# Where a window that begins at a position ends, forwards and backwards; none: it is the last.
_EDGE: dict[tuple[bool, bool], LiteralString] = {
    (False, False): "SELECT last_position FROM fleetlog.archive_blocks WHERE last_position >= %(low)s"
    " ORDER BY last_position OFFSET %(window)s LIMIT 1",
    (False, True): "SELECT first_position FROM fleetlog.archive_blocks WHERE first_position <= %(high)s"
    " ORDER BY first_position DESC OFFSET %(window)s LIMIT 1",
    (True, False): "SELECT first_position FROM fleetlog.archive_streams WHERE agent_id = %(agent_id)s"
    " AND first_position >= %(low)s ORDER BY first_position OFFSET %(window)s LIMIT 1",
    (True, True): "SELECT first_position FROM fleetlog.archive_streams WHERE agent_id = %(agent_id)s"
    " AND first_position <= %(high)s ORDER BY first_position DESC OFFSET %(window)s LIMIT 1",
}


def with_mark(statement: LiteralString) -> LiteralString:
    """The statement for events of the table, with a row more where the archive has some beyond ``archived_after``.

    That row has no position, and in the version's place the last position that is archived.
    """
    return f"({statement}) UNION ALL {_ANY}"


def with_marks_of_streams(statement: LiteralString) -> LiteralString:
    """The statement for streams named ``ids``, with a row more for each that is archived, whole or in part.

    Such a row has no position.
    """
    return f"({statement}) UNION ALL {_OF_STREAMS}"


def split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Events, and the marks among them."""
    events = [row for row in rows if row[0] is not None]
    return events, [row for row in rows if row[0] is None] if len(events) < len(rows) else []


class _Ref(msgspec.Struct, frozen=True):
    """Where a block is."""

    segment: int
    block: int
    first_position: int
    last_position: int
    sha256: str
    file: str | None
    start: int
    size: int


class BlockCache:
    """The blocks read last, by their hash: a page often ends within one, and the next begins there."""

    def __init__(self, size: int = CACHED) -> None:
        self._size = size
        self._blocks: OrderedDict[str, list[Row]] = OrderedDict()
        self._lock = Lock()

    def get(self, sha256: str) -> list[Row] | None:
        with self._lock:
            found = self._blocks.get(sha256)
            if found is not None:
                self._blocks.move_to_end(sha256)
            return found

    def put(self, sha256: str, rows: list[Row]) -> None:
        with self._lock:
            self._blocks[sha256] = rows
            while len(self._blocks) > self._size:
                self._blocks.popitem(last=False)


_CACHE = BlockCache()
Wanted = Callable[[Row], bool]


def streams(ids: Sequence[UUID]) -> Reading:
    """All archived events of some streams."""
    wanted = frozenset(ids)
    refs = yield (_BLOCKS_OF_STREAMS, {"ids": list(ids)})
    rows = yield from _rows(refs)
    return [row for row in rows if row[1] in wanted]


def between(after: int, upto: int) -> Reading:
    """All archived events above a position, up to another."""
    refs = yield (_OF_WINDOW, {"low": after + 1, "high": min(upto, END)})
    rows = yield from _rows(refs)
    return [row for row in rows if after < row[0] <= upto]


def page(
    wanted: Wanted, *, low: int, high: int, limit: int, backwards: bool = False, agent_id: UUID | None = None
) -> Reading:
    """The first archived events of a range of positions, or, backwards, the last.

    Args:
        wanted: which.
        low: no position below it.
        high: no position above it.
        limit: at most so many.
        backwards: the newest, and these newest first.
        agent_id: narrows what is looked at to the streams of one agent.
    """
    found: list[Row] = []
    high = min(high, END)
    blocks = _BLOCKS_OF_AGENT if agent_id is not None else _OF_WINDOW
    while len(found) < limit and low <= high:
        place = {"low": low, "high": high, "window": WINDOW, "agent_id": agent_id}
        edges = yield (_EDGE[agent_id is not None, backwards], place)
        edge = edges[0][0] if edges else None
        first, last = low, high
        if edge is not None:
            first, last = (max(low, edge), high) if backwards else (low, min(high, edge))
        refs = yield (blocks, place | {"low": first, "high": last})
        rows = yield from _rows(refs)
        if backwards:
            rows.reverse()
        found += [row for row in rows if first <= row[0] <= last and wanted(row)]
        if edge is None:
            break
        low, high = (low, first - 1) if backwards else (last + 1, high)
    return found[:limit]


def answer(reading: Reading, rows: list[Row] | None) -> tuple[Question | None, list[Row]]:
    """Go on with a read: what it asks next, or, where that is None, what it came to.

    Args:
        reading: begun, or to be begun.
        rows: of the statement that it asked for last; None to begin.
    """
    try:
        return (next(reading) if rows is None else reading.send(rows)), []
    except StopIteration as end:
        return None, end.value


def merged(table: Sequence[Row], archived: Sequence[Row], *, backwards: bool = False) -> list[Row]:
    """Both in the order of position, what is in both once."""
    if not archived:
        return list(table)
    rows = {row[0]: row for row in (*archived, *table)}
    return [rows[position] for position in sorted(rows, reverse=backwards)]


def _rows(refs: Sequence[Row]) -> Reading:
    """The events of blocks, in the order of position."""
    wanted = list(dict.fromkeys(_Ref(*ref) for ref in refs))
    blocks: dict[str, list[Row]] = {}
    missing = []
    for ref in wanted:
        cached = _CACHE.get(ref.sha256)
        if cached is None:
            missing.append(ref)
        else:
            blocks[ref.sha256] = cached
    inside = [ref for ref in missing if ref.file is None]
    data: dict[tuple[int, int], bytes] = {}
    if inside:
        answer = yield (_DATA, {"segments": [ref.segment for ref in inside], "blocks": [ref.block for ref in inside]})
        data = {(segment, block): bytes(content) for segment, block, content in answer}
    for ref in missing:
        content = data.get((ref.segment, ref.block)) if ref.file is None else _from_file(ref)
        if content is None:
            raise ArchiveDamagedError(f"Block {ref.block} of segment {ref.segment} is missing.")
        blocks[ref.sha256] = unpack(content, ref.sha256)
        _CACHE.put(ref.sha256, blocks[ref.sha256])
    return sorted((row for block in blocks.values() for row in block), key=itemgetter(0))


def _from_file(ref: _Ref) -> bytes:
    try:
        with Path(str(ref.file)).open("rb") as file:
            file.seek(ref.start)
            return file.read(ref.size)
    except OSError as error:
        raise ArchiveDamagedError(f"Segment {ref.segment} cannot be read: {error}") from error
