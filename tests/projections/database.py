"""The database of these tests: written by the real log, read as plain rows."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from domain.event import Change, Metadata
from projections.catalog import ALL_PROJECTIONS, INLINE, LIVE, PENDING
from projections.pending import PendingRow
from projections.projection import Projection
from schema.arrays import uuids

Rows = dict[str, list[tuple[Any, ...]]]


async def record(url: str, appends: Iterable[tuple[Sequence[Change], Metadata]]) -> int:
    """Append, one after the other, as a gateway does: with the queue folded inline; returns the last position."""
    log = PostgresEventLog(url, inline=INLINE, name="history")
    await log.start()
    try:
        position = 0
        for changes, metadata in appends:
            position = (await log.append(list(changes), metadata))[-1]
        return position
    finally:
        await log.stop()


def plant(
    admin: psycopg.Connection[Any],
    topic: str,
    state: bytes,
    *,
    stream_id: UUID | None = None,
    version: int = 1000,
    agent_id: UUID | None = None,
    client_id: UUID | None = None,
) -> int:
    """Put an event into the log as no handler of this program would; returns its position."""
    row = admin.execute(
        "INSERT INTO fleetlog.events (originator_id, originator_version, correlation_id, actor, topic, state, agent_id,"
        " client_id) VALUES (%s, %s, %s, 'system', %s, %s, %s, %s) RETURNING notification_id",
        (stream_id or uuid4(), version, uuid4(), topic, state, agent_id, client_id),
    ).fetchone()
    assert row is not None
    return int(row[0])


async def deliverable(
    connection: psycopg.AsyncConnection[Any], agent_ids: Sequence[UUID], *, now: datetime, window: int
) -> list[PendingRow]:
    """What a lease finds to be delivered to some agents, none of it kept to hours."""
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    asked = (uuids(agent_ids), now, window)
    await cursor.execute("SELECT * FROM fleetlog.deliverable(%s::uuid[], %s, %s, '{}')", asked)
    return [PendingRow.from_row(row) for row in await cursor.fetchall()]


def rows_of(url: str, projections: Iterable[Projection] = ALL_PROJECTIONS, *, schema: str = LIVE) -> Rows:
    """Every row of their tables, in the order of their keys."""
    found: Rows = {}
    with psycopg.connect(app_conninfo(url)) as connection:
        for projection in projections:
            for table in projection.tables:
                columns = SQL(", ").join(map(Identifier, table.names))
                key = SQL(", ").join(map(Identifier, table.key))
                query = SQL("SELECT {} FROM {} ORDER BY {}").format(columns, Identifier(schema, table.name), key)
                found[table.name] = connection.execute(query).fetchall()
    return found


def positions(url: str) -> dict[str, int]:
    with psycopg.connect(app_conninfo(url)) as connection:
        return dict(connection.execute("SELECT projection, position FROM tracking").fetchall())


def forget_everything(url: str) -> None:
    """Empty log and projections, as only the administrator of the server can."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role TO replica")
        connection.execute("TRUNCATE fleetlog.events, fleetlog.personal_keys RESTART IDENTITY")
        for projection in ALL_PROJECTIONS:
            for table in projection.tables:
                connection.execute(SQL("TRUNCATE {}").format(Identifier("read", table.name)))
        connection.execute(
            "UPDATE read.tracking SET position = 0, status = 'running', error = NULL, error_topic = NULL,"
            " error_position = NULL"
        )


def head(url: str) -> int:
    with psycopg.connect(app_conninfo(url)) as connection:
        row = connection.execute("SELECT coalesce(max(notification_id), 0) FROM fleetlog.events").fetchone()
    assert row is not None
    return int(row[0])


__all__ = ["PENDING", "Rows", "deliverable", "forget_everything", "head", "positions", "record", "rows_of"]
