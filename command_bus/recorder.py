"""The eventsourcing library's Postgres recorder, with its write paths replaced.

What is replaced and why (measured with version 9.5.6):

* the stock bulk insert uses psycopg's pipeline mode and can hang for ever while it holds the lock: here groups go
  through one stored function and bulk through COPY, neither in pipeline mode;
* its stored function takes no lock, so a tailing reader misses events: ours takes it (0001_event_log.sql);
* its lock waits for ever: ours waits `LOCK_TIMEOUT_S`;
* its retry on any lost connection may conflict with its own first try: whether to try again is decided by the one who
  knows the events, in committer.py.

Reading and the selection of notifications are the library's own.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, LiteralString, cast
from uuid import UUID

import msgspec
import psycopg
import psycopg_pool
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import ConnectionPool, PostgresApplicationRecorder, PostgresDatastore
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import DictRow, dict_row, tuple_row
from psycopg.sql import SQL, Composed, Identifier

from command_bus.event_log import Part
from command_bus.mapper import RECORDED_COLUMNS, AttributedEvent, RecordedRow
from command_bus.overlap import OverlappingConnection
from command_bus.postgres import BY_INDEX, RECONNECT_TIMEOUT_S, app_conninfo, looks_broken
from command_bus.rows import COLUMNS, COMPOSITE, array_of

LOCK_TIMEOUT_S = 5
CHANNEL = "fleetlog_events"

_COPY_SQL = f"COPY fleetlog.events ({COLUMNS}) FROM STDIN (FORMAT binary)"
_APPEND_SQL: LiteralString = "SELECT last_position, recorded FROM fleetlog.append_events(%b::fleetlog.new_event[])"
# The parts join this row, so none of them begins before the events are in.
_APPENDED: LiteralString = """
    WITH appended AS MATERIALIZED (
        SELECT last_position - %s AS before, last_position, recorded
        FROM fleetlog.append_events(%b::fleetlog.new_event[])
    )
"""
# currval() is volatile: outside of a subquery of its own it would be evaluated for every row of the log.
_COPIED_SQL = """
    SELECT notification_id, recorded_at FROM fleetlog.events
    WHERE notification_id = (SELECT currval('fleetlog.events_notification_id_seq'))
"""
_TAKEN_SQL = f"""
    SELECT {RECORDED_COLUMNS} FROM unnest(%s::uuid[], %s::bigint[]) AS wanted (id, version)
    JOIN fleetlog.events ON originator_id = wanted.id AND originator_version = wanted.version
"""  # noqa: S608 - column names of our own

_ARCHIVED_SQL = """
    SELECT wanted.id, wanted.version FROM unnest(%s::uuid[], %s::bigint[]) AS wanted (id, version)
    JOIN fleetlog.archive_streams ON stream_id = wanted.id AND last_version >= wanted.version
"""

Fold = Callable[[psycopg.Cursor[Any], int, datetime], None]
"""What else to write in the transaction; it is told the first position and the time."""


class Appended(msgspec.Struct, frozen=True):
    """Where rows came to stand: their positions are consecutive."""

    first_position: int
    recorded_at: datetime


class NotCommittedError(Exception):
    """The transaction surely did not commit; the cause says why."""


class _Packed(bytes):
    """An argument that is in the server's binary format already."""


class _PackedDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: bytes) -> bytes:
        return bytes(obj)


class LogDatastore(PostgresDatastore):
    """The library's pool, connecting as the application and looking at each connection before lending it."""

    def __init__(self, url: str, *, name: str, pool_size: int, connect_timeout_s: float) -> None:
        super().__init__("", "", "", "", "", schema="fleetlog", lock_timeout=LOCK_TIMEOUT_S)
        # Few statements, many times each: a plan made anew knows no better.
        planning = {"plan_cache_mode": "force_generic_plan", **BY_INDEX}
        settings = {"lock_timeout": f"{LOCK_TIMEOUT_S}s", "synchronous_commit": "on", **planning}
        self.new_event_oid = 0
        # The library makes its pool from host, port and password alone; ours knows all that libpq knows.
        self.pool = ConnectionPool(
            app_conninfo(url, name=name, settings=settings),
            connection_class=OverlappingConnection,
            kwargs={"row_factory": dict_row, "autocommit": True},
            min_size=1,
            max_size=pool_size,
            open=False,
            configure=self._configure,
            check=_check,
            name=name,
            timeout=connect_timeout_s,
            reconnect_timeout=RECONNECT_TIMEOUT_S,
            reconnect_failed=_begin_again,
            num_workers=1,
        )

    def _configure(self, conn: psycopg.Connection[DictRow]) -> None:
        conn.adapters.register_dumper(_Packed, _PackedDumper)
        found = conn.execute("SELECT to_regtype('fleetlog.new_event')::oid::bigint AS oid").fetchone()
        if found is None or found["oid"] is None:
            raise psycopg.errors.UndefinedObject("The database has no event log yet; run `fleetlog migrate`.")
        self.new_event_oid = found["oid"]

    def register_type_adapters(self) -> None:
        """Nothing to do: the library's composite types are not used, and a constructor should not connect."""


def _check(conn: psycopg.Connection[DictRow]) -> None:
    if looks_broken(conn):
        conn.execute("")


def _begin_again(pool: psycopg_pool.ConnectionPool[Any]) -> None:
    """See `command_bus.postgres`: those who wait for a connection do not make the pool try again."""
    with contextlib.suppress(psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed), pool.connection(timeout=0.001):
        pass


