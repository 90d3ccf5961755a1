"""Replays: all read models as of an earlier position, in a schema of their own, for those who look back.

The same folds make them from the same log, so a replay at a position holds, byte for byte, what the live tables held
when they stood there (invariant 7). It is read and never written again. There are as many places for replays as there
are schemas (`projections.catalog.PAST`); each has a name, ends by itself, and can be dropped at any time.

A place is safe in use by an advisory lock of its own: whoever makes or drops holds it alone, whoever reads shares it
until the end of their transaction. What a killed maker left is known by its row that is not ready and its lock that
nobody holds, and goes when the next one looks for a place.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed, Identifier

from projections import sql, tracking
from projections.catalog import ALL_PROJECTIONS, PAST
from projections.errors import (
    NoReplayError,
    PositionNotReachedError,
    ReplayExistsError,
    ReplaysFullError,
    UnknownReplayError,
)
from projections.rebuild import fold_together
from projections.times import answered, time_of

LIFE = timedelta(days=1)
AT_ONCE = 2
"""Connections that make indexes."""
DIGEST = hashlib.sha256(repr([projection.digest for projection in ALL_PROJECTIONS]).encode()).hexdigest()
"""Of all tables and folds: what another version made is not read with this one's statements."""
_SQL = sql.load("replays")

Connection = psycopg.Connection[Any]


class Replay(msgspec.Struct, frozen=True):
    """Read models as of a position."""

    slot: int
    name: str
    position: int
    at: datetime | None
    """When the last event that it holds was recorded."""
    events: int
    """How many were folded."""
    ready: bool
    current: bool
    """This version of the program can read it."""
    made_at: datetime
    expires_at: datetime

    @property
    def schema(self) -> str:
        return PAST[self.slot - 1]


Noted = Callable[[Connection, Replay], None]
"""Records, over a connection that is in a transaction, what is done to a replay."""


def _unnoted(_connection: Connection, _replay: Replay) -> None:
    """Whoever tidies up leaves no trace: when a replay ends is told as it is made."""


def make(
    conninfo: str,
    position: int,
    name: str,
    *,
    life: timedelta = LIFE,
    progress: Callable[[int, int], None] | None = None,
    noted: Noted = _unnoted,
) -> Replay:
    """Fold the log up to a position into tables of their own.

    Args:
        conninfo: as the application connects.
        position: up to and with this one.
        name: what it goes by; not in use.
        life: after which it is dropped.
        progress: told now and then the position reached and the one wanted.
        noted: told of it in the transaction that makes it ready.

    Raises:
        PositionNotReachedError: the log is not there yet.
        ReplayExistsError: the name is in use.
        ReplaysFullError: there is no place; the message names what could be dropped.
        UndecodableEventError, FoldError: the log holds an event that cannot be folded; nothing is left of the replay.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        with connection.cursor() as cursor:
            head = tracking.log_head(cursor)
        if position > head:
            raise PositionNotReachedError(f"The log ends at position {head}; {position} is not there yet.")
        with _place(connection, name, position, life) as slot:
            _fill(connection, slot, position, progress, noted)
        return _named(connection, name)


def drop(conninfo: str, name: str, *, noted: Noted = _unnoted) -> None:
    """Drop a replay, once nobody reads it any more.

    Args:
        conninfo: as the application connects.
        name: of the replay.
        noted: told of it in the transaction that drops it.

    Raises:
        UnknownReplayError: there is none of that name.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        _drop(connection, _named(connection, name), noted)


def list_replays(conninfo: str) -> list[Replay]:
    """Those that there are, by position."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return _all(connection)


def drop_expired(conninfo: str) -> list[str]:
    """Drop those whose time is up, and what killed makers left; returns their names."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return _sweep(connection)


@asynccontextmanager
async def reading(
    connection: psycopg.AsyncConnection[Any], position: int
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Have a connection's statements read the tables as of a position, and nothing written, until the context ends.

    Args:
        connection: as the application connects, in autocommit mode.
        position: that a replay stands at.

    Raises:
        NoReplayError: there is none at that position.
    """
    async with connection.transaction():
        slot = await _slot_at(connection, position)
        await connection.execute(_SQL["share"], {"slot": slot})
        # It may have been dropped, and its place taken, before the lock was ours; while we hold it, it stays.
        if await _slot_at(connection, position, slot) != slot:
            raise NoReplayError(no_replay(position))
        path = SQL("SET LOCAL search_path TO {}, fleetlog").format(Identifier(PAST[slot - 1]))
        await connection.execute(path)
        await connection.execute("SET TRANSACTION READ ONLY")
        yield connection


def no_replay(position: int) -> str:
    """Say what to do."""
    return f"No replay stands at position {position}. `fleetlog replay make --at {position}` makes one."


async def position_named(connection: psycopg.AsyncConnection[Any], name: str) -> int:
    """Where the replay of that name stands.

    Raises:
        UnknownReplayError: there is none.
    """
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL["position_named"], {"name": name})
        row = await cursor.fetchone()
    if row is None:
        raise UnknownReplayError(f"There is no replay {name!r}; `fleetlog replay list` shows them.")
    return int(row[0])


async def time_at(connection: psycopg.AsyncConnection[Any], position: int) -> datetime | None:
    """When the last event was recorded that a replay at a position holds; None where it holds none."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL["time_at"], {"position": position})
        row = await cursor.fetchone()
    return None if row is None else row[0]


async def _slot_at(connection: psycopg.AsyncConnection[Any], position: int, slot: int | None = None) -> int:
    arguments = {"position": position, "digest": DIGEST, "slot": slot}
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL["at"], arguments)
        row = await cursor.fetchone()
    if row is None:
        raise NoReplayError(no_replay(position))
    return int(row[0])


