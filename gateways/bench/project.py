"""`project`: every projection that follows the log catches up on a fleet's history, by the projector that serves.

The limit is what the server needs to hand out the same events and to take the same rows into the same indexes.
"""

import asyncio
import statistics
import time

import psycopg
from psycopg.sql import SQL, Identifier

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from gateways.bench.append import bench_metadata
from gateways.bench.database import bench_database
from gateways.bench.engine import seconds_alone
from gateways.bench.history import FleetHistory
from gateways.bench.result import BenchOptions, BenchResult
from projections.catalog import FOLLOWING
from projections.runner import Projector
from projections.tables import create_tables
from projections.wait import PositionWaiter

NAME = "project"
EVENTS = 200_000
AGENTS = 5_000
ROUNDS = 3
PATIENCE_S = 600.0


async def run(options: BenchOptions) -> BenchResult:
    """The projector's way and the engine's turn about; medians."""
    count = options.scaled(EVENTS)
    ours, alone = [], []
    async with bench_database(options) as url:
        await create_tables(url)
        log = PostgresEventLog(url, name="bench")
        await log.start()
        history = FleetHistory(options.agents or options.scaled(AGENTS))
        head = await log.append_bulk(history.changes(count), bench_metadata())
        await log.stop()
        for _ in range(ROUNDS):
            await asyncio.to_thread(_forget, url)
            ours.append(count / await seconds_to_catch_up(url, head))
            alone.append(count / await asyncio.to_thread(seconds_alone, url, FOLLOWING, indexed_first=True))
    value, limit = statistics.median(ours), statistics.median(alone)
    return BenchResult(name=NAME, value=value, unit="events/s", limit=limit, ratio=value / limit, n=count)


async def seconds_to_catch_up(url: str, head: int) -> float:
    """How long the projector needs to bring every projection that follows the log to a position."""
    conninfo = app_conninfo(url)
    waiter, projector = PositionWaiter(conninfo), Projector(conninfo)
    await waiter.start()
    begun = time.perf_counter()
    await projector.start()
    try:
        await waiter.wait(head, [projection.name for projection in FOLLOWING], PATIENCE_S)
        return time.perf_counter() - begun
    finally:
        await projector.stop()
        await waiter.stop()


def _forget(url: str) -> None:
    """Empty the following projections, so that they begin again at the log's first event."""
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        for table in (table for projection in FOLLOWING for table in projection.tables):
            connection.execute(SQL("TRUNCATE {}").format(Identifier(table.name)))
        connection.execute("UPDATE tracking SET position = 0")
