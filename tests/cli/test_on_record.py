"""What is done at the server's own machine, past the API, is on record like everything else, and needs the database.

A command that is in no table here fails.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import typer
from psycopg.conninfo import conninfo_to_dict

from command_bus import migrate as migrations
from command_bus.audit.keys import load_seed
from command_bus.migrate import Migration
from gateways.backup.backup import backup
from gateways.cli import session
from gateways.cli.program import make_app, run
from gateways.host import at_the_host
from gateways.local.authority import Authority
from projections.replays import make
from schema.audit.checkpoints import encode_checkpoint, sign
from schema.audit.verify import one_moment
from tests.audit.chaining import connect, signed
from tests.projections.running import history


class Ground(msgspec.Struct):
    """Where a command is typed."""

    url: str
    empty_url: str
    folder: Path
    monkeypatch: pytest.MonkeyPatch


class Leaves(msgspec.Struct, frozen=True):
    """What a command leaves in the log."""

    events: tuple[str, ...]
    prepared: Callable[[Ground], tuple[str, ...]] = lambda _: ()
    """Does what has to be there first; returns what is typed behind the command's name."""


def _file(name: str) -> Callable[[Ground], tuple[str, ...]]:
    return lambda ground: (str(ground.folder / name),)


def _restored(ground: Ground) -> tuple[str, ...]:
    file = ground.folder / "kept.backup"
    backup(ground.url, file)
    ground.url = ground.empty_url
    return (str(file),)


def _newer(ground: Ground) -> tuple[str, ...]:
    there = migrations.all_migrations()
    ground.monkeypatch.setattr(migrations, "all_migrations", lambda: [*there, Migration("9999_new", "SELECT 1")])
    return ()


def _countersigned(ground: Ground) -> tuple[str, ...]:
    signed(ground.url)
    file = ground.folder / "1.json"
    with one_moment(ground.url) as source:
        (found,) = source.checkpoints(0)
    with connect(ground.url) as connection:
        mine = sign(load_seed(connection, ground.folder / "auditor.pem"), found.statement, "Fides Audit")
    file.write_bytes(encode_checkpoint(msgspec.structs.replace(found, signatures=[*found.signatures, mine])))
    return (str(file),)


def _stopped(ground: Ground) -> tuple[str, ...]:
    with psycopg.connect(ground.url) as owner:
        owner.execute("UPDATE read.tracking SET status = 'stopped' WHERE projection = 'agents'")
    return ("agents",)


def _replayed(ground: Ground) -> tuple[str, ...]:
    make(ground.url, 5, "before")
    return ("before",)


def _rotated(_ground: Ground) -> tuple[str, ...]:
    assert run(["server-keys", "rotate", "issuer"]) == 0
    return ("issuer",)


def _with_authority(ground: Ground) -> tuple[str, ...]:
    Authority(ground.folder).see_to(["127.0.0.1"], datetime.now(UTC))
    return ("--data-dir", str(ground.folder))


def _in_folder(ground: Ground) -> tuple[str, ...]:
    return ("--data-dir", str(ground.folder))


ALONE = {
    "first-admin": Leaves(("NameClaimed", "PasswordSet", "UserCreated"), _in_folder),
    "backup": Leaves(("BackupBegun",), _file("new.backup")),
    "restore": Leaves(("LogRestored",), _restored),
    "migrate": Leaves(("SchemaMigrated",), _newer),
    "tls roll-over": Leaves(("AuthorityRolledOver",), _with_authority),
    "server-keys rotate": Leaves(("ServerKeyAnnounced",), lambda _: ("issuer",)),
    "server-keys retire": Leaves(("ServerKeyRetired",), _rotated),
    "projections rebuild": Leaves(("ProjectionRebuilt",), lambda _: ("agents",)),
    "projections resume": Leaves(("ProjectionResumed",), _stopped),
    "archive run": Leaves(("SegmentArchived",), lambda _: ("--older-than", "0s")),
    "replay make": Leaves(("ReplayMade",), lambda _: ("--at", "5")),
    "replay drop": Leaves(("ReplayDropped",), _replayed),
    "audit export": Leaves(("ExportBegun",), _file("log.ndjson")),
    "audit accept": Leaves(("CheckpointCountersigned",), _countersigned),
}
"""What changes something, or takes something out."""
NOTHING = {
    "up": "it starts what is on record itself; a migration that it applies is",
    "serve": "the same",
    "init": "an installation's first steps are on record as its own, `up`",
    "status": "it shows how the platform is",
    "config show": "it shows settings, secrets masked",
    "config nats": "it shows public keys",
    "tls show": "it shows fingerprints",
    "server-keys list": "it shows public keys",
    "projections list": "it shows how far they are",
    "projections verify": "it compares, and shows keys of rows that differ",
    "archive list": "it shows manifests",
    "archive verify": "it compares, and shows counts",
    "archive check": "it reads files",
    "replay list": "it shows names and positions",
    "audit verify": "it compares, and shows the position of what differs",
    "audit check": "it reads files",
    "audit countersign": "it changes a file; what is accepted of it is on record",
    "bench": "it measures servers of its own",
    "demo": "it runs a platform of its own",
    "agent": "it is a machine's program, and goes through the gateways",
    "login": "it goes through the API",
    "logout": "it goes through the API",
}
WITHOUT_DATABASE = {
    "up", "serve", "status", "config show", "tls show", "tls roll-over", "archive check", "audit check",
    "audit countersign", "bench", "demo", "agent", "login", "logout",
}  # fmt: skip
"""They need none, or start or wait for it."""
BEHIND = {
    "backup": ("x.backup",),
    "server-keys rotate": ("issuer",),
    "server-keys retire": ("issuer",),
    "projections resume": ("agents",),
    "replay make": ("--at", "5"),
    "replay drop": ("before",),
    "audit export": ("x.ndjson",),
    "archive run": ("--older-than", "0s"),
}
"""What is typed behind a command's name where nothing need be there."""


