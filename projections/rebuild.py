"""Rebuild a projection from the log while its tables stay in use, and put the new ones in their place at once.

The new tables grow in a schema of their own, from the same DDL and the same fold. What is left at the end is folded
while nobody can change the live tables: a following projection is held by its tracking row, which the projector locks
for each page; an inline one by the log's lock, which every append takes. So no event is missed and none is folded
twice, and that short transaction ends with the new tables in the place of the old. Killed before its commit, a rebuild
has changed nothing but its own schema, which the next one clears.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier

from domain.catalog import topic_of
from domain.event import Event, Recorded
from projections import tracking
from projections.catalog import LIVE, SHADOW, named
from projections.errors import ProjectionError, RebuildRunningError
from projections.garbage import no_collection
from projections.projection import Batch, Cursor, Projection
from projections.reading import decode_all, read_range, read_unended
from schema.archive import Row

CHUNK = 10_000
"""Positions per read."""
GATHERED = 100_000
"""Events folded in memory before their rows are written: most commands are whole by then, and are written once."""
CLOSE = 2_000
"""So near to the head, the rest is folded within the swap."""
_LOCK_TIMEOUT: LiteralString = "SET LOCAL lock_timeout TO '2s'"
_TRIES = 30


class Rebuilt(msgspec.Struct, frozen=True):
    """What a rebuild did."""

    name: str
    position: int
    events: int
    """How many were read."""


Connection = psycopg.Connection[Any]
Fold = Callable[[Batch, Recorded], None]
Noted = Callable[[Connection, str, int], None]
"""Told of a rebuild's name and position, in the transaction that puts its tables in their place."""


def _unnoted(_connection: Connection, _name: str, _position: int) -> None:
    """Nobody ordered it: it is due."""


def rebuild(
    conninfo: str, name: str, *, progress: Callable[[int, int], None] | None = None, noted: Noted = _unnoted
) -> Rebuilt:
    """Rebuild one projection with no downtime.

    Args:
        conninfo: as the application connects.
        name: which.
        progress: told now and then the position reached and the log's head.
        noted: puts it on record that somebody ordered it.

    Raises:
        UnknownProjectionError: there is none of that name.
        RebuildRunningError: somebody else is at it.
        UndecodableEventError, FoldError: the log holds an event that it cannot fold; the live tables stay.
    """
    projection = named(name)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return rebuild_with(connection, projection, progress=progress, noted=noted)


def rebuild_with(
    connection: Connection,
    projection: Projection,
    *,
    progress: Callable[[int, int], None] | None = None,
    noted: Noted = _unnoted,
) -> Rebuilt:
    """As `rebuild`, over a connection of the application's role that is in autocommit mode and for this alone."""
    with _sole(connection, projection):
        _clear(connection, projection)
        connection.execute(SQL("SET search_path TO {}").format(Identifier(SHADOW)))
        connection.execute(projection.ddl)
        head = _head(connection)
        events = fold_range(connection, projection, 0, head, progress)
        connection.execute(projection.indexes)
        for table in projection.tables:
            connection.execute(SQL("ANALYZE {}").format(Identifier(table.name)))
        position = head
        while (head := _head(connection)) > position + CLOSE:
            events += fold_range(connection, projection, position, head, progress)
            position = head
        position, rest = _swap(connection, projection, position, noted)
    return Rebuilt(projection.name, position, events + rest)


@contextmanager
def _sole(connection: Connection, projection: Projection) -> Iterator[None]:
    key = f"fleetlog rebuild {projection.name}"
    got = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (key,)).fetchone()
    if got != (True,):
        raise RebuildRunningError(f"{projection.name} is being rebuilt already; wait for that to end.")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))


def _clear(connection: Connection, projection: Projection) -> None:
    """Drop what a rebuild that was killed left."""
    for table in projection.tables:
        connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(SHADOW, table.name)))


def _head(connection: Connection) -> int:
    with connection.cursor() as cursor:
        return tracking.log_head(cursor)


