"""What the engine alone needs for a projection's bytes: the log read once, and the rows written once, by COPY.

Both ways are binary and in one stream; nothing of it is looked at. No fold can be faster than that over one connection.
"""

import time
from collections.abc import Sequence

import psycopg
from psycopg.sql import SQL, Identifier

from command_bus.postgres import app_conninfo
from projections.catalog import LIVE, SHADOW
from projections.projection import Projection

_EVENTS = SQL("COPY fleetlog.events TO STDOUT (FORMAT binary)")


def seconds_alone(url: str, projections: Sequence[Projection], *, indexed_first: bool) -> float:
    """How long it takes the server to hand out the whole log and to take these projections' rows.

    Args:
        url: a login that may act as the application.
        projections: whose rows; their live tables must be filled.
        indexed_first: the indexes are there before the rows, as when a projection follows the log; otherwise they are
            made afterwards, as by a rebuild.
    """
    took = 0.0
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        begun = time.perf_counter()
        _read(connection, _EVENTS)
        took += time.perf_counter() - begun
        for projection in projections:
            took += _seconds_to_write(connection, projection, indexed_first=indexed_first)
    return took


def _seconds_to_write(connection: psycopg.Connection, projection: Projection, *, indexed_first: bool) -> float:
    connection.execute(SQL("SET search_path TO {}").format(Identifier(SHADOW)))
    connection.execute(projection.ddl)
    if indexed_first:
        connection.execute(projection.indexes)
    live = [Identifier(LIVE, table.name) for table in projection.tables]
    blocks = [_read(connection, SQL("COPY {} TO STDOUT (FORMAT binary)").format(table)) for table in live]
    begun = time.perf_counter()
    for table, block in zip(projection.tables, blocks, strict=True):
        into = SQL("COPY {} FROM STDIN (FORMAT binary)").format(Identifier(SHADOW, table.name))
        with connection.cursor().copy(into) as copy:
            copy.write(block)
    if not indexed_first:
        connection.execute(projection.indexes)
    took = time.perf_counter() - begun
    for table in projection.tables:
        connection.execute(SQL("DROP TABLE {}").format(Identifier(SHADOW, table.name)))
    return took


def _read(connection: psycopg.Connection, statement: SQL | psycopg.sql.Composed) -> bytes:
    with connection.cursor().copy(statement) as copy:
        return b"".join(bytes(data) for data in copy)
