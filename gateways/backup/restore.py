"""Reads a backup into an empty database, makes every projection anew, and compares each with the log."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from command_bus.migrate import all_migrations, migrate
from command_bus.postgres import app_conninfo
from domain.restores import LogRestored
from gateways.backup.archive import Archive, Manifest, open_archive
from gateways.backup.backup import SCHEMA
from gateways.backup.errors import DamagedBackupError, NewerBackupError, NotAsRecordedError, NotEmptyError
from gateways.backup.tables import ARCHIVE, KEPT, LATER
from gateways.host import noted
from projections import catalog
from projections.rebuild import rebuild
from projections.tables import create_tables
from projections.verify import Verified, verify

MUST_BE_EMPTY = ("events", "outputs", *ARCHIVE)


def check(file: Path) -> Manifest:
    """Read a backup from its first byte to its last.

    Raises:
        NotABackupError, DamagedBackupError: it is not what was written.
        NewerBackupError: this Fleetlog is too old for it.
    """
    with open_archive(file) as archive:
        unknown = set(archive.manifest.migrations).difference(migration.name for migration in all_migrations())
        if unknown:
            raise NewerBackupError(
                f"The backup was made by Fleetlog {archive.manifest.version}, whose schema has {', '.join(unknown)}; "
                "restore it with that version or a newer one."
            )
        there = {table.name for table in archive.manifest.tables}
        strange = there.symmetric_difference(KEPT)
        strange.difference_update(*(tables for tables in LATER if there.isdisjoint(tables)))
        if strange:
            raise DamagedBackupError(f"Its tables are not those of a backup: {', '.join(sorted(strange))}.")
        archive.check()
        return archive.manifest


def restore(admin_url: str, file: Path, manifest: Manifest, *, tell: Callable[[str], None]) -> list[Verified]:
    """Restore a backup: all of it or nothing, in one transaction; then rebuild and verify what is made from it.

    Killed after that transaction, it has left a whole log and projections that are marked as stale: the next start
    makes them anew, as it would after an upgrade.

    Args:
        admin_url: the database as its owner.
        file: the backup.
        manifest: what `check` found in it.
        tell: told what is being done.

    Returns:
        What each projection came to, compared with the log.

    Raises:
        NotABackupError, DamagedBackupError: it is not what it was when it was checked; nothing was changed.
        NotEmptyError: there is a log already; nothing was changed.
        NotAsRecordedError: a projection differs from the log.
    """
    tell(
        f"{file}: whole; {manifest.events} events up to position {manifest.head},"
        f" of {manifest.made_at:%Y-%m-%d %H:%M} UTC"
    )
    with psycopg.connect(admin_url, autocommit=True) as connection:
        _must_be_empty(connection)  # before anything of it is brought up to date
    migrate(admin_url)
    asyncio.run(create_tables(admin_url))
    with psycopg.connect(admin_url, autocommit=True, application_name="fleetlog-restore") as connection:
        with open_archive(file) as archive, connection.transaction():
            _load(connection, archive, manifest)
        connection.execute(
            "ANALYZE fleetlog.events, fleetlog.outputs, fleetlog.output_chunks, fleetlog.archive_streams"
        )
    conninfo = app_conninfo(admin_url, name="fleetlog-restore")
    verified = []
    for name in catalog.names():
        rebuild(conninfo, name)
        verified.append(verify(conninfo, name))
        tell(f"{name}: rebuilt and verified, {verified[-1].rows} rows")
    if different := [result for result in verified if not result.ok]:
        raise NotAsRecordedError(
            "; ".join(
                f"{result.name}: {result.differing} rows differ, as {result.differences[0]}" for result in different
            )
        )
    return verified


def _must_be_empty(connection: psycopg.Connection[Any]) -> None:
    for name in MUST_BE_EMPTY:
        if connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.{name}"]).fetchone() == (None,):
            continue
        if connection.execute(SQL("SELECT 1 FROM {} LIMIT 1").format(Identifier(SCHEMA, name))).fetchone() is not None:
            raise NotEmptyError(
                f"{SCHEMA}.{name} has rows: a backup is restored into an empty database alone. Nothing was changed."
            )


def _load(connection: psycopg.Connection[Any], archive: Archive, expected: Manifest) -> None:
    manifest = archive.manifest
    # Whoever would append waits, and then finds the log that we leave.
    connection.execute("SELECT fleetlog.lock_events()")
    _must_be_empty(connection)
    if manifest != expected:
        raise DamagedBackupError("The file was replaced by another while it was being restored.")
    # With an empty log no agent knows the keys that may be here, and no lease means anything.
    connection.execute("DELETE FROM fleetlog.server_keys")
    connection.execute("DELETE FROM fleetlog.chain_key")
    connection.execute("DELETE FROM fleetlog.leases")
    connection.execute("DELETE FROM fleetlog.personal_keys")
    connection.execute("DELETE FROM fleetlog.lease_takes")
    stored = {table.name: table for table in manifest.tables}
    for table in (stored[name] for name in KEPT if name in stored):
        _load_one(connection, table.name, table.columns, archive.pieces(table), table.rows)
    connection.execute("SELECT fleetlog.note_leases()")
    (head,) = connection.execute("SELECT coalesce(max(notification_id), 0) FROM fleetlog.events").fetchone() or (0,)
    if head != manifest.head:
        raise DamagedBackupError(f"The log ends at {head}, and the backup says {manifest.head}.")
    # The next event comes after the last, as it would have there.
    connection.execute("SELECT setval('fleetlog.events_notification_id_seq', %s, %s)", [max(head, 1), head > 0])
    _note(connection, manifest)
    # What is made from the log is of another: whoever comes first, the lines below or the next start, remakes it.
    connection.execute(
        "UPDATE read.tracking SET position = 0, digest = '', status = 'running', error = NULL,"
        " error_topic = NULL, error_position = NULL"
    )


def _note(connection: psycopg.Connection[Any], manifest: Manifest) -> None:
    """Say in the log itself that it was restored: gateways then ask agents for what it has lost."""
    noted(connection, LogRestored(made_at=manifest.made_at, head=manifest.head))


def _load_one(
    connection: psycopg.Connection[Any], name: str, columns: Sequence[str], pieces: Iterator[bytes], rows: int
) -> None:
    names = SQL(", ").join(map(Identifier, columns))
    query = SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(Identifier(SCHEMA, name), names)
    with connection.cursor() as cursor:
        try:
            with cursor.copy(query) as copy:
                for piece in pieces:
                    copy.write(piece)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.UndefinedColumn) as error:
            raise DamagedBackupError(f"{name}: {error}") from error
        if cursor.rowcount != rows:
            raise DamagedBackupError(f"{name}: {cursor.rowcount} rows, and the backup says {rows}.")
