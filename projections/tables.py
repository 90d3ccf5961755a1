"""The tables of projections: made where there are none."""

import asyncio
from collections.abc import Sequence

import psycopg
from psycopg.sql import SQL, Identifier

from projections import tracking
from projections.catalog import ALL_PROJECTIONS, LIVE, PAST, SHADOW
from projections.projection import Cursor, Projection
from projections.rebuild import rebuild_with

APP_ROLE = "fleetlog_app"


async def create_tables(url: str, projections: Sequence[Projection] = ALL_PROJECTIONS) -> None:
    """Make the tables of projections that have none yet; doing it again changes nothing.

    Args:
        url: as the login that migrates: it makes the schemas of rebuilds and replays; what is in them belongs to the
            application.
        projections: which.

    The tables of following projections are filled, or remade after a change of their fold, by the projector. Appends
    write inline ones without waiting for anybody, so these are remade here, before a new program appends.
    """
    await asyncio.to_thread(_create_tables, url, projections)


def _create_tables(url: str, projections: Sequence[Projection]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.transaction(), connection.cursor() as cursor:
            # Two that start at once take turns.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('fleetlog projections tables', 0))")
            for name in (SHADOW, *PAST):
                _create_schema(cursor, name)
            cursor.execute(SQL("SET LOCAL ROLE {}").format(Identifier(APP_ROLE)))
            cursor.execute(SQL("SET LOCAL search_path TO {}").format(Identifier(LIVE)))
            tracking.create(cursor)
            fresh = tracking.log_head(cursor) == 0
            for projection in projections:
                _create_one(cursor, projection, fresh=fresh)
            tracked = tracking.read_all(cursor)
        connection.execute(SQL("SET ROLE {}").format(Identifier(APP_ROLE)))
        connection.execute("SET TimeZone TO 'UTC'")
        for projection in projections:
            if projection.inline and tracked[projection.name].digest != projection.digest:
                rebuild_with(connection, projection)


def _create_schema(cursor: Cursor, name: str) -> None:
    if cursor.execute("SELECT to_regnamespace(%s)", (name,)).fetchone() == (None,):
        cursor.execute(SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(Identifier(name), Identifier(APP_ROLE)))


def _create_one(cursor: Cursor, projection: Projection, *, fresh: bool) -> None:
    there = cursor.execute(
        "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = ANY(%s)",
        (LIVE, [table.name for table in projection.tables]),
    ).fetchone()
    if there == (0,):
        cursor.execute(projection.ddl)
        cursor.execute(projection.indexes)
    # An inline projection that comes to a log with a past starts from a rebuild.
    current = not projection.inline or fresh
    tracking.add(cursor, projection.name, projection.digest if current else "")
