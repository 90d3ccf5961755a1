"""The two promises that all else stands on: durable before it returns, and no reader misses an event."""

import asyncio
import os
import random
import sys
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.reader import HEAD
from domain.event import Recorded

ROOT = Path(__file__).parents[2]
Told = dict[tuple[UUID, int], int]


async def spawn_writer(url: str, seed: int, rounds: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.event_log.writer", url, str(seed), str(rounds),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


async def told_by(writer: asyncio.subprocess.Process) -> Told:
    """What a writer said was durable; a line cut off by its death was not said."""
    output, _ = await writer.communicate()
    told: Told = {}
    for line in output.decode().split("\n")[:-1]:
        stream_id, version, position = line.split()
        told[UUID(stream_id), int(version)] = int(position)
    return told


async def tail(log: PostgresEventLog, stop: asyncio.Event) -> list[Recorded]:
    """Follow from the beginning until the writers have ended and the log is read to its head."""
    seen: list[Recorded] = []
    head: int | None = None
    async for page in log.follow(0, page=500):
        seen += page
        if head is None and stop.is_set():
            head = await log.head()
        if head is not None and (head == 0 or (seen and seen[-1].position >= head)):
            break
    return seen


async def everything(url: str) -> set[tuple[UUID, int, int]]:
    async with await psycopg.AsyncConnection.connect(app_conninfo(url)) as conn:
        rows = await conn.execute("SELECT originator_id, originator_version, notification_id FROM fleetlog.events")
        return set(await rows.fetchall())


def keys(recorded: list[Recorded]) -> list[tuple[UUID, int, int]]:
    return [(one.originator_id, one.originator_version, one.position) for one in recorded]


async def write_and_tail(url: str, writers: list[asyncio.subprocess.Process], trouble: asyncio.Task[None]) -> Told:
    """Run writers beside two tailing readers; returns what the writers were told, after checking what was seen."""
    log = PostgresEventLog(url, name="reader", timeout_s=30)
    await log.start()
    stop = asyncio.Event()
    async with asyncio.timeout(90):
        readers = [asyncio.create_task(tail(log, stop)) for _ in range(2)]
        told: Told = {}
        for part in await asyncio.gather(*(told_by(writer) for writer in writers)):
            told |= part
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        stop.set()
        # A writer that was killed may have a last transaction under way; the readers wait for the head after it.
        seen = await asyncio.gather(*readers)
    await log.stop()
    recorded = await everything(url)
    for reader in seen:
        assert len(keys(reader)) == len(set(keys(reader)))
        assert [one.position for one in reader] == sorted(one.position for one in reader)
        missed = recorded - set(keys(reader))
        assert not {place for place in missed if place[2] <= reader[-1].position}
    for (stream_id, version), position in told.items():
        assert (stream_id, version, position) in recorded
    return told


async def idle() -> None:
    await asyncio.Event().wait()


async def terminate_backends(url: str, seed: int, names: str) -> None:
    """End a connection of the writers every few milliseconds, whatever it is doing; for ever would be an outage."""
    dice = random.Random(seed)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        for _ in range(80):
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE %s"
                " ORDER BY random() LIMIT 1) AS unlucky",
                [names],
            )
            await asyncio.sleep(dice.uniform(0.01, 0.1))  # the trouble itself, not a wait for something
    await idle()


@given(seed=st.integers(0, 2**16), rounds=st.integers(3, 15))
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_tailing_reader_sees_every_event(postgres_url: str, seed: int, rounds: int) -> None:
    """Whatever processes write, in groups, in bulk and in conflict, each reader sees each event once, in order."""

    async def scene() -> None:
        writers = [await spawn_writer(postgres_url, seed + number, rounds) for number in range(3)]
        told = await write_and_tail(postgres_url, writers, asyncio.create_task(idle()))
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        assert len(told) >= rounds

    asyncio.run(scene())


async def test_backends_may_be_killed(postgres_url: str) -> None:
    """With connections cut at random, even in their commit, every append ends well and is recorded once."""
    writers = [await spawn_writer(postgres_url, number, 40) for number in range(2)]
    trouble = asyncio.create_task(terminate_backends(postgres_url, 7, "fleetlog-writer%"))
    told = await write_and_tail(postgres_url, writers, trouble)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(told) > 100


async def wait_for_position(conn: psycopg.AsyncConnection, goal: int) -> None:
    head = 0
    while head < goal:
        await asyncio.sleep(0.01)
        [(head,)] = await (await conn.execute(HEAD)).fetchall()


async def test_writers_may_be_killed(postgres_url: str) -> None:
    """What a writer said was durable before it was killed is in the log; readers see it and go on."""
    doomed = [await spawn_writer(postgres_url, number, 100_000) for number in range(2)]
    survivor = await spawn_writer(postgres_url, 99, 20)

    async def kill() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as conn:
            for number, writer in enumerate(doomed):
                await wait_for_position(conn, 1_000 * (number + 1))
                writer.kill()
        await idle()

    told = await write_and_tail(postgres_url, [*doomed, survivor], asyncio.create_task(kill()))
    assert [writer.returncode for writer in doomed] == [-9, -9]
    assert survivor.returncode == 0
    assert len(told) > 100


@pytest.mark.parametrize("way", ["INSERT", "COPY"])
async def test_a_stranger_cannot_make_a_reader_miss_an_event(postgres_url: str, way: str) -> None:
    """Whoever inserts, by whatever statement, holds the log's lock from before its first position to its commit."""
    columns = "originator_id, originator_version, correlation_id, actor, topic, state"
    insert = (
        f"INSERT INTO fleetlog.events ({columns})"
        " SELECT gen_random_uuid(), 1, gen_random_uuid(), 'a stranger', 'Unheard/1', ''"
    )
    async with (
        await psycopg.AsyncConnection.connect(app_conninfo(postgres_url)) as first,
        await psycopg.AsyncConnection.connect(app_conninfo(postgres_url)) as second,
    ):
        if way == "INSERT":
            await first.execute(insert.encode())
        else:
            async with first.cursor().copy(f"COPY fleetlog.events ({columns}) FROM STDIN") as copy:
                await copy.write_row((UUID(int=1), 1, UUID(int=2), "x", "X/1", b""))
        await second.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await second.execute(insert.encode())
