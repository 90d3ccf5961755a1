"""What is archived has left the log's table, and nobody who reads, decides or rebuilds can tell the difference."""

import asyncio
import itertools
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from command_bus.archiving import ArchiveBusyError, archive, verify, verify_folder
from command_bus.event_log import ConflictError, EventLogError, Selection
from command_bus.ids import new_id
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load
from domain.agents import AgentEnrolled
from domain.clients import ClientCreated
from domain.codec import TOPICS
from domain.commands import Command, CommandQueued, CommandState, Result
from domain.event import Change, Recorded
from domain.host_acts import SegmentArchived
from projections import catalog
from projections.rebuild import rebuild
from projections.verify import verify as verify_projection
from schema import archived
from schema.archive import ArchiveDamagedError, make_segment, unpack
from tests.archive.conftest import all_of
from tests.event_log.samples import created, metadata

NOW = timedelta(0)
STEPS = ("picked", "written", "verified", "removed", "moved")


def in_table(url: str) -> int:
    with psycopg.connect(url) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM fleetlog.events WHERE topic <> 'SegmentArchived/1'"
        ).fetchone() or (0,)
    return int(count)


def run(url: str, folder: Path | None = None, *, streams: int = 40) -> int:
    """Archive all that has ended; returns how many events that were."""
    return archive(url, NOW, folder, segment_streams=streams).events


def segment_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


