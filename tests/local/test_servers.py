"""The embedded servers, outside of any Fleetlog."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from gateways.local.servers import (
    AlreadyRunningError,
    EmbeddedNats,
    EmbeddedPostgres,
    EmbeddedServer,
    EmbeddedValkey,
    embedded_servers,
    sole_use,
)

KINDS = [EmbeddedPostgres, EmbeddedNats, EmbeddedValkey]


@pytest.mark.parametrize("kind", KINDS)
def test_comes_back_at_the_same_address(kind: type[EmbeddedServer], data_dir: Path) -> None:
    """A server that was stopped comes back where its clients knew it."""
    first = kind(data_dir)
    first.start()
    first.stop()
    assert not first.running()
    second = kind(data_dir)
    second.start()
    try:
        assert second.url == first.url
    finally:
        second.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_recovers_from_its_own_kill(kind: type[EmbeddedServer], data_dir: Path) -> None:
    """A server killed with SIGKILL starts again on what it left."""
    server = kind(data_dir)
    server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    again = kind(data_dir)
    again.start()
    again.stop()


def test_ends_the_orphan_of_a_killed_parent(data_dir: Path) -> None:
    """What a parent killed with SIGKILL leaves is ended, and what it had committed is there."""
    script = (
        "import sys, pathlib, psycopg\n"
        "from gateways.local.servers import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1])); server.start()\n"
        "connection = psycopg.connect(server.superuser_url, autocommit=True)\n"
        "connection.execute('CREATE TABLE kept (n int)'); connection.execute('INSERT INTO kept VALUES (7)')\n"
        "print(server.pid, flush=True); sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, data_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    orphan = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    server = EmbeddedPostgres(data_dir)
    server.start()
    try:
        assert not psutil.pid_exists(orphan) or server.pid == orphan
        with psycopg.connect(server.superuser_url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    finally:
        server.stop()


def test_a_reused_process_number_does_not_keep_postgres_down(data_dir: Path) -> None:
    """A stale postmaster.pid that names somebody else's living process is seen through."""
    server = EmbeddedPostgres(data_dir)
    server.start()
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    bystander = subprocess.Popen(["sleep", "60"], user=pid_file.parent.stat().st_uid if os.geteuid() == 0 else None)
    try:
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        again = EmbeddedPostgres(data_dir)
        again.start()
        again.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_data_directory_serves_one(data_dir: Path) -> None:
    """A second user of a data directory is told who has it."""
    with sole_use(data_dir), pytest.raises(AlreadyRunningError, match=str(os.getpid())), sole_use(data_dir):
        pytest.fail("both hold it")


async def test_the_application_cannot_change_its_past(data_dir: Path) -> None:
    """The application's login may neither migrate nor act as the owner."""
    async with embedded_servers(data_dir, nats=False) as servers:
        assert servers.postgres is not None
        with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("CREATE SCHEMA mine")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SET ROLE fleetlog_owner")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers under another account")
def test_root_gives_its_rights_up(data_dir: Path) -> None:
    """Started by root, no server runs as root."""
    server = EmbeddedValkey(data_dir)
    server.start()
    try:
        assert psutil.Process(server.pid).uids().effective != 0
    finally:
        server.stop()
