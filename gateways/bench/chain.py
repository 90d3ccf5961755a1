"""`chain`: the log put under the audit chain, appending beside it, and all of it verified.

The value is how fast a log that is there is chained, the limit how fast the server hands it out. Then as many events
are appended while a process of its own chains them: whether it keeps up is how far it is behind when the last
one is in, and how long until that is chained as well; what it costs is the rate of appending beside that without it.
In the end events come one by one: how long each waits is what the follower's rest between two looks comes to.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.synchronize import Event
from typing import Any

import psycopg

from command_bus.audit.chain import Chain, Interval
from command_bus.audit.follower import ChainFollower
from command_bus.audit.keys import load_seed
from command_bus.ids import utc_now
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from gateways.bench.append import AGENTS, bench_metadata, queued_commands
from gateways.bench.database import bench_database
from gateways.bench.result import BenchOptions, BenchResult
from gateways.logs import configure_logs
from gateways.settings import LogLevel
from schema.audit.verify import verify_database

NAME = "chain"
EVENTS = 200_000
ROUNDS = 3
SINGLES = 20
LOOK_S = 0.02
PATIENCE_S = 600.0


async def run(options: BenchOptions) -> BenchResult:
    """Append alone and chain; append beside the chain; verify all of it. Medians of rounds that add to one log."""
    count = options.scaled(EVENTS)
    alone: list[float] = []
    chained: list[float] = []
    beside: list[float] = []
    behind: list[float] = []
    caught_up: list[float] = []
    async with bench_database(options) as url:
        log = PostgresEventLog(url, name="bench")
        await log.start()
        for _ in range(ROUNDS):
            alone.append(await _append(log, count))
            chained.append(count / await asyncio.to_thread(chained_s, url))
        async with _follower(url):
            for _ in range(ROUNDS):
                beside.append(await _append(log, count))
                head = await log.head()
                behind.append(head - _position(url))
                caught_up.append(await _until(url, head))
            singles = [await _one(log, url, number) for number in range(SINGLES)]
        total = await log.head()
        await log.stop()
        value, limit = statistics.median(chained), total / await asyncio.to_thread(handed_out_s, url)
        verified_s = await asyncio.to_thread(_verify, url)
    extra = {
        "append_alone_per_s": statistics.median(alone),
        "append_beside_per_s": statistics.median(beside),
        "behind_at_the_end": statistics.median(behind),
        "caught_up_s": statistics.median(caught_up),
        "caught_up_longest_s": max(caught_up),
        "single_chained_s": statistics.median(singles),
        "single_chained_longest_s": max(singles),
        "verified": total,
        "verify_per_s": total / verified_s,
        "verify_s": verified_s,
    }
    return BenchResult(name=NAME, value=value, unit="events/s", limit=limit, ratio=value / limit, n=count, extra=extra)


async def _append(log: PostgresEventLog, count: int) -> float:
    begun = time.perf_counter()
    await log.append_bulk(queued_commands(count, AGENTS), bench_metadata())
    return count / (time.perf_counter() - begun)


def chained_s(url: str, *, signed: bool = False) -> float:
    """Chain what is there, as the follower does it; how long that took.

    Args:
        url: of the database.
        signed: put the last of it under a checkpoint too.
    """
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        chain = Chain(connection, load_seed(connection, None), Interval(), utc_now)
        begun = time.perf_counter()
        while not chain.caught_up or chain.due():
            if chain.due():
                chain.seal()
            chain.extend()
        if signed:
            chain.seal()
        return time.perf_counter() - begun


@asynccontextmanager
async def _follower(url: str) -> AsyncIterator[None]:
    """The follower that serves, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ready, over = context.Event(), context.Event()
    process = context.Process(target=_follow, args=(url, ready, over))
    process.start()
    try:
        if not await asyncio.to_thread(ready.wait, PATIENCE_S):
            raise TimeoutError("the follower does not start")
        yield
    finally:
        over.set()
        await asyncio.to_thread(process.join)


def _follow(url: str, ready: Event, over: Event) -> None:
    async def follow() -> None:
        follower = ChainFollower(app_conninfo(url), Interval(), utc_now)
        await follower.start()
        while follower.state != "running":  # noqa: ASYNC110 - it is set by a thread that knows no loop
            await asyncio.sleep(LOOK_S)
        ready.set()
        await asyncio.to_thread(over.wait)
        await follower.stop()

    configure_logs(LogLevel.WARNING)  # to standard error: what is printed is the result alone
    asyncio.run(follow())


def _position(url: str) -> int:
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        row: Any = connection.execute("SELECT coalesce(max(last_position), 0) FROM fleetlog.chain_pages").fetchone()
    return int(row[0])


async def _until(url: str, position: int) -> float:
    """Return when the chain has come to a position; how long that took."""
    begun = time.perf_counter()
    async with asyncio.timeout(PATIENCE_S):
        while _position(url) < position:  # noqa: ASYNC110 - another process moves it
            await asyncio.sleep(LOOK_S)
    return time.perf_counter() - begun


async def _one(log: PostgresEventLog, url: str, number: int) -> float:
    """How long one event waits that comes by itself, at any moment between two looks of the follower."""
    await asyncio.sleep(number / SINGLES)
    (change,) = queued_commands(1, AGENTS)
    await log.append([change], bench_metadata())
    return await _until(url, await log.head())


def handed_out_s(url: str) -> float:
    """The log handed out once, by the server alone; how long that took."""
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        begun = time.perf_counter()
        with connection.cursor().copy("COPY fleetlog.events TO STDOUT (FORMAT binary)") as copy:
            for _ in copy:
                pass
        return time.perf_counter() - begun


def _verify(url: str) -> float:
    begun = time.perf_counter()
    report = verify_database(url)
    if not report.ok:
        raise RuntimeError(str(report.finding))
    return time.perf_counter() - begun
