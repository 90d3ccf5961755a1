"""A backup holds all that cannot be made anew, as of one moment; a restore gives all of it back, or changes nothing."""

import asyncio
import stat
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from command_bus.archiving import archive
from command_bus.postgres import app_conninfo
from domain.personal import ERASED
from gateways.agents.keys import load_keys
from gateways.backup import archive as archives
from gateways.backup import restore as restoring
from gateways.backup.archive import MANIFEST, Manifest, open_archive
from gateways.backup.backup import backup
from gateways.backup.errors import (
    BackupError,
    DamagedBackupError,
    FileExistsAlreadyError,
    NewerBackupError,
    NotABackupError,
    NotEmptyError,
)
from gateways.backup.restore import check, restore
from gateways.backup.tables import KEPT, LEFT
from projections.catalog import names
from projections.rebuild import rebuild
from projections.runner import Projector
from projections.tables import create_tables
from projections.verify import verify
from tests.projections.database import head, positions, record, rows_of
from tests.projections.histories import Fleet
from tests.projections.running import history, until


def nothing(_line: str) -> None:
    """Say nothing."""


def stored(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the tables that a backup holds."""
    found = {}
    with psycopg.connect(url) as connection:
        for name in KEPT:
            query = SQL("SELECT * FROM {} AS t ORDER BY t::text").format(Identifier("fleetlog", name))
            found[name] = connection.execute(query).fetchall()
    return found


def without_note(events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A restored log as it was backed up: without the last event, which says that it was restored."""
    last = max(events)
    assert "LogRestored/1" in last
    return [event for event in events if event is not last]


def objects(url: str) -> list[tuple[Any, ...]]:
    """What there is in a database, but for what every one has."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname !~ '^pg_|information_schema' ORDER BY 1, 2"
        ).fetchall()


def fill(url: str) -> None:
    """Keys, outputs and a lease beside a history, of which some has moved into the archive."""
    load_keys(url)
    with psycopg.connect(app_conninfo(url)) as connection:
        for number in range(3):
            digest = bytes([number]) * 32
            connection.execute("INSERT INTO fleetlog.outputs (sha256, size) VALUES (%s, %s)", [digest, number])
            connection.execute(
                "INSERT INTO fleetlog.output_chunks VALUES (%s, 0, %s)", [digest, bytes([0, 255, number])]
            )
        connection.execute(
            "INSERT INTO fleetlog.leases VALUES (%s, 'gone', now(), 7, %s)", [UUID(int=1), [UUID(int=2), UUID(int=3)]]
        )
    for name in names():
        rebuild(app_conninfo(url), name)
    assert archive(url, timedelta(0)).events > 0


@pytest.fixture
async def full_url(postgres_url: str) -> str:
    """A database with a past."""
    await history(postgres_url, 11, steps=300)
    await asyncio.to_thread(fill, postgres_url)
    return postgres_url


@pytest.fixture
def file(full_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backup of it, in many small parts."""
    monkeypatch.setattr(archives, "PART_BYTES", 4096)
    file = tmp_path / "fleet.backup"
    backup(full_url, file)
    return file


async def test_a_round_trip(full_url: str, file: Path, empty_postgres_url: str) -> None:
    """Every row of the log, of the outputs, of the keys and of all projections is there again; positions go on."""
    results = await asyncio.to_thread(restore, empty_postgres_url, file, check(file), tell=nothing)
    assert {result.name for result in results} == set(names())
    assert all(result.ok for result in results)
    restored = stored(empty_postgres_url)
    assert without_note(restored["events"]) == stored(full_url)["events"]
    assert {name: rows for name, rows in restored.items() if name != "events"} == {
        name: rows for name, rows in stored(full_url).items() if name != "events"
    }
    assert len(stored(full_url)["events"]) > 150
    assert stored(full_url)["archive_streams"]
    assert rows_of(empty_postgres_url) == rows_of(full_url)
    assert load_keys(empty_postgres_url).delivery.public == load_keys(full_url).delivery.public
    before = head(full_url)
    await history(empty_postgres_url, 12, steps=20)
    with psycopg.connect(empty_postgres_url) as connection:
        fresh = connection.execute(
            "SELECT min(notification_id) FROM fleetlog.events WHERE notification_id > %s", [before]
        ).fetchone()
    assert fresh == (before + 1,)
    assert verify(app_conninfo(empty_postgres_url), "pending").ok


async def test_a_backup_from_before_brings_back_who_was_erased(
    postgres_url: str, empty_postgres_url: str, tmp_path: Path
) -> None:
    """It holds the keys as of then; erased again, the restored log has nothing of it either."""
    fleet, file = Fleet(3), tmp_path / "before"
    for changes in (fleet.new_client(), fleet.new_site(), fleet.new_agent(hostname="ada-laptop")):
        await record(postgres_url, [(changes, fleet.metadata())])
    backup(postgres_url, file)
    (agent,) = fleet.agents
    erasure = [agent.retire("sold"), agent.erase("")]
    await record(postgres_url, [(erasure, fleet.metadata())])
    await asyncio.to_thread(restore, empty_postgres_url, file, check(file), tell=nothing)
    assert [row[3] for row in rows_of(empty_postgres_url)["agents"]] == ["ada-laptop"]
    await record(empty_postgres_url, [(erasure, fleet.metadata())])
    rebuild(app_conninfo(empty_postgres_url), "agents")
    assert [row[3] for row in rows_of(empty_postgres_url)["agents"]] == [ERASED]
    after = tmp_path / "after"
    backup(empty_postgres_url, after)
    with open_archive(after) as archive:
        (keys,) = (table for table in archive.manifest.tables if table.name == "personal_keys")
        assert agent.stream_id.bytes in b"".join(archive.pieces(keys)), "that nobody makes a key for it again"


async def test_a_round_trip_of_nothing(postgres_url: str, empty_postgres_url: str, tmp_path: Path) -> None:
    """A log without an event comes back as one; its first position is the first."""
    file = tmp_path / "empty.backup"
    # As of a standby, whose log takes no line about it.
    assert backup(f"{postgres_url}&options=-c%20default_transaction_read_only%3Don", file).events == 0
    await asyncio.to_thread(restore, empty_postgres_url, file, check(file), tell=nothing)
    await history(empty_postgres_url, 1, steps=5)
    with psycopg.connect(empty_postgres_url) as connection:
        assert connection.execute("SELECT min(notification_id) FROM fleetlog.events").fetchone() == (1,)


async def test_everything_goes_on_meanwhile(postgres_url: str, empty_postgres_url: str, tmp_path: Path) -> None:
    """Taken while events are appended, it holds the log up to a position and lacks none before it."""
    await history(postgres_url, 1, steps=50)
    writing = asyncio.gather(*(history(postgres_url, 20 + writer, steps=200) for writer in range(3)))
    file, taken = tmp_path / "0", 0
    while not writing.done() or not taken:
        taken += 1
        file = tmp_path / str(taken)
        await asyncio.to_thread(backup, postgres_url, file)
        if taken == 3:
            break
    await writing
    manifest = check(file)
    assert manifest.head <= head(postgres_url)
    await asyncio.to_thread(restore, empty_postgres_url, file, manifest, tell=nothing)
    there = [row for row in stored(postgres_url)["events"] if row[0] <= manifest.head]
    assert sorted(without_note(stored(empty_postgres_url)["events"])) == sorted(there)


def _cut(at: Callable[[int], int]) -> Callable[[Path], None]:
    def harm(file: Path) -> None:
        data = file.read_bytes()
        file.write_bytes(data[: at(len(data))])

    return harm


def _flip(member: str, offset: int, *, header: bool = False) -> Callable[[Path], None]:
    def harm(file: Path) -> None:
        with tarfile.open(file) as tar:
            entry = next(one for one in tar if one.name.startswith(member))
        data = bytearray(file.read_bytes())
        data[(entry.offset if header else entry.offset_data) + offset] ^= 1
        file.write_bytes(data)

    return harm


def _without_a_part(file: Path) -> None:
    with tarfile.open(file) as tar:
        entry = next(one for one in tar if one.name.startswith("events/"))
        end = entry.offset_data + -(-entry.size // 512) * 512
    data = file.read_bytes()
    file.write_bytes(data[: entry.offset] + data[end:])


HARMS = {
    "nothing is left": _cut(lambda _size: 0),
    "a byte is left": _cut(lambda _size: 1),
    "half": _cut(lambda size: size // 2),
    "without its end": _cut(lambda size: size - 12_000),
    "a bit of an event": _flip("events/", 100),
    "a bit of a key": _flip("server_keys/", 20),
    "a bit of an output": _flip("output_chunks/", 10),
    "a bit of a header": _flip("events/", 3, header=True),
    "a bit of the manifest": _flip(MANIFEST, 200),
    "a bit of its hash": _flip("manifest.sha256", 5),
    "a part is missing": _without_a_part,
    "another file": lambda file: file.write_text("no backup\n" * 1000) and None,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
def test_a_damaged_file_is_refused(file: Path, harm: Callable[[Path], None]) -> None:
    """Cut short or altered anywhere, it is found out before anything is done with it."""
    check(file)
    harm(file)
    with pytest.raises((NotABackupError, DamagedBackupError)):
        check(file)


@pytest.mark.parametrize("harm", ["a bit of an event", "a bit of an output", "half"])
def test_a_file_that_is_damaged_in_between_changes_nothing(file: Path, postgres_url: str, harm: str) -> None:
    """What was whole when it was checked, and is not when it is read again, leaves the database as it was."""
    manifest = check(file)
    HARMS[harm](file)
    empty = f"harmed_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(empty)))
    url = make_conninfo(postgres_url, dbname=empty)
    try:
        with pytest.raises((NotABackupError, DamagedBackupError)):
            restore(url, file, manifest, tell=nothing)
        assert not any(stored(url).values())
        assert set(positions(url).values()) == {0}
        assert head(url) == 0
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(empty)))


def test_a_log_is_never_replaced(full_url: str, file: Path) -> None:
    """Where there is a log, a restore is refused and changes nothing."""
    before, rows, there = stored(full_url), rows_of(full_url), objects(full_url)
    with pytest.raises(NotEmptyError):
        restore(full_url, file, check(file), tell=nothing)
    assert (stored(full_url), rows_of(full_url), objects(full_url)) == (before, rows, there)


def test_a_file_is_never_replaced(full_url: str, file: Path) -> None:
    """A backup goes into a new file, which its owner alone may read."""
    before = file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(FileExistsAlreadyError):
        backup(full_url, file)
    assert file.read_bytes() == before


def test_a_backup_that_fails_leaves_no_file(empty_postgres_url: str, tmp_path: Path) -> None:
    """Half a backup must not be taken for one."""
    with pytest.raises(psycopg.Error):
        backup(empty_postgres_url, tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def _altered(file: Path, **changes: object) -> None:
    """Write the same backup with another manifest, and its right hash."""
    with open_archive(file) as archive:
        manifest = msgspec.structs.replace(archive.manifest, **changes)
        pieces = {table.name: b"".join(archive.pieces(table)) for table in archive.manifest.tables}
    file.unlink()
    with archives.ArchiveWriter(file) as writer:
        for table in manifest.tables:
            count = archives.RowCount()
            count.value = table.rows
            writer.table(table.name, table.columns, iter([pieces[table.name]]), count)
        writer.finish(
            version=manifest.version, made_at=manifest.made_at, head=manifest.head, migrations=manifest.migrations
        )


def test_a_backup_of_a_newer_version_is_refused(file: Path) -> None:
    """Its schema may hold what this one would not know to keep."""
    _altered(file, migrations=[*check(file).migrations, "9999_to_come"])
    with pytest.raises(NewerBackupError, match="9999_to_come"):
        check(file)


async def test_what_does_not_add_up_is_rolled_back(file: Path, empty_postgres_url: str) -> None:
    """A whole file that holds another log than it says leaves the database empty."""
    _altered(file, head=check(file).head + 1)
    with pytest.raises(DamagedBackupError):
        await asyncio.to_thread(restore, empty_postgres_url, file, check(file), tell=nothing)
    assert not any(stored(empty_postgres_url).values())


async def test_killed_before_the_rebuild(
    full_url: str, file: Path, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is there, every projection is known to be stale, and the next start makes them anew."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "rebuild", die)
    with pytest.raises(KeyboardInterrupt):
        restore_in_a_thread(empty_postgres_url, file)
    await create_tables(empty_postgres_url)
    projector = Projector(app_conninfo(empty_postgres_url))
    await projector.start()
    await until(
        lambda: (
            projector.state == "running" and set(positions(empty_postgres_url).values()) == {head(empty_postgres_url)}
        )
    )
    await projector.stop()
    assert rows_of(empty_postgres_url) == rows_of(full_url)


def restore_in_a_thread(url: str, file: Path) -> None:
    """A restore has a loop of its own."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor:
        executor.submit(restore, url, file, check(file), tell=nothing).result()


def test_every_table_is_thought_of(postgres_url: str) -> None:
    """Each table of the log's schema is in a backup, or is left out by decision."""
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'fleetlog'").fetchall()
    assert sorted(name for (name,) in found) == sorted(KEPT + LEFT)


def test_an_unknown_table_is_refused(file: Path) -> None:
    """A file that holds more than this version knows, or less, is not restored by half."""
    manifest: Manifest = check(file)
    _altered(file, tables=[table for table in manifest.tables if table.name != "leases"])
    with pytest.raises(BackupError, match="leases"):
        check(file)
