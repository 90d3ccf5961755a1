"""The schema comes about by itself, once, and the application cannot touch what was recorded."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from command_bus.migrate import (
    EditedMigrationError,
    Migration,
    MigrationError,
    MissingRightError,
    all_migrations,
    migrate,
)
from command_bus.postgres import APP_ROLE, app_conninfo

LOGIN = "fleetlog_test_owner"


def test_migrating_again_changes_nothing(empty_postgres_url: str) -> None:
    """The first run applies all migrations, the next none."""
    assert migrate(empty_postgres_url) == [migration.name for migration in all_migrations()]
    assert migrate(empty_postgres_url) == []


def test_each_migration_has_a_number_of_its_own() -> None:
    """Two that were written side by side would otherwise be applied in an order that nobody chose."""
    numbers = [int(migration.name.partition("_")[0]) for migration in all_migrations()]
    assert len(set(numbers)) == len(numbers)


def test_many_processes_may_migrate_at_once(empty_postgres_url: str) -> None:
    """Of several that start together, one applies each migration and none fails."""
    with ThreadPoolExecutor(6) as threads:
        applied = list(threads.map(lambda _: migrate(empty_postgres_url), range(6)))
    assert sorted(name for names in applied for name in names) == [m.name for m in all_migrations()]


def test_an_edited_migration_is_refused(empty_postgres_url: str) -> None:
    """A file that was applied and then edited stops the migration, by name, before anything else is applied."""
    migrate(empty_postgres_url)
    first, *rest = all_migrations()
    edited = [Migration(first.name, first.sql + "\n-- a harmless remark"), *rest, Migration("9999_new", "SELECT 1")]
    with pytest.raises(EditedMigrationError, match=first.name):
        migrate(empty_postgres_url, edited)
    with psycopg.connect(empty_postgres_url) as conn:
        assert conn.execute("SELECT 1 FROM public.fleetlog_migrations WHERE name = '9999_new'").fetchone() is None


def test_a_failing_migration_leaves_nothing(empty_postgres_url: str) -> None:
    """Where one statement fails, the migrations applied by the same run are rolled back with it."""
    good, bad = Migration("1_good", "CREATE TABLE public.good (a int)"), Migration("2_bad", "CREATE TABLE")
    with pytest.raises(MigrationError, match="2_bad"):
        migrate(empty_postgres_url, [good, bad])
    with psycopg.connect(empty_postgres_url) as conn:
        assert conn.execute("SELECT to_regclass('public.good')").fetchone() == (None,)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fleetlog.events SET actor = 'someone else'",
        "DELETE FROM fleetlog.events",
        "TRUNCATE fleetlog.events",
        "DROP TABLE fleetlog.events",
        "ALTER TABLE fleetlog.events DISABLE TRIGGER ALL",
        "LOCK TABLE fleetlog.events IN ACCESS EXCLUSIVE MODE",
    ],
)
def test_the_application_cannot_change_what_was_recorded(postgres_url: str, statement: str) -> None:
    """As the application's role, everything that would change or block the log is refused."""
    with psycopg.connect(app_conninfo(postgres_url)) as conn:
        assert conn.execute("SELECT current_user").fetchone() == (APP_ROLE,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement.encode())


def test_not_even_the_owner_changes_events_by_mistake(postgres_url: str) -> None:
    """The table itself refuses UPDATE, DELETE and TRUNCATE, whoever asks."""
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO fleetlog.events (originator_id, originator_version, correlation_id, actor, topic, state)"
            " VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'system', 'ClientCreated/1', '')"
        )
        for statement in (
            "UPDATE fleetlog.events SET actor = ''",
            "DELETE FROM fleetlog.events",
            "TRUNCATE fleetlog.events",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                conn.execute(statement.encode())


@pytest.fixture
def owner_url(empty_postgres_url: str) -> Iterator[str]:
    """A database owned by an ordinary login that may not make roles."""
    with psycopg.connect(empty_postgres_url, autocommit=True) as conn:
        database = Identifier(conn.info.dbname)
        conn.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(LOGIN), Literal(LOGIN)))
        conn.execute(SQL("ALTER DATABASE {} OWNER TO {}").format(database, Identifier(LOGIN)))
        yield make_conninfo(empty_postgres_url, user=LOGIN, password=LOGIN)
        conn.execute(SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(Identifier(LOGIN)))
        conn.execute(SQL("DROP OWNED BY {}").format(Identifier(LOGIN)))
        conn.execute(SQL("DROP ROLE {}").format(Identifier(LOGIN)))


def test_an_ordinary_owner_is_told_what_an_administrator_must_run(owner_url: str, empty_postgres_url: str) -> None:
    """A login that owns its database migrates it, once the one statement that its message names has been run."""
    with psycopg.connect(empty_postgres_url, autocommit=True) as conn:
        migrate(
            make_conninfo(empty_postgres_url, dbname="postgres"), []
        )  # the role is there: only the membership lacks
        with pytest.raises(MissingRightError, match="administrator") as told:
            migrate(owner_url)
        statement = re.search(r"GRANT [^;]+;", str(told.value))
        assert statement is not None
        conn.execute(statement.group().encode())
    assert migrate(owner_url) == [migration.name for migration in all_migrations()]
    with psycopg.connect(app_conninfo(owner_url), autocommit=True) as app:
        app.execute("CREATE SCHEMA shadow_test")


def test_a_login_that_does_not_own_the_database_is_told_so(empty_postgres_url: str, owner_url: str) -> None:
    """Without the right to make schemas, the message says who must own the database."""
    with psycopg.connect(empty_postgres_url, autocommit=True) as conn:
        conn.execute(SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(Identifier(conn.info.dbname)))
        migrate(make_conninfo(empty_postgres_url, dbname="postgres"), [])
        conn.execute(SQL("GRANT {} TO {}").format(Identifier(APP_ROLE), Identifier(LOGIN)))
    with pytest.raises(MissingRightError, match="OWNER TO"):
        migrate(owner_url)
