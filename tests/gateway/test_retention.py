"""Whole outputs go when policy says so; what is left says so, and what comes again is kept again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from pydantic import SecretStr

from command_bus.event_log import LogUnavailableError, Selection
from command_bus.ids import new_id, utc_now
from command_bus.postgres import AsyncPool, open_pool
from command_bus.postgres_log import PostgresEventLog
from domain.event import Change, Metadata
from domain.retention import RETENTION_STREAM, Kept, OutputsRemoved, Terms
from gateways.agents import retention
from gateways.agents.outputs import OutputRemovedError, OutputStore, scrub_output, some_outputs
from gateways.agents.retention import Removed, remove_beyond, remove_old
from gateways.local.jobs import all_jobs
from gateways.settings import Settings
from schema import wire
from tests.gateway.test_outputs import AGENT, chunks, content, digest, inline

RAWS = [f"output {number}\n".encode() * 9 for number in range(7)]


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[AsyncPool]:
    pool = await open_pool(postgres_url, name="test")
    yield pool
    await pool.close()


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[PostgresEventLog]:
    log = PostgresEventLog(postgres_url, name="test")
    await log.start()
    yield log
    await log.stop()


@pytest.fixture
async def store(pool: AsyncPool) -> OutputStore:
    """Seven outputs, named from seven days ago to one."""
    store = OutputStore(pool)
    await store.put_inline([inline(raw) for raw in RAWS])
    for age, raw in zip(range(7, 0, -1), RAWS, strict=True):
        await named(pool, raw, timedelta(days=age))
    return store


async def named(pool: AsyncPool, raw: bytes, ago: timedelta) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE fleetlog.outputs SET named_at = now() - %s WHERE sha256 = %s", [ago, bytes.fromhex(digest(raw))]
        )


async def sweeps(log: PostgresEventLog) -> list[OutputsRemoved]:
    """What the log says was removed."""
    found = [one.event for one in await log.read(Selection(types=("OutputsRemoved",)))]
    assert all(isinstance(one, OutputsRemoved) for one in found)
    return found  # type: ignore[return-value]


async def untold(pool: AsyncPool) -> int:
    async with pool.connection() as connection:
        row = await (await connection.execute("SELECT count(*) FROM fleetlog.output_sweeps")).fetchone()
        assert row is not None
        return int(row[0])


class Away(PostgresEventLog):
    """A log that is away when it is to be written to."""

    async def append(self, changes: Sequence[Change], metadata: Metadata) -> list[int]:
        del changes, metadata
        raise LogUnavailableError


async def kept(pool: AsyncPool) -> set[str]:
    return set(await some_outputs(pool, "", 100))


@pytest.mark.usefixtures("store")
async def test_what_nothing_named_for_long_goes(
    pool: AsyncPool, log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, the old ones and no other; each then says when it went, and for what."""
    monkeypatch.setattr(retention, "PAGE", 2)
    assert await remove_old(pool, log, timedelta(days=4, hours=12)) == Removed(3, sum(map(len, RAWS[:3])))
    assert await kept(pool) == {digest(raw) for raw in RAWS[3:]}
    with pytest.raises(OutputRemovedError, match=r"removed by retention on \d{4}-\d\d-\d\d \(for its age\)"):
        await content(pool, digest(RAWS[0]))
    async with pool.connection() as connection:
        (chunks_left,) = (
            await (await connection.execute("SELECT count(*) FROM fleetlog.output_chunks")).fetchone() or ()
        )
    assert chunks_left == 4
    assert await scrub_output(pool, digest(RAWS[3]))
    assert await remove_old(pool, log, timedelta(days=4, hours=12)) == Removed()


@pytest.mark.usefixtures("store")
async def test_what_is_too_much_goes_oldest_first(pool: AsyncPool, log: PostgresEventLog) -> None:
    """What is left is no more than may be kept, and one more would be too much."""
    room = sum(map(len, RAWS[4:])) + 1
    assert await remove_beyond(pool, log, room) == Removed(4, sum(map(len, RAWS[:4])))
    assert await kept(pool) == {digest(raw) for raw in RAWS[4:]}
    assert await remove_beyond(pool, log, room) == Removed()
    assert (await remove_beyond(pool, log, 0)).outputs == 3