def callbacks(app: typer.Typer, *above: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each command of the program, and what it calls."""
    for one in app.registered_commands:
        assert one.callback is not None
        yield " ".join((*above, str(one.name))), one.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from callbacks(group.typer_instance, *above, str(group.name or group.typer_instance.info.name))


def commands(app: typer.Typer) -> Iterator[tuple[str, bool]]:
    """Each command of the program, and whether it goes to the API alone."""
    for name, function in callbacks(app):
        yield name, function.__code__.co_filename == session.__file__


def test_each_command_is_in_a_table() -> None:
    """A command that goes past the API leaves an event, or it is said why not."""
    assert {name for name, by_api in commands(make_app()) if not by_api} == set(ALONE) | set(NOTHING)


@pytest.fixture
def ground(postgres_url: str, empty_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    asyncio.run(history(postgres_url, 11))
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("FLEETLOG_DATA_DIR", str(tmp_path))
    return Ground(postgres_url, empty_postgres_url, tmp_path, monkeypatch)


def gained(url: str, after: int) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT split_part(topic, '/', 1), actor FROM fleetlog.events WHERE notification_id > %s ORDER BY 1",
            [after],
        )
        return found.fetchall()


def head(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT max(notification_id) FROM fleetlog.events").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("name", sorted(ALONE))
def test_what_is_done_at_the_host_is_on_record(name: str, ground: Ground) -> None:
    """Once, in the name of the account that did it."""
    typed = ALONE[name].prepared(ground)
    before = head(ground.url) if ground.url != ground.empty_url else None
    ground.monkeypatch.setenv("FLEETLOG_POSTGRES_URL", ground.url)
    assert run([*name.split(), *typed]) == 0
    found = gained(ground.url, before if before is not None else head(ground.url) - 1)
    assert [event for event, _ in found] == sorted(ALONE[name].events)
    assert {actor for _, actor in found} == {at_the_host()}


def test_an_upgrade_at_a_start_is_on_record_and_a_first_start_is_not(
    empty_postgres_url: str,
) -> None:
    """A database that comes about has no past that could have changed."""
    migrations.migrate(empty_postgres_url, actor="host:ada")
    assert gained(empty_postgres_url, 0) == []
    there = migrations.all_migrations()
    assert migrations.migrate(empty_postgres_url, [*there, Migration("9999_new", "SELECT 1")], actor="host:ada")
    assert gained(empty_postgres_url, 0) == [("SchemaMigrated", "host:ada")]


def test_a_backup_is_made_where_nothing_can_be_recorded_and_says_so(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a standby, for one; an export of one is written as well."""
    before = head(ground.url)
    standby = f"{ground.url}&options=-c%20default_transaction_read_only%3Don"
    ground.monkeypatch.setenv("FLEETLOG_POSTGRES_URL", standby)
    for name in ("backup", "audit export"):
        assert run([*name.split(), *_file(name.replace(" ", "."))(ground)]) == 0
        assert "not on record" in capsys.readouterr().err
    assert head(ground.url) == before


def test_an_export_that_cannot_be_recorded_is_not_written(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the log refuses for any other reason, a backup is made and no export."""
    with psycopg.connect(ground.url, autocommit=True) as owner:
        owner.execute("ALTER TABLE fleetlog.events ADD CONSTRAINT no_more CHECK (false) NOT VALID")
    assert run(["backup", *_file("fleet.backup")(ground)]) == 0
    assert "not on record" in capsys.readouterr().err
    assert run(["audit", "export", *_file("log.ndjson")(ground)]) == 2
    assert "postgres_refused" in capsys.readouterr().err
    assert not (ground.folder / "log.ndjson").exists()


def test_a_step_to_another_authority_is_taken_while_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a matter of files; that it could not be recorded is said."""
    monkeypatch.setenv("FLEETLOG_DATA_DIR", str(tmp_path))
    Authority(tmp_path).see_to(["127.0.0.1"], datetime.now(UTC))
    assert run(["tls", "roll-over"]) == 0
    shown = capsys.readouterr()
    assert "announced" in shown.out
    assert "not on record" in shown.err


def test_who_is_at_the_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the account of the process, whatever its environment says; and by who became it, where sudo tells."""
    import pwd

    account = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setenv("USER", "nobody-else")
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert at_the_host() == f"host:{account}"
    monkeypatch.setenv("SUDO_USER", "ada")
    assert at_the_host() == f"host:{account}/ada"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert at_the_host() == "host:4000000000/ada"


REFUSALS = {"no platform": {"no_platform", "unusable_file"}, "wrong password": {"postgres_unavailable"}}
NEEDED = sorted(
    {name for name, by_api in commands(make_app()) if not by_api} - WITHOUT_DATABASE - {"restore", "audit accept"}
)


@pytest.mark.parametrize("how", ["no platform", "wrong password"])
def test_nothing_is_done_without_a_way_to_the_database(
    how: str,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who has no database, or not its password, gets one red line and exit code 2."""
    monkeypatch.setenv("FLEETLOG_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLEETLOG_POSTGRES_URL", raising=False)
    if how == "wrong password":
        known = str(conninfo_to_dict(postgres_url)["password"])
        monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url.replace(known, known[::-1]))
    wrong = []
    for name in NEEDED:
        code = run([*name.split(), *BEHIND.get(name, ())])
        shown = capsys.readouterr()
        lines = shown.err.splitlines()
        if (code, shown.out, len(lines)) != (2, "", 1) or lines[0].partition(":")[0] not in REFUSALS[how]:
            wrong.append(f"{name}: {code} {shown}")
    assert not wrong
