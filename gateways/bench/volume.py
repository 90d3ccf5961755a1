"""`volume`: a log that grows to ten million events, in ten parts.

How fast each part goes in (the value is the last part's rate, the limit the first's), what the table and its indexes
take, what the reads of daily work cost at the end and by which index Postgres answers them, how long the queues take to
rebuild, and how fast and how small the archive takes a part of it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, LiteralString

import psycopg

from command_bus.archiving import SEGMENT_STREAMS, archive
from command_bus.event_log import Selection
from command_bus.ids import new_id
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.reader import HEAD, READ_HEADS, READ_STREAMS, page_query
from gateways.bench.append import bench_metadata
from gateways.bench.database import bench_database
from gateways.bench.history import FleetHistory
from gateways.bench.result import BenchOptions, BenchResult
from projections.rebuild import rebuild
from projections.tables import create_tables

NAME = "volume"
EVENTS = 10_000_000
AGENTS = 10_000
PARTS = 10
ASKED = 50
ARCHIVED_SEGMENTS = 4

_SIZES: LiteralString = """
    SELECT relname, pg_relation_size(c.oid) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE nspname = 'fleetlog' AND relname LIKE 'events%' AND relkind IN ('r', 'i') ORDER BY 2 DESC
"""


async def run(options: BenchOptions) -> BenchResult:
    """Grow, look, and archive some."""
    count, agents = options.scaled(EVENTS), options.agents or options.scaled(AGENTS)
    rates: list[float] = []
    async with bench_database(options) as url:
        await create_tables(url)
        log = PostgresEventLog(url, name="bench")
        await log.start()
        history = FleetHistory(agents)
        changes = history.changes(count)
        for _ in range(PARTS):
            part = count // PARTS
            begun = time.perf_counter()
            await log.append_bulk(islice(changes, part), bench_metadata())
            rates.append(part / (time.perf_counter() - begun))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE fleetlog.events")
            sizes: dict[str, int] = dict(connection.execute(_SIZES).fetchall())
        extra: dict[str, Any] = {
            "events_per_s": [round(rate) for rate in rates],
            "bytes_per_event": {name: round(size / count, 1) for name, size in sizes.items()},
            "bytes_per_event_in_all": sum(sizes.values()) / count,
            "read_ms": await _reads(log, history, agents),
            "plans": await _plans(url, log, history),
            "rebuild_pending_s": await _seconds(lambda: asyncio.to_thread(rebuild, app_conninfo(url), "pending")),
            "archive": await _archived(url, count),
            "read_ms_archived": await _reads(log, history, agents),
        }
        await log.stop()
    return BenchResult(
        name=NAME, value=rates[-1], unit="events/s", limit=rates[0], ratio=rates[-1] / rates[0], n=count, extra=extra
    )


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def _reads(log: PostgresEventLog, history: FleetHistory, agents: int) -> dict[str, float]:
    """Milliseconds of each, once for each of some agents; the mean."""
    machines = history.machines[:: max(1, agents // ASKED)]
    streams = [one.originator_id for one in await log.read(Selection(types=("CommandSucceeded",)), limit=ASKED)]
    head = await log.head()
    asked: dict[str, Callable[[int], Awaitable[object]]] = {
        "old_stream": lambda at: log.read_streams([streams[at % len(streams)]]),
        "unknown_stream": lambda _: log.read_streams([new_id()]),
        "timeline_newest_100": lambda at: log.read(
            Selection(agent_id=machines[at % len(machines)].agent_id), limit=100, backwards=True
        ),
        "timeline_oldest_100": lambda at: log.read(
            Selection(agent_id=machines[at % len(machines)].agent_id), limit=100
        ),
        "newest_1000": lambda at: log.read(after=head - 1_000 - at, limit=1_000),
        "oldest_1000": lambda at: log.read(after=at * 1_000, limit=1_000),
        "since": lambda _: log.read(Selection(since=history.now - timedelta(days=1)), limit=100),
        "head": lambda _: log.head(),
    }
    took = {}
    for name, ask in asked.items():
        await ask(0)
        begun = time.perf_counter()
        for at in range(ASKED):
            await ask(at)
        took[name] = (time.perf_counter() - begun) * 1e3 / ASKED
    return took


async def _plans(url: str, log: PostgresEventLog, history: FleetHistory) -> dict[str, dict[str, Any]]:
    """How Postgres answers each kind of read: the indexes and tables that it goes by, rows returned, pages touched."""
    head, machine = await log.head(), history.machines[len(history.machines) // 2]
    (sample,) = await log.read(Selection(types=("CommandSucceeded",)), after=head // 2, limit=1)
    stream = {"ids": [sample.originator_id]}
    pages = {
        "an agent's newest": (Selection(agent_id=machine.agent_id), 0, True),
        "an agent's oldest": (Selection(agent_id=machine.agent_id), 0, False),
        "a tenant's newest": (Selection(client_ids=(machine.client_id,)), 0, True),
        "a type's newest": (Selection(types=("CommandSucceeded",)), 0, True),
        "an actor's newest": (Selection(actor=sample.actor), 0, True),
        "a request's": (Selection(correlation_id=sample.correlation_id), 0, False),
        "after a position": (Selection(), head // 2, False),
    }
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        name: page_query(selection, after=after, upto=None, limit=100, backwards=backwards)
        for name, (selection, after, backwards) in pages.items()
    }
    asked |= {"a stream": (READ_STREAMS, stream), "a stream's last": (READ_HEADS, stream), "the head": (HEAD, {})}
    found = {}
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        for name, (query, values) in asked.items():
            explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}".encode()
            (told,) = connection.execute(explain, values).fetchone() or ([],)
            plan = told[0]["Plan"]
            found[name] = {
                "by": sorted(
                    {by for node in _nodes(plan) if (by := node.get("Index Name") or node.get("Relation Name"))}
                ),
                "rows": plan["Actual Rows"],
                "pages": plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
            }
    return found


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


async def _archived(url: str, count: int) -> dict[str, float]:
    """Some of it moved, and what a command's worth of it takes from then on."""
    begun = time.perf_counter()
    streams = min(SEGMENT_STREAMS, max(10, count // 100))
    done = await asyncio.to_thread(archive, url, timedelta(0), segment_streams=streams, most_segments=ARCHIVED_SEGMENTS)
    seconds = time.perf_counter() - begun
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM fleetlog.archive_streams")
        (kept,) = connection.execute("SELECT pg_total_relation_size('fleetlog.archive_streams')").fetchone() or (0,)
    return {
        "events": done.events,
        "events_per_s": done.events / seconds,
        "bytes_per_event": done.stored_bytes / max(1, done.events),
        "bytes_per_stream_that_stay": kept / max(1, done.streams),
    }