async def test_each_sweep_is_one_event_whatever_becomes_of_its_worker(
    store: OutputStore, pool: AsyncPool, log: PostgresEventLog, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much, by which policy, from when to when; one that was cut before it could say so is told later."""
    monkeypatch.setattr(retention, "PAGE", 2)
    began = utc_now()
    with pytest.raises(LogUnavailableError):
        await remove_old(pool, Away(postgres_url), timedelta(days=4, hours=12))
    assert (await kept(pool), await sweeps(log)) == ({digest(raw) for raw in RAWS[3:]}, [])
    # Another worker may be at it still, and would go on removing: nobody speaks for it before it must be dead.
    assert await remove_old(pool, log, timedelta(days=4, hours=12)) == Removed()
    assert (await sweeps(log), await untold(pool)) == ([], 1)
    monkeypatch.setattr(retention, "DEAD_AFTER", timedelta())
    await remove_beyond(pool, log, 0)
    cut, by_size = sorted(await sweeps(log), key=lambda one: one.policy)
    assert (cut.policy, cut.kept_s, cut.outputs, cut.bytes) == ("age", 388_800, 3, sum(map(len, RAWS[:3])))
    assert timedelta(days=6, hours=23) < began - cut.named_from < timedelta(days=7, hours=1)
    assert timedelta(days=4, hours=23) < began - cut.named_to < timedelta(days=5, hours=1)
    assert (by_size.policy, by_size.kept_bytes, by_size.outputs) == ("size", 0, 4)
    assert await untold(pool) == 0
    await store.put_inline([inline(RAWS[0])])
    assert (await remove_beyond(pool, log, 10**9), len(await sweeps(log))) == (Removed(), 2)


async def test_what_is_named_again_is_not_old(store: OutputStore, pool: AsyncPool, log: PostgresEventLog) -> None:
    """An output that comes again, or that a result names, counts from then."""
    await store.put_inline([inline(RAWS[0])])
    assert await store.missing([digest(RAWS[1])]) == set()
    assert (await remove_old(pool, log, timedelta(days=2))).outputs == 4
    assert {digest(raw) for raw in RAWS[:2]} < await kept(pool)


async def test_what_was_removed_comes_back_by_either_way(
    store: OutputStore, pool: AsyncPool, log: PostgresEventLog
) -> None:
    """To agents a removed output is one that is not here: they send it, and it is kept and read again."""
    large = bytes(range(256)) * (wire.CHUNK_BYTES // 256) + b"end"
    for piece in chunks(large):
        await store.put_chunk(AGENT, piece)
    await named(pool, large, timedelta(days=9))
    assert (await remove_old(pool, log, timedelta(days=0))).outputs == 8
    assert await store.missing([digest(large), digest(RAWS[0])]) == {digest(large), digest(RAWS[0])}
    assert await store.wanted(AGENT, wire.OutputOffer(sha256=digest(large), size=len(large))) == 0
    for piece in chunks(large):
        await store.put_chunk(AGENT, piece)
    await store.put_inline([inline(RAWS[0])])
    assert await content(pool, digest(large)) == large
    assert await content(pool, digest(RAWS[0])) == RAWS[0]


@pytest.mark.usefixtures("store")
async def test_policies_are_a_job(postgres_url: str, pool: AsyncPool, log: PostgresEventLog) -> None:
    """Set by two settings, or on record in their place; applied by a worker."""
    forever = {job.name: job for job in all_jobs(postgres_url, Settings())}["remove_outputs"]
    assert (await asyncio.to_thread(forever.run))["removed"] == 0
    policy = Settings(postgres_url=SecretStr(postgres_url), output_keep_days=5, output_keep_bytes=len(RAWS[0]))
    job = {job.name: job for job in all_jobs(postgres_url, policy)}["remove_outputs"]
    assert (await asyncio.to_thread(job.run))["removed"] == 6
    assert await kept(pool) == {digest(RAWS[-1])}
    by_age, by_size = await sweeps(log)
    assert (by_age.policy, by_age.kept_s, by_age.outputs) == ("age", 5 * 86_400, 3)
    assert (by_size.policy, by_size.kept_bytes, by_size.outputs) == ("size", len(RAWS[0]), 3)
    # Set on record it holds in place of what the worker is set to.
    kept_for_ever = Kept(archive_after_days=None, output_keep_days=None, output_keep_bytes=None)
    change = Terms(RETENTION_STREAM).put(kept_for_ever, "")
    await log.append(change, Metadata(actor="user:ada", correlation_id=new_id()))
    await named(pool, RAWS[0], timedelta(days=9))
    assert (await asyncio.to_thread(job.run))["removed"] == 0