@pytest.fixture(params=["database", "files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where contents go."""
    return tmp_path / "archive" if request.param == "files" else None


def ended(events: list[Recorded]) -> list[Recorded]:
    """The last events of commands that have ended."""
    return [one for one in events if type(one.event).__name__ in ("CommandSucceeded", "CommandFailed")]


def selections(events: list[Recorded]) -> list[Selection]:
    """One of each kind, for things that there are."""
    one = random.Random(7).choice(ended(events))
    half = events[len(events) // 2]
    return [
        Selection(),
        Selection(agent_id=one.agent_id),
        Selection(stream_id=one.originator_id),
        Selection(client_ids=(one.client_id,) if one.client_id else ()),
        Selection(types=("CommandSucceeded", "AgentEnrolled")),
        Selection(actor=one.actor, types=("CommandFailed",)),
        Selection(correlation_id=one.correlation_id),
        Selection(agent_id=one.agent_id, types=("CommandDelivered",)),
        Selection(since=half.recorded_at),
        Selection(until=half.recorded_at),
        Selection(correlation_id=new_id()),
    ]


async def backwards(log: PostgresEventLog, selection: Selection, limit: int) -> list[Recorded]:
    found: list[Recorded] = []
    while page := await log.read(selection, after=found[-1].position if found else 0, limit=limit, backwards=True):
        found += page
    return [one for one in found[::-1] if not isinstance(one.event, SegmentArchived)]


async def test_every_read_gives_what_it_gave_before(
    log: PostgresEventLog, before: list[Recorded], postgres_url: str, folder: Path | None
) -> None:
    """Pages of any selection, either way, streams and their heads are the same, though most events have moved."""
    asked = selections(before)
    expected = [await all_of(log, selection) for selection in asked]
    ids = list(dict.fromkeys(one.originator_id for one in before))
    streams, heads = await log.read_streams(ids), await log.read_heads(ids)
    moved = run(postgres_url, folder)
    assert moved > len(before) // 2
    assert in_table(postgres_url) == len(before) - moved
    assert folder is None or len(segment_files(folder)) > 3
    for selection, wanted in zip(asked, expected, strict=True):
        for limit in (37, 1_000):
            assert await all_of(log, selection, limit=limit) == wanted, selection
            assert await backwards(log, selection, limit) == wanted, selection
    assert await log.read_streams(ids) == streams
    assert await log.read_heads(ids) == heads
    acts = await log.read(Selection(types=("SegmentArchived",)))
    assert sum(one.event.events for one in acts if isinstance(one.event, SegmentArchived)) == moved
    assert await log.head() == acts[-1].position
    middle = before[len(before) // 2].position
    assert await log.read(after=middle, upto=middle + 50) == [
        one for one in before if middle < one.position <= middle + 50
    ]


@pytest.mark.usefixtures("before")
async def test_projections_are_rebuilt_from_archive_and_table(postgres_url: str, folder: Path | None) -> None:
    """A rebuild gives the rows that it gave before, and comparing them with the whole log finds nothing."""
    conninfo = app_conninfo(postgres_url)
    for name in catalog.names():
        await asyncio.to_thread(rebuild, conninfo, name)
    run(postgres_url, folder)
    for name in catalog.names():
        assert verify_projection(conninfo, name).ok, name
        await asyncio.to_thread(rebuild, conninfo, name)
        found = verify_projection(conninfo, name)
        assert found.ok, found.differences


async def test_a_reader_on_its_way_misses_nothing_and_sees_nothing_twice(
    log: PostgresEventLog, before: list[Recorded], postgres_url: str
) -> None:
    """While events move, and others are appended, pages put together are each event once, in order."""
    moving = asyncio.create_task(asyncio.to_thread(run, postgres_url, streams=10))
    rounds = 0
    while not moving.done() or rounds == 0:
        await log.append([created()], metadata())
        found = await all_of(log, limit=61)
        assert [one.position for one in found[: len(before)]] == [one.position for one in before]
        assert found[: len(before)] == before
        rounds += 1
    assert await moving > 0


async def test_a_follower_that_begins_at_the_beginning_gets_the_archive_first(
    log: PostgresEventLog, before: list[Recorded], postgres_url: str
) -> None:
    """Following from position 0 is a replay of everything."""
    run(postgres_url)
    found: list[Recorded] = []
    async with asyncio.timeout(20):
        async for page in log.follow(0, page=100):
            found += page
            if found and found[-1].position >= before[-1].position:
                break
    assert found == before


@pytest.mark.parametrize("where", ["database", "files"])
async def test_killed_at_any_step_it_leaves_each_event_once(
    log: PostgresEventLog, before: list[Recorded], postgres_url: str, tmp_path: Path, where: str
) -> None:
    """After each kill every event can be read, once; the next run goes on, and the chain holds."""
    folder = str(tmp_path / "archive") if where == "files" else ""
    for step in STEPS:
        command = [sys.executable, "-m", "tests.archive.killed", postgres_url, step, folder]
        killed = await asyncio.to_thread(subprocess.run, command, check=False, timeout=60)
        assert killed.returncode == -signal.SIGKILL, step
        assert await all_of(log) == before, step
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            assert verify(connection).events == len(before) - in_table(postgres_url)
    run(postgres_url, Path(folder) if folder else None)
    assert await all_of(log) == before
    if folder:
        with psycopg.connect(postgres_url) as connection:
            assert verify_folder(Path(folder))[0] == verify(connection)


async def test_a_place_in_an_archived_stream_stays_taken(
    log: PostgresEventLog, before: list[Recorded], postgres_url: str
) -> None:
    """An id that was used cannot be used again, by whichever way an event comes; the stream itself may go on."""
    last = next(one for one in ended(before))
    first = (await log.read_streams([last.originator_id]))[last.originator_id][0]
    run(postgres_url)
    again = Change(first.originator_id, 1, first.event, first.agent_id, first.client_id)
    with pytest.raises(ConflictError):
        await log.append([again], metadata())
    with pytest.raises(ConflictError):
        await log.append_bulk([again], metadata())
    [refused, accepted] = await log.append_each([([again], metadata()), ([created()], metadata())])
    assert isinstance(refused, ConflictError)
    assert isinstance(accepted, list)


async def test_what_comes_late_joins_its_stream_and_follows_it(
    log: PostgresEventLog, before: list[Recorded], postgres_url: str
) -> None:
    """A late result of an archived command is decided from its whole story, and archived by the next run."""
    run(postgres_url)
    cancelled = next(one for one in before if type(one.event).__name__ == "CommandCancelled")
    command = await load(log, Command, cancelled.originator_id)
    assert command.state is CommandState.CANCELLED
    late = command.finish(1, CommandState.SUCCEEDED, Result(exit_code=0), at=cancelled.recorded_at, gateway="g")
    await log.append([*late, created()], metadata())
    assert len((await log.read_streams([command.stream_id]))[command.stream_id]) == command.version
    assert run(postgres_url) == 1
    story = (await log.read_streams([command.stream_id]))[command.stream_id]
    assert [one.originator_version for one in story] == list(range(1, command.version + 1))
    assert (await log.read_heads([command.stream_id]))[command.stream_id] == story[-1]


@pytest.mark.usefixtures("before")
async def test_what_is_open_or_young_stays(postgres_url: str) -> None:
    """Nothing moves that ended within the time; agents, scripts and open commands never move; nor the last event."""
    assert archive(postgres_url, timedelta(days=1)).events == 0
    run(postgres_url)
    with psycopg.connect(app_conninfo(postgres_url)) as connection:
        topics = {topic for (topic,) in connection.execute("SELECT DISTINCT topic FROM fleetlog.events")}
        stayed = dict(
            connection.execute(
                "SELECT command_id, count(notification_id) FROM pending LEFT JOIN fleetlog.events"
                " ON originator_id = command_id GROUP BY 1"
            ).fetchall()
        )
    assert {TOPICS[one] for one in (AgentEnrolled, ClientCreated, CommandQueued)} <= topics
    assert stayed
    assert all(stayed.values())
    assert run(postgres_url) == 0


@pytest.mark.usefixtures("before")
async def test_only_what_is_archived_can_be_deleted(postgres_url: str) -> None:
    """Not even the owner takes an event out of the log that is in no segment, or changes what is in one."""
    run(postgres_url, streams=40)
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        for statement in (
            "DELETE FROM fleetlog.events",
            "DELETE FROM fleetlog.events WHERE notification_id = (SELECT max(notification_id) FROM fleetlog.events)",
            "UPDATE fleetlog.archive_segments SET events = 0",
            "DELETE FROM fleetlog.archive_blocks",
            "DELETE FROM fleetlog.archive_streams",
            "TRUNCATE fleetlog.archive_segments CASCADE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                owner.execute(statement.encode())
    with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as app:
        for statement in (
            "DELETE FROM fleetlog.events",
            "INSERT INTO fleetlog.archive_streams VALUES (gen_random_uuid(), 1, NULL, 1, 1, 1)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                app.execute(statement.encode())


@pytest.mark.usefixtures("before")
async def test_one_run_at_a_time(postgres_url: str) -> None:
    """A second run is refused while one is under way, and does nothing."""
    seen: list[str] = []

    def step(done: str) -> None:
        if done == "verified" and not seen:
            with pytest.raises(ArchiveBusyError):
                run(postgres_url)
            seen.append(done)

    archive(postgres_url, NOW, segment_streams=40, step=step)
    assert seen


def damage(url: str, folder: Path | None) -> None:
    """Change one byte of the second segment's content, as a disk might."""
    if folder is not None:
        file = segment_files(folder)[1]
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role TO replica")
        connection.execute(
            "UPDATE fleetlog.archive_blocks SET data = set_byte(data, 30, get_byte(data, 30) # 1) WHERE segment = 2"
        )


@pytest.mark.usefixtures("before")
async def test_damage_is_found_and_never_read_as_history(
    log: PostgresEventLog, postgres_url: str, folder: Path | None
) -> None:
    """One changed byte fails the verification and every read that would have met it."""
    run(postgres_url, folder)
    damage(postgres_url, folder)
    with psycopg.connect(postgres_url, autocommit=True) as connection, pytest.raises(ArchiveDamagedError):
        verify(connection)
    with pytest.raises(EventLogError, match="archive"):
        await all_of(log)


@pytest.mark.usefixtures("before")
async def test_a_folder_proves_itself(postgres_url: str, tmp_path: Path) -> None:
    """A copy of the files alone shows whether all are there, and as they were written."""
    run(postgres_url, tmp_path)
    with psycopg.connect(postgres_url) as connection:
        (last,) = connection.execute(
            "SELECT encode(manifest_sha256, 'hex') FROM fleetlog.archive_segments ORDER BY number DESC LIMIT 1"
        ).fetchone() or ("",)
    assert verify_folder(tmp_path)[1] == last
    second = segment_files(tmp_path)[1].with_suffix(".json")
    text = second.read_text()
    second.unlink()
    with pytest.raises(ArchiveDamagedError, match="missing"):
        verify_folder(tmp_path)
    second.write_text(text)
    damage(postgres_url, tmp_path)
    with pytest.raises(ArchiveDamagedError):
        verify_folder(tmp_path)


@pytest.mark.usefixtures("before")
async def test_a_segment_put_in_the_place_of_another_is_found(postgres_url: str) -> None:
    """The manifests are a chain: one that was exchanged does not follow the one before it."""
    run(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role TO replica")
        connection.execute(
            "UPDATE fleetlog.archive_segments SET manifest = b.manifest, manifest_sha256 = sha256('x')"
            " FROM fleetlog.archive_segments AS b WHERE archive_segments.number = 2 AND b.number = 3"
        )
        connection.execute("SET session_replication_role TO origin")
        with pytest.raises(ArchiveDamagedError):
            verify(connection)


def explained(connection: psycopg.Connection[Any], statement: str, values: dict[str, Any]) -> str:
    return "\n".join(line for (line,) in connection.execute(f"EXPLAIN {statement}".encode(), values))


def test_no_read_of_the_archive_scans_it(postgres_url: str) -> None:
    """Each statement finds its blocks by an index, in an archive of many segments."""
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO fleetlog.archive_segments SELECT n, n * 1000, n * 1000 + 2500, 1000, 250, 1, 1, '',"
            " sha256(n::text::bytea), NULL FROM generate_series(1, 2000) AS n"
        )
        owner.execute(
            "INSERT INTO fleetlog.archive_blocks"
            " SELECT n, b, n * 1000 + b * 100, n * 1000 + b * 100 + 150, '', 0, 1, ''"
            " FROM generate_series(1, 2000) AS n, generate_series(0, 9) AS b"
        )
        owner.execute(
            "INSERT INTO fleetlog.archive_streams SELECT gen_random_uuid(), 4, md5('a' || n % 500)::uuid,"
            " n / 10 + 1, n * 100, n * 100 + 50 FROM generate_series(0, 19999) AS n"
        )
        owner.execute("ANALYZE fleetlog.archive_segments, fleetlog.archive_blocks, fleetlog.archive_streams")
    values = {"low": 900_000, "high": 905_000, "window": 16, "agent_id": new_id(), "ids": [new_id()]}
    values |= {"segments": [3], "blocks": [1], "archived_after": 1_990_000}
    statements = [
        archived._OF_WINDOW,
        archived._BLOCKS_OF_STREAMS,
        archived._BLOCKS_OF_AGENT,
        archived._DATA,
        archived._ANY,
        archived._OF_STREAMS,
        *archived._EDGE.values(),
    ]
    with psycopg.connect(app_conninfo(postgres_url)) as connection:
        for statement in statements:
            plan = explained(connection, statement, values)
            assert "Seq Scan on archive_blocks" not in plan, plan
            assert "Seq Scan on archive_streams" not in plan, plan
            assert "Index" in plan, plan


def test_blocks_hold_any_event() -> None:
    """A block gives back what was packed: no ids, no times in a row, bodies of any bytes, names of any script."""
    ids = [new_id() for _ in range(3)]
    rows = [
        (number * 7 + 1, ids[number % 3], number + 1, f"Ä/{number % 4}", bytes([number % 256]) * (number % 5),
         datetime(1969, 12, 31, 23, 59, 59, number, tzinfo=UTC), "ключ:1", ids[0], next(others), None, ids[2])
        for number, others in zip(range(2_500), itertools.repeat(itertools.cycle([None, *ids])), strict=False)
    ]  # fmt: skip
    manifest, parts = make_segment(1, "0" * 64, rows)
    assert [block.events for block in manifest.blocks] == [1_000, 1_000, 500]
    unpacked = [unpack(part, block.sha256) for part, block in zip(parts, manifest.blocks, strict=True)]
    assert list(itertools.chain.from_iterable(unpacked)) == rows
