"""The follower chains all that is recorded, whoever dies in between, and signs it in time."""

import asyncio
import http.server
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from command_bus.audit.chain import Interval
from command_bus.audit.exporting import CheckpointExporter, Command, Folder, Webhook
from command_bus.audit.follower import ChainFollower
from command_bus.audit.keys import BadKeyFileError, load_seed
from command_bus.audit.leading import Leading
from command_bus.ids import utc_now
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from domain.event import Recorded
from schema.audit.canonical import unpack
from schema.audit.checkpoints import decode_checkpoint, read_outside
from schema.audit.database import DatabaseSource
from tests.audit.chaining import EVERY, chain_all, connect, open_chain, verified
from tests.event_log.samples import created, metadata

PATIENCE_S = 60
OUT_OF_TURN = (
    "INSERT INTO fleetlog.events (notification_id, originator_id, originator_version, topic, state, actor,"
    " correlation_id) VALUES (1000, gen_random_uuid(), 1, 'x/1', '', 'x', gen_random_uuid())"
)


async def until(seen: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(seen):  # noqa: ASYNC110 - what is waited for lies in a database or a folder
            await asyncio.sleep(0.02)


def follower(url: str, *, events: int = EVERY, age: timedelta = timedelta(days=1)) -> ChainFollower:
    return ChainFollower(app_conninfo(url), Interval(events, age), utc_now, rest_s=0.02)


def position(url: str) -> int:
    with connect(url) as connection:
        (found,) = connection.execute(
            "SELECT coalesce(max(last_position), 0) FROM fleetlog.chain_pages"
        ).fetchone() or (0,)
    return int(found)


def kill_sessions(url: str, name: str) -> int:
    with psycopg.connect(url, autocommit=True) as owner:
        return owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database()",
            [name],
        ).rowcount


async def test_what_is_recorded_is_chained_once_whoever_leads(
    log: PostgresEventLog, events: list[Recorded], postgres_url: str
) -> None:
    """Two followers, the leader's connection cut: the other goes on, and the chain is that of the whole log."""
    conninfo = app_conninfo(postgres_url, name="audited")
    both = [ChainFollower(conninfo, Interval(EVERY), utc_now, rest_s=0.02) for _ in range(2)]
    for one in both:
        await one.start()
    try:
        await until(lambda: position(postgres_url) == events[-1].position)
        await until(lambda: sorted(one.state for one in both) == ["running", "standby"])
        assert kill_sessions(postgres_url, "audited") == 2
        head = (await log.append([created("after")], metadata()))[-1]
        await until(lambda: position(postgres_url) == head)
        assert [one.failure for one in both] == [None, None]
    finally:
        for one in both:
            await one.stop()
    assert [one.state for one in both] == ["stopped", "stopped"]
    with connect(postgres_url) as connection:
        report = verified(connection)
    assert (report.ok, report.position, report.unchained) == (True, head, 0)
    assert report.events == len(events) + 1
    assert report.checkpoints == report.events // EVERY


async def test_a_checkpoint_comes_in_time(log: PostgresEventLog, postgres_url: str) -> None:
    """A single event does not wait for others: when it is old enough it is signed, and nothing is signed twice."""
    head = (await log.append([created()], metadata()))[-1]
    one = follower(postgres_url, age=timedelta(milliseconds=50))
    await one.start()

    def report() -> Any:
        with connect(postgres_url) as connection:
            return verified(connection)

    try:
        await until(lambda: report().last_checkpoint == 1)
        await log.append([created("second")], metadata())
        await until(lambda: report().last_checkpoint == 2)
    finally:
        await one.stop()
    found = report()
    assert (found.ok, found.position, found.under_no_checkpoint) == (True, head + 1, 0)


@pytest.mark.usefixtures("events")
async def test_a_writer_that_begins_anew_goes_on_where_the_last_one_was(postgres_url: str) -> None:
    """The chain does not depend on who made it or how it was cut: resumed after each page, its head is the same."""
    with connect(postgres_url) as connection:
        whole = chain_all(connection, events=100_000).head
    with psycopg.connect(postgres_url, autocommit=True) as owner, owner.transaction():
        owner.execute("SET LOCAL session_replication_role TO replica")
        owner.execute("DELETE FROM fleetlog.chain_pages")
    with connect(postgres_url) as connection:
        while (chain := open_chain(connection, events=200)).extend():
            if chain.due():
                chain.seal()
        assert chain.head == whole
        assert chain.checkpoint > 5
        assert verified(connection).ok


def test_the_key_may_lie_in_a_file(postgres_url: str, tmp_path: Path) -> None:
    """It is made once, for its owner alone, in OpenSSL's form; and otherwise it lies in the database, one for all."""
    file = tmp_path / "keys" / "audit.pem"
    with connect(postgres_url) as connection:
        seeds = {load_seed(connection, None) for _ in range(2)}
        assert len(seeds) == 1
        made = load_seed(connection, file)
        assert made not in seeds
        assert load_seed(connection, file) == made
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"BEGIN PRIVATE KEY" in file.read_bytes()
        assert [one.name for one in file.parent.iterdir()] == ["audit.pem"]
        file.write_text("nothing of the kind")
        with pytest.raises(BadKeyFileError):
            load_seed(connection, file)