class LogRecorder(PostgresApplicationRecorder):
    """Records events with their metadata; see the module's text for what differs from the library's."""

    def __init__(self, datastore: LogDatastore) -> None:
        super().__init__(datastore, events_table_name="events")
        self._log_datastore = datastore
        self.channel_name = CHANNEL

    def create_table(self) -> None:
        """Nothing to do: migrations make the table, as another role."""

    def append_rows(self, rows: Sequence[bytes], fold: Fold | None = None, parts: Sequence[Part] = ()) -> Appended:
        """Record composite rows in one transaction; without a fold, in one round trip.

        Args:
            rows: the events.
            fold: what else to write, afterwards.
            parts: what else to write, by the same statement; see `InlineFold.parts`.

        Raises:
            NotCommittedError: nothing is recorded.
            psycopg.Error: a violated constraint: nothing is recorded; a lost connection: nobody knows.
        """
        with self._connection() as conn:
            cursor = conn.cursor(row_factory=tuple_row)
            packed = _Packed(array_of(rows, self._log_datastore.new_event_oid))

            def write() -> tuple[int, datetime]:
                if parts:
                    cursor.execute(_with(parts), [len(rows), packed, *(part.argument for part in parts)], prepare=True)
                else:
                    cursor.execute(_APPEND_SQL, [packed], prepare=True)
                return cast("tuple[int, datetime]", cursor.fetchone())

            if fold is None:
                last, recorded_at = write()
                return Appended(last - len(rows) + 1, recorded_at)
            return _in_transaction(conn, write, len(rows), fold)

    def copy_rows(
        self,
        block: bytes,
        count: int,
        fold: Fold | None = None,
        meanwhile: Callable[[], bool] | None = None,
        tables: Sequence[str] = (),
    ) -> Appended:
        """Record a whole COPY stream in one transaction; errors as `append_rows`.

        Args:
            block: the stream.
            count: how many rows it has.
            fold: what else to write.
            meanwhile: what to do while the server works; see `OverlappingConnection`.
            tables: that the fold writes.
        """
        with self._connection() as conn, _meanwhile(conn, meanwhile):
            cursor = conn.cursor(row_factory=tuple_row)

            def write() -> tuple[int, datetime]:
                with cursor.copy(_COPY_SQL) as copy:
                    copy.write(block)
                cursor.execute(_COPIED_SQL, prepare=True)
                return cast("tuple[int, datetime]", cursor.fetchone())

            # The log's lock in a statement before the COPY, whose start is the events' time; and the tables before it,
            # as one statement that appends and folds takes them when it is planned.
            begin = SQL("BEGIN; {} SELECT fleetlog.lock_events()").format(
                SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE;").format(SQL(", ").join(map(Identifier, tables)))
                if tables
                else SQL("")
            )
            return _in_transaction(conn, write, count, fold, begin=begin)

    def taken(self, keys: Sequence[tuple[UUID, int]]) -> dict[tuple[UUID, int], RecordedRow | None]:
        """Which of these places in streams are taken, and by what; None: by an event that is in the archive."""
        wanted = [[key[0] for key in keys], [key[1] for key in keys]]
        with self._connection() as conn:
            cursor = conn.cursor(row_factory=tuple_row, binary=True)
            # In this order: what moves in between is found twice, and not never.
            cursor.execute(_TAKEN_SQL, wanted, prepare=True)
            rows = cast("list[RecordedRow]", cursor.fetchall())
            cursor.execute(_ARCHIVED_SQL, wanted)
            archived = dict.fromkeys(cursor.fetchall())
        return archived | {(row[1], row[2]): row for row in rows}

    def _connection(self) -> AbstractContextManager[psycopg.Connection[DictRow]]:
        """A connection that raises the driver's own errors: the library's classes are too coarse to decide by."""
        self._log_datastore.pool.open(wait=False)
        return self._log_datastore.pool.connection()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The library's way in; the events must come from `EventMapper`."""
        if kwargs:
            raise TypeError(f"The log records events and nothing else; it cannot take {', '.join(kwargs)}.")
        rows = []
        for event in cast("Sequence[AttributedEvent]", stored_events):
            rows += COMPOSITE.rows([event.change], event.metadata)
        if not rows:
            return None
        with self.datastore.get_connection():
            first = self.append_rows(rows).first_position
        return list(range(first, first + len(rows)))


def _with(parts: Sequence[Part]) -> LiteralString:
    named = [f", part_{number} AS ({part.statement})" for number, part in enumerate(parts)]
    return "".join([_APPENDED, *named, "SELECT last_position, recorded FROM appended"])


@contextlib.contextmanager
def _meanwhile(conn: psycopg.Connection[Any], work: Callable[[], bool] | None) -> Iterator[None]:
    if not isinstance(conn, OverlappingConnection):
        raise TypeError("The pool lends connections of another class.")
    conn.meanwhile = work
    try:
        yield
    finally:
        conn.meanwhile = None


def _in_transaction(
    conn: psycopg.Connection[Any],
    write: Callable[[], tuple[int, datetime]],
    count: int,
    fold: Fold | None,
    *,
    begin: LiteralString | Composed = "BEGIN",
) -> Appended:
    try:
        conn.execute(begin)
        last, recorded_at = write()
        if fold is not None:
            fold(conn.cursor(row_factory=tuple_row), last - count + 1, recorded_at)
    except Exception as error:
        if not conn.closed:
            conn.execute("ROLLBACK")
        raise NotCommittedError from error
    conn.execute("COMMIT")
    return Appended(last - count + 1, recorded_at)