def _all(connection: Connection) -> list[Replay]:
    rows = connection.execute(_SQL["list"], {"digest": DIGEST}).fetchall()
    return [Replay(*row) for row in rows]


def _named(connection: Connection, name: str) -> Replay:
    found = [replay for replay in _all(connection) if replay.name == name]
    if not found:
        raise UnknownReplayError(f"There is no replay {name!r}; `fleetlog replay list` shows them.")
    return found[0]


@contextmanager
def _place(connection: Connection, name: str, position: int, life: timedelta) -> Iterator[int]:
    """A place for a replay, held alone while it is filled; given up if that fails."""
    slot = _take(connection, name, position, life)
    try:
        yield slot
    except BaseException:
        if not connection.closed:
            with connection.transaction():
                _empty(connection, slot)
        raise
    finally:
        if not connection.closed:
            connection.execute(_SQL["release"], {"slot": slot})


def _take(connection: Connection, name: str, position: int, life: timedelta) -> int:
    with connection.transaction():
        # Those who look for a place take turns.
        connection.execute(_SQL["turn"])
        _sweep(connection)
        there = _all(connection)
        if name in {replay.name for replay in there}:
            raise ReplayExistsError(f"There is a replay {name!r} already: drop it, or give another name.")
        used = {replay.slot for replay in there}
        for slot in range(1, len(PAST) + 1):
            # Somebody may read to the end what was dropped already.
            if slot not in used and connection.execute(_SQL["hold"], {"slot": slot}).fetchone() == (True,):
                # Whoever appends has committed: an erasure is seen by all that we read, or later than this row says.
                connection.execute("SELECT fleetlog.lock_events()")
                arguments = {"slot": slot, "name": name, "position": position, "digest": DIGEST, "life": life}
                connection.execute(_SQL["add"], arguments)
                return slot
    names = ", ".join(replay.name for replay in there)
    raise ReplaysFullError(f"There are {len(PAST)} replays at the most: `fleetlog replay drop` one of {names}.")


def _fill(
    connection: Connection, slot: int, position: int, progress: Callable[[int, int], None] | None, noted: Noted
) -> None:
    _clear(connection, slot)
    connection.execute(SQL("SET search_path TO {}, fleetlog").format(Identifier(PAST[slot - 1])))
    for projection in ALL_PROJECTIONS:
        connection.execute(projection.ddl)
    events = fold_together(connection, ALL_PROJECTIONS, position, progress)
    _index(connection, slot)
    at = answered(connection, time_of(position))
    with connection.transaction():
        connection.execute(_SQL["ready"], {"slot": slot, "events": events, "at": at})
        (made,) = (one for one in _all(connection) if one.slot == slot)
        noted(connection, made)


def _index(connection: Connection, slot: int) -> None:
    """Make the indexes and look at the tables: all the server's work, and it does some at once.

    Each index by itself, those of the largest tables first: most rows are in one table, and its indexes would keep one
    connection busy long after the other. What looks at a table and what makes an index of it would wait for each
    other, so the one comes after the other.
    """
    order = connection.execute(_SQL["by_size"], {"schema": PAST[slot - 1]}).fetchall()
    place = {table: at for at, (table,) in enumerate(order)}
    largest = sorted(ALL_PROJECTIONS, key=lambda projection: min(place[table.name] for table in projection.tables))
    indexes = [statement for projection in largest for statement in sql.each(projection.indexes)]
    _side_by_side(connection.info, slot, [SQL(index) for index in indexes])
    _side_by_side(connection.info, slot, [SQL("ANALYZE {}").format(Identifier(table)) for (table,) in order])


def _side_by_side(info: psycopg.ConnectionInfo, slot: int, statements: Sequence[SQL | Composed]) -> None:
    conninfo = psycopg.conninfo.make_conninfo(info.dsn, password=info.password)
    todo = iter(statements)
    turn = Lock()

    def take() -> SQL | Composed | None:
        with turn:
            return next(todo, None)

    def work() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(SQL("SET search_path TO {}").format(Identifier(PAST[slot - 1])))
            while (statement := take()) is not None:
                connection.execute(statement)

    with ThreadPoolExecutor(AT_ONCE, "replay-indexes") as executor:
        for working in [executor.submit(work) for _ in range(AT_ONCE)]:
            working.result()


def _sweep(connection: Connection) -> list[str]:
    gone = []
    for slot, name in connection.execute(_SQL["over"]).fetchall():
        with connection.transaction():
            # In the making, or in use: then it goes when that has ended.
            if connection.execute(_SQL["try"], {"slot": slot}).fetchone() == (True,):
                _empty(connection, slot)
                gone.append(str(name))
    return gone


def _drop(connection: Connection, replay: Replay, noted: Noted) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout TO '60s'")
        connection.execute(_SQL["wait"], {"slot": replay.slot})
        _empty(connection, replay.slot)
        noted(connection, replay)


def _empty(connection: Connection, slot: int) -> None:
    _clear(connection, slot)
    connection.execute(_SQL["remove"], {"slot": slot})


def _clear(connection: Connection, slot: int) -> None:
    """Drop whatever is there: another version of the program may have had other tables."""
    schema = PAST[slot - 1]
    for (table,) in connection.execute(_SQL["tables_of"], {"schema": schema}).fetchall():
        connection.execute(SQL("DROP TABLE {}").format(Identifier(schema, table)))
