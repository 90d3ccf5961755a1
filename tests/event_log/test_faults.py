"""The database goes away, connections break, locks are held: accepted means recorded, and refused means not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from command_bus.committer import Committer
from command_bus.event_log import LogUnavailableError, OutcomeUnknownError, Part, Selection
from command_bus.ids import new_id
from command_bus.migrate import migrate
from command_bus.postgres import app_conninfo, make_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.recorder import Appended, Fold, LogRecorder
from domain.event import Recorded
from gateways.local.servers import EmbeddedPostgres
from tests.event_log.samples import created, metadata, queued
from tests.event_log.trouble import cut_connections


async def wait_for_connection(url: str, name: str) -> None:
    found: object = None
    async with asyncio.timeout(10), await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        while found is None:
            await asyncio.sleep(0.02)
            rows = await conn.execute(
                "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE %s AND datname = current_database()"
                " AND state = 'idle'",
                [name],
            )
            found = await rows.fetchone()


async def grown(told: list[int], goal: int) -> None:
    while len(told) < goal:  # noqa: ASYNC110 - nobody signals how far the callers are
        await asyncio.sleep(0.01)


@pytest.fixture
async def own_server(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server that a test may stop."""
    server = EmbeddedPostgres(data_dir)
    server.start()
    migrate(server.owner_url)
    yield server
    server.stop()


async def test_appends_and_followers_outlive_a_restart(own_server: EmbeddedPostgres) -> None:
    """Appends under way during a restart of Postgres wait and are each recorded once; a follower goes on."""
    log = PostgresEventLog(own_server.url, name="restart", timeout_s=30)
    await log.start()
    told: list[int] = []
    ended = asyncio.Event()

    async def caller() -> None:
        while not ended.is_set():
            told.extend(await log.append([created()], metadata()))

    async def follow(upto: asyncio.Future[int]) -> list[Recorded]:
        seen: list[Recorded] = []
        async for page in log.follow(0):
            seen += page
            if upto.done() and seen and seen[-1].position >= upto.result():
                break
        return seen

    async with asyncio.timeout(50):
        upto: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        following = asyncio.create_task(follow(upto))
        callers = [asyncio.create_task(caller()) for _ in range(16)]
        await grown(told, 200)
        await asyncio.to_thread(own_server.stop)
        before = len(told)
        own_server.start()
        await grown(told, before + 200)
        ended.set()
        await asyncio.gather(*callers)
        upto.set_result(await log.head())
        seen = await following
    assert sorted(told) == [one.position for one in seen]
    assert len(set(told)) == len(told)
    await log.stop()


async def test_a_database_that_stays_away_is_said_so(own_server: EmbeddedPostgres) -> None:
    """An append that cannot reach the database in its time raises, and has recorded nothing; reads raise too."""
    log = PostgresEventLog(own_server.url, name="away", timeout_s=1)
    await log.start()
    change = created()
    await asyncio.to_thread(own_server.stop)
    for attempt in (log.append([change], metadata()), log.append_bulk([change], metadata()), log.head()):
        with pytest.raises(LogUnavailableError):
            await attempt
    own_server.start()
    position = 0
    async with asyncio.timeout(20):
        while True:
            try:
                position = position or (await log.append([change], metadata()))[0]
                assert await log.head() == position
            except LogUnavailableError:
                continue
            break
    await log.stop()


async def test_starting_waits_for_the_database(own_server: EmbeddedPostgres) -> None:
    """A role that starts before Postgres does waits for it."""
    await asyncio.to_thread(own_server.stop)
    log = PostgresEventLog(own_server.url, name="early")
    starting = asyncio.create_task(log.start())
    done, _ = await asyncio.wait([starting], timeout=0.3)
    assert not done
    own_server.start()
    async with asyncio.timeout(20):
        await starting
    assert await log.append([created()], metadata()) == [await log.head()]
    await log.stop()


async def test_a_dropped_listen_connection_ends_no_follower(log: PostgresEventLog, postgres_url: str) -> None:
    """Without its LISTEN connection a follower still sees what is appended, and listens again."""
    follower = log.follow(0)
    assert await anext(follower) == []
    await wait_for_connection(postgres_url, "%-listen")
    assert await cut_connections(postgres_url, "%-listen") == 1
    other = PostgresEventLog(postgres_url, name="other")
    await other.start()
    await other.append([created()], metadata())
    async with asyncio.timeout(5):
        assert len(await anext(follower)) == 1
    await wait_for_connection(postgres_url, "%-listen")
    await other.stop()


