"""Writes a backup: all that cannot be made anew, as of one moment, while everything runs."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from domain.host_acts import BackupBegun
from gateways.backup.archive import ArchiveWriter, Manifest, RowCount
from gateways.backup.tables import KEPT
from gateways.host import put_on_record

SCHEMA = "fleetlog"


def backup(admin_url: str, file: Path, *, tell: Callable[[str], None] = lambda _: None) -> Manifest:
    """Write a backup.

    One snapshot of the database for all of it: positions become visible in their order, so the log ends with a position
    and lacks none before it, and an output is stored before the event that names it.

    Args:
        admin_url: the database as its owner.
        file: where the backup goes; only its owner may read it, since the fleet's keys are in it.
        tell: told where it could not be put on record that it was made; it is made all the same.

    Raises:
        FileExistsAlreadyError: there is a file.
    """
    with (
        ArchiveWriter(file) as archive,
        psycopg.connect(admin_url, autocommit=True, application_name="fleetlog-backup") as connection,
    ):
        put_on_record(admin_url, BackupBegun(file=str(file.absolute())), tell, needed=False)
        began = datetime.now(UTC)  # nothing that is recorded later is in it
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            for name in KEPT:
                columns = _columns(connection, name)
                rows = RowCount()
                archive.table(name, columns, _rows(connection, name, columns, rows), rows)
            (head,) = _one(connection, "SELECT coalesce(max(notification_id), 0) FROM fleetlog.events")
            migrations = [name for (name,) in connection.execute(_MIGRATIONS)]
        return archive.finish(version=metadata.version("fleetlog"), made_at=began, head=head, migrations=migrations)


_MIGRATIONS = "SELECT name FROM public.fleetlog_migrations ORDER BY name"
_COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""


def _columns(connection: psycopg.Connection[Any], table: str) -> list[str]:
    return [name for (name,) in connection.execute(_COLUMNS, [f"{SCHEMA}.{table}"])]


def _rows(connection: psycopg.Connection[Any], table: str, columns: list[str], count: RowCount) -> Iterator[bytes]:
    names = SQL(", ").join(map(Identifier, columns))
    # In the order of positions a restored log lies on disk as it is read.
    order = SQL("ORDER BY notification_id") if table == "events" else SQL("")
    query = SQL("COPY (SELECT {} FROM {} {}) TO STDOUT (FORMAT binary)").format(names, Identifier(SCHEMA, table), order)
    with connection.cursor() as cursor:
        with cursor.copy(query) as copy:
            for piece in copy:
                yield bytes(piece)
        count.value = cursor.rowcount


def _one(connection: psycopg.Connection[Any], query: Any) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    if row is None:
        raise LookupError(query)
    return tuple(row)
