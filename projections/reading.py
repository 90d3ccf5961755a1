"""The log as projections read it: by position, in binary, each event decoded once whoever folds it."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, LiteralString

import msgspec
import psycopg

from domain.codec import DECODERS, UndecodableEventError, decode
from domain.event import Recorded
from domain.sealed import marked_rows, opened
from projections.projection import Cursor, type_of
from schema import archived
from schema.archive import Row
from schema.personal_keys import keys_of
from schema.reading import COLUMNS, answered, read_page

# By the type's name and not the topic, so that a version that this program does not know is met and not passed over.
_RANGE: LiteralString = (
    f"SELECT {COLUMNS} FROM fleetlog.events WHERE notification_id > %s AND notification_id <= %s"  # noqa: S608
    " AND split_part(topic, '/', 1) = ANY(%s) ORDER BY notification_id"
)
# What ended by an event that this program knows is passed over; by any other it is met, as above. What is archived has
# ended, so the archive need not be asked.
_UNENDED: LiteralString = (
    f"SELECT {COLUMNS} FROM fleetlog.events AS e WHERE notification_id <= %(upto)s"  # noqa: S608
    " AND split_part(topic, '/', 1) = ANY(%(types)s) AND NOT EXISTS (SELECT FROM fleetlog.events AS ending"
    " WHERE ending.originator_id = e.originator_id AND ending.topic = ANY(%(ended_by)s)"
    " AND ending.notification_id <= %(upto)s) ORDER BY notification_id"
)


class Bad(msgspec.Struct, frozen=True):
    """An event that cannot be read."""

    position: int
    topic: str
    error: str


def read_range(cursor: Cursor, after: int, upto: int, types: Collection[str]) -> list[Row]:
    """The events of some types between two positions, archived or not."""
    rows = cursor.execute(_RANGE, (after, upto, list(types))).fetchall()
    old = answered(cursor, archived.between(after, upto))
    return _opened(cursor, archived.merged(rows, [row for row in old if type_of(row[3]) in types]) if old else rows)


def _opened(cursor: Cursor, rows: list[Row]) -> list[Row]:
    """With what is personal opened, or shown as erased.

    The keys are asked for after the rows were read, so whoever has read an erasure finds no key (see SubjectErased).
    """
    marked = marked_rows(rows)
    return opened(rows, marked, keys_of(cursor, [one.subject for one in marked])) if marked else rows


def read_unended(
    connection: psycopg.Connection[Any], upto: int, types: Collection[str], ended_by: Collection[str], size: int
) -> Iterator[list[Row]]:
    """The events of some types up to a position, of those streams alone that had not ended by then; in parts."""
    with connection.transaction(), connection.cursor(name="unended", binary=True) as cursor:
        # All of it is wanted, not its first rows soon: the planner takes a cursor for the latter unless it is told, and
        # asks an index once for each event of the log.
        connection.execute("SET LOCAL cursor_tuple_fraction = 1")
        cursor.execute(_UNENDED, {"upto": upto, "types": list(types), "ended_by": list(ended_by)})
        while rows := cursor.fetchmany(size):
            with connection.cursor(binary=True) as other:
                yield _opened(other, rows)


def decode_all(rows: Iterable[Row]) -> list[Recorded]:
    """Decode events.

    Raises:
        UndecodableEventError: at the first that cannot be read.
    """
    decoders, found = DECODERS, []
    for (
        position,
        stream_id,
        version,
        topic,
        state,
        at,
        actor,
        correlation_id,
        causation_id,
        agent_id,
        client_id,
    ) in rows:
        try:
            event = decoders[topic](state)
        except (KeyError, msgspec.DecodeError):
            event = decode(topic, state)  # lifts an older version, or says what is wrong
        found.append(
            Recorded(
                position,
                stream_id,
                version,
                topic,
                event,
                at,
                actor,
                correlation_id,
                causation_id,
                agent_id,
                client_id,
            )
        )
    return found


class Page(msgspec.Struct, frozen=True):
    """The next events of the log after a position."""

    after: int
    positions: list[int]
    """Of all of them, folded by anybody or not."""
    items: list[Recorded | Bad]
    """Those of the types asked for."""


def decode_page(cursor: Cursor, after: int, rows: Sequence[Row], types: Collection[str]) -> Page:
    """Open and decode the events of these types, setting aside those that cannot be read."""
    wanted: dict[str, bool] = {}
    for topic in {row[3] for row in rows}:
        wanted[topic] = type_of(topic) in types
    asked = _opened(cursor, [row for row in rows if wanted[row[3]]])
    items: list[Recorded | Bad] = []
    try:
        items += decode_all(asked)
    except UndecodableEventError:
        items = [_decode_one(row) for row in asked]
    return Page(after, [row[0] for row in rows], items)


def _decode_one(row: Row) -> Recorded | Bad:
    try:
        return decode_all([row])[0]
    except UndecodableEventError as error:
        return Bad(row[0], row[3], str(error))


class ReadAhead:
    """Reads the page after the one that is being folded, over a connection of its own, while the server writes.

    Whatever is recorded after a position and visible stays so, in its place. A page that was read before its turn is
    therefore what would be read then, or the beginning of it.

    Args:
        conninfo: as the application connects.
        types: of the events to decode.
    """

    def __init__(self, conninfo: str, types: Collection[str]) -> None:
        self._conninfo = conninfo
        self._types = types
        self._executor = ThreadPoolExecutor(1, "projector-reader")
        self._connection: psycopg.Connection[Any] | None = None
        self._next: tuple[int, int, Future[Page]] | None = None

    def begin(self, after: int, limit: int) -> None:
        """Start to read the page after a position."""
        self._next = (after, limit, self._executor.submit(self._read, after, limit))

    def take(self, after: int, limit: int) -> Page | None:
        """The page begun, if it is the one asked for.

        Raises:
            psycopg.Error: as reading it did.
        """
        begun, self._next = self._next, None
        return begun[2].result() if begun is not None and begun[:2] == (after, limit) else None

    def rest(self) -> None:
        """There is nothing to read ahead for a while: give the connection back."""
        if self._next is not None or self._connection is not None:
            self._executor.submit(self._disconnect).result()

    def close(self) -> None:
        self.rest()
        self._executor.shutdown()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _read(self, after: int, limit: int) -> Page:
        if self._connection is None:
            self._connection = psycopg.connect(self._conninfo, autocommit=True)
        with self._connection.cursor(binary=True) as cursor:
            return decode_page(cursor, after, read_page(cursor, after, limit), self._types)
