"""Brings a database's schema up to date: plain SQL files, once each, in the order of their names.

Why there is a runner here at all: docs/decisions/0002-migrations.md.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from importlib import resources

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier

from command_bus.noting import ACTOR, note
from command_bus.pooler import must_be_the_server_too
from command_bus.postgres import APP_ROLE
from domain.host_acts import SchemaMigrated

_LOCK_KEY = 7380948517104312168
_TABLE = """
    CREATE TABLE IF NOT EXISTS public.fleetlog_migrations (
        name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
    )
"""


class MigrationError(Exception):
    """The database's schema could not be brought up to date."""

    code = "migration_failed"


class EditedMigrationError(MigrationError):
    """A migration that was applied has been edited since; undo the edit and write a new migration."""

    code = "migration_edited"


class MissingRightError(MigrationError):
    """The login lacks a right that only an administrator of the server can give."""

    code = "migration_missing_right"


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def all_migrations() -> list[Migration]:
    """The files of schema/migrations, in the order in which they are applied."""
    folder = resources.files("schema") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")) for file in files]


def migrate(url: str, migrations: Sequence[Migration] | None = None, *, actor: str = ACTOR) -> list[str]:
    """Apply what is missing; safe to call at every start, and from many processes at once.

    Args:
        url: a login that owns the database, or a superuser.
        migrations: instead of the files of schema/migrations.
        actor: in whose name it is on record that a database which was in use has changed.

    Returns:
        The names of those applied now.

    Raises:
        EditedMigrationError: an applied file is not what it was.
        MissingRightError: an administrator must run the statement that the message names.
        MigrationError: a statement failed; everything applied now was rolled back.
        PoolerError: the URL leads to a pooler, which would leave the lock behind.
    """
    with psycopg.connect(url, autocommit=True, application_name="fleetlog-migrate", connect_timeout=5) as conn:
        must_be_the_server_too(conn)
        conn.execute("SELECT pg_advisory_lock(%s)", [_LOCK_KEY])
        try:
            _ensure_role(conn)
            with conn.transaction():
                applied = _apply(conn, all_migrations() if migrations is None else migrations, actor)
            _ensure_database_grant(conn)
        finally:
            if not conn.broken:
                conn.execute("SELECT pg_advisory_unlock(%s)", [_LOCK_KEY])
    return applied


def _apply(conn: psycopg.Connection, migrations: Sequence[Migration], actor: str) -> list[str]:
    _run(conn, "the list of migrations", _TABLE)
    before: dict[str, str] = dict(conn.execute("SELECT name, sha256 FROM public.fleetlog_migrations").fetchall())
    applied = []
    for migration in migrations:
        if migration.name in before:
            if before[migration.name] != migration.sha256:
                raise EditedMigrationError(f"{migration.name}: {EditedMigrationError.__doc__}")
            continue
        _run(conn, migration.name, migration.sql)
        conn.execute(
            "INSERT INTO public.fleetlog_migrations (name, sha256) VALUES (%s, %s)", [migration.name, migration.sha256]
        )
        applied.append(migration.name)
    if before and applied:
        note(conn, SchemaMigrated(migrations=tuple(applied)), actor=actor)
    return applied


def _run(conn: psycopg.Connection, name: str, sql: str) -> None:
    try:
        conn.execute(sql.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise MissingRightError(
            f"{name}: {error}. The login must own the database; an administrator can run: "
            f'ALTER DATABASE "{conn.info.dbname}" OWNER TO "{conn.info.user}";'
        ) from error
    except psycopg.DatabaseError as error:
        raise MigrationError(f"{name}: {error}") from error


def _ensure_role(conn: psycopg.Connection) -> None:
    """Make the application's role, which belongs to the server and not to one database, and let the login act as it."""
    create = SQL("CREATE ROLE {} NOLOGIN").format(Identifier(APP_ROLE))
    grant = SQL("GRANT {} TO {}").format(Identifier(APP_ROLE), Identifier(conn.info.user))
    try:
        if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APP_ROLE]).fetchone() is None:
            # Another database of this server may be migrated at the same moment.
            with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                conn.execute(create)
        if conn.execute("SELECT pg_has_role(%s, 'SET')", [APP_ROLE]).fetchone() == (False,):
            conn.execute(grant)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MissingRightError(
            f"{error}. An administrator must run, once for this server: "
            f"{create.as_string(conn)}; {grant.as_string(conn)};"
        ) from error


def _ensure_database_grant(conn: psycopg.Connection) -> None:
    """Let the application make the shadow schemas of its rebuilds; a copy of a database does not inherit this right."""
    grant = SQL("GRANT CREATE ON DATABASE {} TO {}").format(Identifier(conn.info.dbname), Identifier(APP_ROLE))
    allowed = conn.execute("SELECT has_database_privilege(%s, current_database(), 'CREATE')", [APP_ROLE]).fetchone()
    if allowed == (True,):
        return
    conn.execute(grant)
    allowed = conn.execute("SELECT has_database_privilege(%s, current_database(), 'CREATE')", [APP_ROLE]).fetchone()
    if allowed != (True,):  # an owner's grant without the right to give it is only a warning
        raise MissingRightError(f"An administrator must run: {grant.as_string(conn)};")
