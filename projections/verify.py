"""Compare a projection's tables with what the log gives, row by row.

All of it happens in one transaction with one snapshot of the database: the live rows, the position they stand at, and
the events up to there. The fresh tables are temporary ones of that transaction, which is rolled back in the end.
"""

from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier

from domain.catalog import topic_of
from domain.erasures import SubjectErased
from projections import tracking
from projections.catalog import LIVE, named
from projections.errors import BehindErasureError
from projections.projection import Projection, Table
from projections.rebuild import fold_range

SHOWN = 20


class Difference(msgspec.Struct, frozen=True):
    """A row that only one side has; a row that differs shows up once for each side."""

    table: str
    side: str
    """``live`` or ``log``: where the row is."""
    row: dict[str, Any]


# The type's index is by topic, and of this one there is one version.
_ERASED_SINCE: LiteralString = (
    f"SELECT 1 FROM fleetlog.events WHERE topic = '{topic_of(SubjectErased)}' AND notification_id > %s LIMIT 1"  # noqa: S608
)


class Verified(msgspec.Struct, frozen=True):
    """What a comparison found."""

    name: str
    position: int
    rows: int
    """How many live rows were compared."""
    differing: int
    differences: tuple[Difference, ...]
    """The first few."""

    @property
    def ok(self) -> bool:
        return self.differing == 0


def verify(conninfo: str, name: str) -> Verified:
    """Compare one projection with a fresh fold of the log at the same position.

    Args:
        conninfo: as the application connects.
        name: which.

    Raises:
        UnknownProjectionError: there is none of that name.
        BehindErasureError: it has yet to fold an erasure, whose key is gone already.
        UndecodableEventError, FoldError: the log holds an event, before that position, that it cannot fold.
    """
    projection = named(name)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction(force_rollback=True):
            found = _verify(connection, projection)
            if not found.ok and connection.execute(_ERASED_SINCE, [found.position]).fetchone() is not None:
                raise BehindErasureError(f"{name} stands at position {found.position}: {BehindErasureError.__doc__}")
            return found


def _verify(connection: psycopg.Connection[Any], projection: Projection) -> Verified:
    with connection.cursor() as cursor:
        tracked = tracking.read_all(cursor)[projection.name]
        position = tracking.log_head(cursor) if projection.inline else tracked.position
        cursor.execute("SET LOCAL search_path TO pg_temp")
        cursor.execute(projection.ddl)
    fold_range(connection, projection, 0, position)
    rows = differing = 0
    shown: list[Difference] = []
    for table in projection.tables:
        rows += _count(connection, SQL("SELECT * FROM {}").format(Identifier(LIVE, table.name)))
        for side in ("live", "log"):
            only = _only_on(side, table)
            found = _count(connection, only)
            differing += found
            if found and len(shown) < SHOWN:
                with connection.cursor(row_factory=dict_row) as cursor:
                    cursor.execute(SQL("{} LIMIT %s").format(only), (SHOWN - len(shown),))
                    shown += [Difference(table.name, side, row) for row in cursor]
    return Verified(projection.name, position, rows, differing, tuple(shown))


def _only_on(side: str, table: Table) -> Composed:
    columns = SQL(", ").join(map(Identifier, table.names))
    live = SQL("SELECT {} FROM {}").format(columns, Identifier(LIVE, table.name))
    fresh = SQL("SELECT {} FROM {}").format(columns, Identifier("pg_temp", table.name))
    # ALL: a doubled row is a difference too.
    first, second = (live, fresh) if side == "live" else (fresh, live)
    return SQL("{} EXCEPT ALL {}").format(first, second)


def _count(connection: psycopg.Connection[Any], query: Composed) -> int:
    row = connection.execute(SQL("SELECT count(*) FROM ({}) AS rows").format(query)).fetchone()
    return int(row[0]) if row is not None else 0
