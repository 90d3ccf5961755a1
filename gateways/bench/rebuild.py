"""`rebuild`: the pending queues and the agents, rebuilt one after the other from a fleet's whole history.

The value counts each event of the log once, and the time of both rebuilds. The limit is what the server needs to hand
out the log once, to take the same rows and to make their indexes.

Beside it, a replay: all read models at once, as of the end of the same log.
"""

import asyncio
import statistics
import time

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from gateways.bench.append import bench_metadata
from gateways.bench.database import bench_database
from gateways.bench.engine import seconds_alone
from gateways.bench.history import FleetHistory
from gateways.bench.result import BenchOptions, BenchResult
from projections.catalog import named
from projections.rebuild import rebuild
from projections.replays import make
from projections.tables import create_tables

NAME = "rebuild"
EVENTS = 500_000
AGENTS = 10_000
ROUNDS = 3
REBUILT = ("pending", "agents")


async def run(options: BenchOptions) -> BenchResult:
    """The product's own rebuild and the engine's turn about; medians."""
    count = options.scaled(EVENTS)
    ours, alone = [], []
    each: dict[str, list[float]] = {name: [] for name in REBUILT}
    async with bench_database(options) as url:
        await create_tables(url)
        log = PostgresEventLog(url, name="bench")
        await log.start()
        history = FleetHistory(options.agents or options.scaled(AGENTS))
        await log.append_bulk(history.changes(count), bench_metadata())
        await log.stop()
        projections = [named(name) for name in REBUILT]
        for _ in range(ROUNDS):
            for name in REBUILT:
                begun = time.perf_counter()
                await asyncio.to_thread(rebuild, app_conninfo(url), name)
                each[name].append(time.perf_counter() - begun)
            ours.append(count / sum(took[-1] for took in each.values()))
            alone.append(count / await asyncio.to_thread(seconds_alone, url, projections, indexed_first=False))
        begun = time.perf_counter()
        await asyncio.to_thread(make, app_conninfo(url), count, "bench")
        replayed = count / (time.perf_counter() - begun)
    value, limit = statistics.median(ours), statistics.median(alone)
    extra = {f"{name}_events_per_s": count / statistics.median(took) for name, took in each.items()}
    extra["replay_events_per_s"] = replayed
    return BenchResult(name=NAME, value=value, unit="events/s", limit=limit, ratio=value / limit, n=count, extra=extra)
