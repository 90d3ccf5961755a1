"""Group commit and inline folds: what calls share and what they do not."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest

from command_bus import group_commit
from command_bus.event_log import EventLogError, LogUnavailableError
from command_bus.ids import new_id
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import CHUNK_EVENTS, PostgresEventLog
from domain.clients import ClientCreated
from domain.event import Change, Recorded
from tests.event_log.samples import created, metadata, queued


class Counting:
    """Writes what it is told into a table, and refuses one name."""

    def __init__(self) -> None:
        self.groups: list[int] = []

    live_tables = ("seen",)

    def parts(self, numbered: Sequence[Recorded]) -> None:
        """Never in one statement: it is `apply` that is looked at here."""

    def apply(self, cursor: psycopg.Cursor[Any], recorded: Sequence[Recorded]) -> None:
        self.groups.append(len(recorded))
        if any(isinstance(one.event, ClientCreated) and one.event.name == "poison" for one in recorded):
            raise ValueError("will not fold this")
        cursor.executemany(
            "INSERT INTO read.seen VALUES (%s, %s, %s)",
            [(one.position, one.originator_id, one.recorded_at) for one in recorded],
        )


async def seen(url: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(app_conninfo(url)) as conn:
        return await (await conn.execute("SELECT * FROM read.seen ORDER BY position")).fetchall()


@pytest.fixture
async def folding(postgres_url: str) -> Any:
    with psycopg.connect(app_conninfo(postgres_url)) as conn:
        conn.execute("CREATE TABLE read.seen (position bigint PRIMARY KEY, stream uuid, at timestamptz)")
    fold = Counting()
    log = PostgresEventLog(postgres_url, inline=[fold], name="folding", timeout_s=20)
    await log.start()
    yield log, fold
    await log.stop()


async def test_inline_folds_see_what_readers_see(folding: Any, postgres_url: str) -> None:
    """A fold in the transaction is told the positions and times that are recorded, for groups and for bulk."""
    log, _ = folding
    await asyncio.gather(*(log.append([created(), created()], metadata()) for _ in range(20)))
    await log.append_bulk((queued(new_id(), new_id()) for _ in range(4_500)), metadata())
    recorded = await log.read(limit=10_000)
    assert len(recorded) == 4_540
    assert await seen(postgres_url) == [(one.position, one.originator_id, one.recorded_at) for one in recorded]


async def test_a_fold_that_fails_takes_only_its_own_call_with_it(folding: Any, postgres_url: str) -> None:
    """An event that cannot be folded is not recorded; the calls of the same group are."""
    log, _ = folding
    calls = [log.append([created("poison" if number == 7 else "fine")], metadata()) for number in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [type(error) for error in errors] == [EventLogError]
    assert "will not fold this" in str(errors[0])
    assert len(await log.read()) == len(await seen(postgres_url)) == 19


async def test_concurrent_appends_share_transactions(folding: Any) -> None:
    """Sixty-four callers need far fewer commits than they have events."""
    log, fold = folding

    async def caller() -> None:
        for _ in range(10):
            await log.append([created()], metadata())

    await asyncio.gather(*(caller() for _ in range(64)))
    assert sum(fold.groups) == 640
    assert len(fold.groups) < 100


async def test_one_metadata_each(log: PostgresEventLog) -> None:
    """Calls that share a commit keep their own actors and correlations."""
    metas = [metadata(f"key:{number}") for number in range(30)]
    positions = await asyncio.gather(*(log.append([created()], meta) for meta in metas))
    recorded = {one.position: one for one in await log.read()}
    for [position], meta in zip(positions, metas, strict=True):
        assert (recorded[position].actor, recorded[position].correlation_id) == (meta.actor, meta.correlation_id)


async def test_too_many_waiting_appends_hold_up_the_next(
    log: PostgresEventLog, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue of waiting appends has a bound; callers beyond it wait, and are all served in the end."""
    monkeypatch.setattr(group_commit, "MAX_WAITING_EVENTS", 5)
    groups = log._groups
    assert groups is not None
    async with await psycopg.AsyncConnection.connect(app_conninfo(postgres_url)) as holder:
        await holder.execute("SELECT fleetlog.lock_events()")
        calls = [asyncio.create_task(log.append([created()], metadata())) for _ in range(40)]
        done, _ = await asyncio.wait(calls, timeout=0.2)
        assert not done
        assert groups._waiting_events <= 5
        await holder.rollback()
        async with asyncio.timeout(10):
            await asyncio.gather(*calls)
    assert len(await log.read()) == 40


async def test_a_cancelled_caller_does_not_disturb_the_others(log: PostgresEventLog) -> None:
    """Who gives up waiting leaves the group's other callers their answers."""
    calls = [asyncio.create_task(log.append([created()], metadata())) for _ in range(10)]
    await asyncio.sleep(0)
    calls[3].cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 9


async def test_stopping_commits_what_waits(postgres_url: str) -> None:
    """Appends that were taken are recorded before a stop returns; later ones are refused."""
    log = PostgresEventLog(postgres_url, name="stopping")
    await log.start()
    calls = [asyncio.create_task(log.append([created()], metadata())) for _ in range(10)]
    await asyncio.sleep(0)
    await log.stop()
    assert sorted(position for [position] in await asyncio.gather(*calls)) == list(range(1, 11))
    with pytest.raises(LogUnavailableError):
        await log.append([created()], metadata())


async def test_changes_that_fail_on_the_way_leave_whole_chunks(log: PostgresEventLog) -> None:
    """An error in drawing the changes reaches the caller; whole chunks before it stay, and the log goes on."""

    def failing() -> Iterator[Change]:
        for number in range(9_100):
            yield created(str(number))
        raise LookupError("no more agents")

    with pytest.raises(LookupError, match="no more agents"):
        await log.append_bulk(failing(), metadata())
    assert len(await log.read(limit=10_000)) == 9_100 // CHUNK_EVENTS * CHUNK_EVENTS
    assert await log.append_bulk([created()], metadata()) == await log.head()