def test_the_application_appends_and_reads_and_nothing_else(postgres_url: str) -> None:
    """Its role may not change, remove or reorder events, choose a position, or undo what keeps it from that."""
    with connect(postgres_url) as app:
        app.execute(
            "SELECT fleetlog.append_events(ARRAY[ROW(gen_random_uuid(), 1, NULL, NULL, 'ClientCreated/1', '{}',"
            " 'system', gen_random_uuid(), NULL)::fleetlog.new_event])"
        )
        chain_all(app, events=1)
        assert verified(app).checkpoints == 1
        app.execute("GRANT UPDATE, DELETE ON fleetlog.events TO fleetlog_app")  # a warning, and no right
        for statement in (
            "UPDATE fleetlog.events SET actor = 'nobody'",
            "UPDATE fleetlog.events SET notification_id = notification_id + 1",
            "DELETE FROM fleetlog.events",
            "TRUNCATE fleetlog.events",
            OUT_OF_TURN,
            "SELECT setval('fleetlog.events_notification_id_seq', 1)",
            "ALTER TABLE fleetlog.events DISABLE TRIGGER ALL",
            "ALTER TABLE fleetlog.events RENAME TO other",
            "DROP TABLE fleetlog.events",
            "DROP TRIGGER append_only ON fleetlog.events",
            "CREATE TRIGGER mine BEFORE INSERT ON fleetlog.events EXECUTE FUNCTION fleetlog.before_events()",
            "CREATE RULE mine AS ON INSERT TO fleetlog.events DO INSTEAD NOTHING",
            "CREATE OR REPLACE FUNCTION fleetlog.refuse_change() RETURNS trigger LANGUAGE sql AS ''",
            "SET session_replication_role TO replica",
            *(
                f"{change} fleetlog.{table}{rest}"
                for table in ("chain_pages", "chain_checkpoints", "chain_signatures", "chain_exports", "chain_key")
                for change, rest in (("DELETE FROM", ""), ("TRUNCATE", " CASCADE"))
            ),
            "UPDATE fleetlog.chain_pages SET head = sha256('')",
            "UPDATE fleetlog.chain_checkpoints SET statement = ''",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidFunctionDefinition)):
                app.execute(statement.encode())
        assert verified(app).ok


class _Inbox(http.server.BaseHTTPRequestHandler):
    received: list[bytes]
    answers: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.answers.pop(0) if self.answers else 204
        if status < 300:
            self.received.append(body)
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def inbox() -> Iterator[tuple[str, type[_Inbox]]]:
    handler = type("Inbox", (_Inbox,), {"received": [], "answers": [500, 302]})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/checkpoints", handler
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("events")
async def test_checkpoints_leave_the_database(
    postgres_url: str, tmp_path: Path, inbox: tuple[str, type[_Inbox]]
) -> None:
    """Folder, webhook and command each get every checkpoint in order; what fails is tried again and holds nobody up."""
    url, handler = inbox
    folder, store = tmp_path / "kept", tmp_path / "store"
    store.mkdir()
    script = f'test -e {store}/open || exit 3; cat > {store}/$(basename "$1")'
    with connect(postgres_url) as connection:
        chain = chain_all(connection)
    now = [0.0]
    exporter = CheckpointExporter(
        app_conninfo(postgres_url),
        [Folder(folder), Webhook(url), Command(["sh", "-c", script, "store"])],
        look_s=0.02,
        monotonic=lambda: now[0],
    )
    await exporter.start()
    try:
        await until(lambda: len(list(folder.glob("*.json"))) == chain.checkpoint)
        assert handler.received == []
        assert list(store.iterdir()) == []
        (store / "open").touch()

        def all_there() -> bool:
            now[0] += 60
            return len(handler.received) == chain.checkpoint == len(list(store.glob("*.json")))

        await until(all_there)
    finally:
        await exporter.stop()
    files = sorted(folder.glob("*.json"))
    assert [file.read_bytes() for file in files] == handler.received
    assert [file.read_bytes() for file in sorted(store.glob("*.json"))] == handler.received
    assert [decode_checkpoint(data).verify().number for data in handler.received] == list(range(1, len(files) + 1))
    with connect(postgres_url) as connection:
        report = verified(connection, read_outside(folder))
        assert (report.ok, report.outside) == (True, len(files))
        with connection.cursor(binary=True) as cursor:
            pages = list(DatabaseSource(cursor).pages(0))
    leaves = b"".join(file.with_suffix(".leaves").read_bytes() for file in files)
    assert unpack(leaves) == unpack(b"".join(page.entries for page in pages))[: len(files) * EVERY]


class _Broken(Leading):
    def lead(self, connection: psycopg.Connection[Any]) -> None:
        del connection
        raise ZeroDivisionError

    def step(self, connection: psycopg.Connection[Any]) -> float:
        del connection
        return 1


async def test_a_fault_of_the_program_ends_its_role(postgres_url: str) -> None:
    """What nobody foresaw is not waited out: whoever watches hears of it."""
    broken = _Broken(app_conninfo(postgres_url), "broken", 1)
    await broken.start()
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(PATIENCE_S):
            await broken.wait()
    await broken.stop()