def fold_range(
    connection: Connection,
    projection: Projection,
    after: int,
    upto: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Fold the events of a range of positions into the tables that the search path shows.

    Returns:
        How many events the projection read.
    """
    # From an empty table: of what has come and gone by now, there is nothing to write. So the queues are rebuilt at
    # the cost of what is in them, however long the history. `verify` reads all of it, and so checks this too.
    ended_by = [topic_of(event_type) for event_type in projection.ends] if after == 0 else []
    return _fold(connection, (projection,), after, upto, ended_by, progress)


def fold_together(
    connection: Connection,
    projections: Sequence[Projection],
    upto: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Fold the log up to a position, however long ago, into the empty tables of several projections at once.

    What had not ended by then may have ended and been archived since, so all is read; but once for all of them.

    Returns:
        How many events were read.
    """
    return _fold(connection, projections, 0, upto, (), progress)


def _fold(
    connection: Connection,
    projections: Sequence[Projection],
    after: int,
    upto: int,
    ended_by: Sequence[str],
    progress: Callable[[int, int], None] | None,
) -> int:
    types = frozenset[str]().union(*(projection.types for projection in projections))
    events = 0
    gathered = _Gathered(projections)
    writing: Future[None] | None = None
    with no_collection(), connection.cursor() as cursor, ThreadPoolExecutor(1, "rebuild-writer") as executor:
        for position, rows in _chunks(connection, types, ended_by, after, upto):
            gathered.fold(decode_all(rows))
            events += len(rows)
            if gathered.events >= GATHERED:
                # The server takes them while the next are folded; at most two lots are in memory.
                if writing is not None:
                    writing.result()
                writing = executor.submit(gathered.flush, cursor)
                gathered = _Gathered(projections)
            if progress is not None:
                progress(position, upto)
        if writing is not None:
            writing.result()
        gathered.flush(cursor)
    return events


class _Gathered:
    """What some events do to the tables of several projections, until it is written."""

    def __init__(self, projections: Sequence[Projection]) -> None:
        self.events = 0
        self._batches = [projection.begin() for projection in projections]
        self._open: list[_Open] = []
        self._takers: dict[type[Event], list[tuple[Fold, Batch]]] = {}
        for projection, batch in zip(projections, self._batches, strict=True):
            fold = projection.fold
            if projection.ends:
                self._open.append(_Open(projection, batch))
                fold = self._open[-1].fold
            for event_type in projection.folds:
                self._takers.setdefault(event_type, []).append((fold, batch))

    def fold(self, recorded: Sequence[Recorded]) -> None:
        takers = self._takers
        for item in recorded:
            for fold, batch in takers[type(item.event)]:
                fold(batch, item)
        self.events += len(recorded)

    def flush(self, cursor: Cursor) -> None:
        for still in self._open:
            still.fold_all()
        for batch in self._batches:
            batch.flush(cursor)


class _Open:
    """Events of a projection whose streams can end, kept unfolded until it is known which have not.

    Of a stream that begins and ends among them there is nothing to fold; most commands do. Each such event makes or
    changes the row of its own stream alone, so nothing is lost by folding one stream's after another's.

    Args:
        projection: with `Projection.ends`.
        batch: its batch.
    """

    def __init__(self, projection: Projection, batch: Batch) -> None:
        self._fold = projection.fold
        self._ends = projection.ends
        self._batch = batch
        self._streams: dict[int, list[Recorded]] = {}

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        """Keep an event, or be done with its stream."""
        stream = recorded.originator_id.int
        if type(recorded.event) not in self._ends:
            kept = self._streams.get(stream)
            if kept is None:
                self._streams[stream] = [recorded]
            else:
                kept.append(recorded)
            return
        ended = self._streams.pop(stream, None)
        if ended is None or ended[0].originator_version > 1:
            self._fold(batch, recorded)  # it began before: there may be a row

    def fold_all(self) -> None:
        """Fold what is kept."""
        fold, batch = self._fold, self._batch
        for kept in self._streams.values():
            for recorded in kept:
                fold(batch, recorded)
        self._streams.clear()


def _chunks(
    connection: Connection, types: Collection[str], ended_by: Sequence[str], after: int, upto: int
) -> Iterator[tuple[int, list[Row]]]:
    """Ranges of the log, read by a second connection ahead of the fold, so that server and fold overlap."""
    if upto - after <= CHUNK or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        # Little to read, or a snapshot to read from: then over the connection at hand.
        yield from _chunks_of(connection, types, after, upto)
        return
    conninfo = psycopg.conninfo.make_conninfo(connection.info.dsn, password=connection.info.password)
    # The reader is given one range at a time, so it is never more than two ahead and ends with its executor.
    with (
        psycopg.connect(conninfo, autocommit=True) as reader,
        closing(_chunks_from(reader, types, ended_by, after, upto)) as ranges,
        ThreadPoolExecutor(1, "rebuild-reader") as executor,
    ):
        ahead = deque([executor.submit(next, ranges, None), executor.submit(next, ranges, None)])
        while (chunk := ahead.popleft().result()) is not None:
            ahead.append(executor.submit(next, ranges, None))
            yield chunk


def _chunks_from(
    connection: Connection, types: Collection[str], ended_by: Sequence[str], after: int, upto: int
) -> Generator[tuple[int, list[Row]], None, None]:
    if not ended_by:
        yield from _chunks_of(connection, types, after, upto)
        return
    for rows in read_unended(connection, upto, types, ended_by, CHUNK):
        yield rows[-1][0], rows


def _chunks_of(
    connection: Connection, types: Collection[str], after: int, upto: int
) -> Iterator[tuple[int, list[Row]]]:
    with connection.cursor(binary=True) as cursor:
        while after < upto:
            end = min(after + CHUNK, upto)
            yield end, read_range(cursor, after, end, types)
            after = end


def _swap(connection: Connection, projection: Projection, position: int, noted: Noted) -> tuple[int, int]:
    """Fold the rest and put the new tables in the place of the old; returns where they stand and how many it folded."""
    for _ in range(_TRIES):
        try:
            with connection.transaction(), connection.cursor() as cursor:
                # A reader that is long at it must not make everybody queue up behind our wait: give up and try again.
                cursor.execute(_LOCK_TIMEOUT)
                goal, rest = _swap_once(connection, cursor, projection, position)
                noted(connection, projection.name, goal)
                return goal, rest
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
    raise ProjectionError(f"{projection.name}: its tables were in use all the time; the live ones stay as they were.")


def _swap_once(connection: Connection, cursor: Cursor, projection: Projection, position: int) -> tuple[int, int]:
    # The tables before the tracking row and the log's lock, as appends and the projector do it: a statement takes its
    # tables before it does anything.
    for table in projection.tables:
        if cursor.execute("SELECT to_regclass(%s)", [f"{LIVE}.{table.name}"]).fetchone() != (None,):
            cursor.execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(Identifier(LIVE, table.name)))
    if projection.inline:
        cursor.execute("SELECT fleetlog.lock_events()")
    cursor.execute(SQL("SET LOCAL search_path TO {}, {}").format(Identifier(SHADOW), Identifier(LIVE)))
    (tracked,) = tracking.lock(cursor, [projection.name]).values()
    goal = max(position, tracking.log_head(cursor) if projection.inline else tracked.position)
    rest = fold_range(connection, projection, position, goal)
    for table in projection.tables:
        cursor.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(LIVE, table.name)))
        cursor.execute(SQL("ALTER TABLE {} SET SCHEMA {}").format(Identifier(SHADOW, table.name), Identifier(LIVE)))
    tracking.replaced(cursor, projection.name, position=goal, digest=projection.digest)
    tracking.notify(cursor, {projection.name: goal})
    return goal, rest