async def test_a_wake_up_missed_at_the_start_is_made_up_for(log: PostgresEventLog, postgres_url: str) -> None:
    """What is appended between a follower's first look and its LISTEN is seen within the poll."""
    with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as conn:
        follower = log.follow(0)
        first = asyncio.ensure_future(anext(follower))
        await asyncio.sleep(0)  # it has begun, and its connection for LISTEN is not made yet
        conn.execute(
            "INSERT INTO fleetlog.events (originator_id, originator_version, correlation_id, actor, topic, state) "
            "SELECT gen_random_uuid(), 1, gen_random_uuid(), 'x', 'ClientCreated/1', '{\"name\":\"x\"}'"
        )
    async with asyncio.timeout(3):
        page = await first
        while not page:
            page = await anext(follower)
    assert len(page) == 1


async def test_a_held_lock_is_waited_for_and_not_for_ever(postgres_url: str) -> None:
    """While somebody holds the log's lock appends wait; past their time they raise, having recorded nothing."""
    patient = PostgresEventLog(postgres_url, name="patient", timeout_s=30)
    hasty = PostgresEventLog(postgres_url, name="hasty", timeout_s=1)
    await patient.start()
    await hasty.start()
    async with await psycopg.AsyncConnection.connect(app_conninfo(postgres_url)) as holder:
        await holder.execute("SELECT fleetlog.lock_events()")
        waiting = asyncio.create_task(patient.append([created()], metadata()))
        async with asyncio.timeout(15):
            with pytest.raises(LogUnavailableError, match="lock timeout"):
                await hasty.append([created()], metadata())
        assert not waiting.done()
        await holder.rollback()
        async with asyncio.timeout(10):
            await waiting
    assert len(await patient.read()) == 1
    await patient.stop()
    await hasty.stop()


async def test_big_bulk_appends_do_not_hang(log: PostgresEventLog) -> None:
    """Bulk appends and groups of thousands of events of several hundred bytes end, and let go of the lock."""
    async with asyncio.timeout(30):
        changes = [queued(new_id(), new_id(), line="x" * 300) for _ in range(10_000)]
        await log.append_bulk(changes[:5_000], metadata())
        await log.append(changes[5_000:], metadata())
        await log.append([created()], metadata())
    assert len(await log.read(Selection(types=("CommandQueued",)), limit=20_000)) == 10_000


class LosesAnswers(LogRecorder):
    """Commits, and then loses the connection before the answer arrives."""

    lost = 0
    always = False

    def append_rows(self, rows: Sequence[bytes], fold: Fold | None = None, parts: Sequence[Part] = ()) -> Appended:
        appended = super().append_rows(rows, fold, parts)
        if self.always or not self.lost:
            self.lost += 1
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return appended


def lose_answers(log: PostgresEventLog, **attributes: Any) -> LosesAnswers:
    committer = log._committer
    assert isinstance(committer, Committer)
    assert log._datastore is not None
    committer._recorder = recorder = LosesAnswers(log._datastore)
    for name, value in attributes.items():
        setattr(recorder, name, value)
    return recorder


async def test_a_lost_answer_is_found_out(log: PostgresEventLog) -> None:
    """When the connection breaks after the commit, the append finds that it had succeeded and records nothing more."""
    recorder = lose_answers(log)
    changes = [created(), created()]
    positions = await log.append(changes, metadata())
    assert recorder.lost == 1
    assert [one.position for one in await log.read()] == positions


async def test_a_lost_answer_is_not_mistaken_for_somebody_elses_event(log: PostgresEventLog) -> None:
    """The same body at the same place by another caller is a conflict, also after a lost answer of one's own."""
    stream_id = new_id()
    lose_answers(log)
    first, second = await asyncio.gather(
        log.append([created(stream_id=stream_id)], metadata()),
        log.append([created(stream_id=stream_id)], metadata()),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in (first, second)) == ["ConflictError", "list"]
    assert len(await log.read()) == 1


async def test_an_outcome_that_cannot_be_found_out_is_said_to_be_unknown(postgres_url: str) -> None:
    """Where answers are lost until the time is up, the caller is told that nobody knows."""
    log = PostgresEventLog(postgres_url, name="unknown", timeout_s=0)
    await log.start()
    lose_answers(log, always=True)
    with pytest.raises(OutcomeUnknownError):
        await log.append([created()], metadata())
    await log.stop()


async def test_who_waits_for_a_connection_gets_one_when_the_server_is_back(
    own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool goes on trying for those who wait in it, also after it has given up on the server once."""
    monkeypatch.setattr("command_bus.postgres.RECONNECT_TIMEOUT_S", 0.2)
    own_server.stop()
    pool = make_pool(own_server.url, max_size=2)
    await pool.open(wait=False)

    async def ask() -> object:
        async with pool.connection(timeout=60) as conn:
            return await (await conn.execute("SELECT 1")).fetchone()

    try:
        asking = asyncio.create_task(ask())
        async with asyncio.timeout(20):
            while pool.get_stats().get("connections_errors", 0) < 5:  # noqa: ASYNC110 - the pool tells nobody
                await asyncio.sleep(0.02)
        own_server.start()
        async with asyncio.timeout(20):
            assert await asking == (1,)
    finally:
        await pool.close()
