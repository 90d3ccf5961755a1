"""`append-one`: many callers, each one event at a time and each durable before it goes on, against raw commits."""

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.rows import COLUMNS
from domain.codec import TOPICS, encode
from domain.event import Change, Metadata
from gateways.bench.append import bench_metadata, queued_commands
from gateways.bench.database import RAW_TABLE, bench_database, make_raw_table
from gateways.bench.result import BenchOptions, BenchResult

NAME = "append-one"
CALLERS = 64
EACH = 400
RAW_CONNECTIONS = 8
ROUNDS = 3

_INSERT = f"INSERT INTO {RAW_TABLE} ({COLUMNS}) VALUES (%b, %b, %b, %b, %t, %b, %t, %b, %b)"  # noqa: S608


async def run(options: BenchOptions) -> BenchResult:
    """Ours and the engine's turn about, into tables with the same keys and indexes; medians."""
    each = options.scaled(EACH)
    count = CALLERS * each
    ours, raw, waits = [], [], []
    async with bench_database(options) as url:
        make_raw_table(url)
        log = PostgresEventLog(url, name="bench")
        await log.start()
        for _ in range(ROUNDS):
            raw.append(await asyncio.to_thread(_raw_commits, url, count // 4))
            changes = list(queued_commands(count, options.agents or 1_000))
            begun = time.perf_counter()
            parts = (changes[start : start + each] for start in range(0, count, each))
            for taken in await asyncio.gather(*(_caller(log, part) for part in parts)):
                waits += taken
            ours.append(count / (time.perf_counter() - begun))
        await log.stop()
    value, limit = statistics.median(ours), statistics.median(raw)
    waits.sort()
    extra = {"p50_ms": waits[len(waits) // 2] * 1e3, "p99_ms": waits[len(waits) * 99 // 100] * 1e3}
    return BenchResult(name=NAME, value=value, unit="events/s", limit=limit, ratio=value / limit, n=count, extra=extra)


async def _caller(log: PostgresEventLog, changes: list[Change]) -> list[float]:
    metadata = bench_metadata()
    waits = []
    for change in changes:
        begun = time.perf_counter()
        await log.append([change], metadata)
        waits.append(time.perf_counter() - begun)
    return waits


def _raw_commits(url: str, count: int) -> float:
    """Single rows, each its own commit, over some connections at once."""
    metadata = bench_metadata()
    values = [_values(change, metadata) for change in queued_commands(count, 1_000)]
    with ThreadPoolExecutor(RAW_CONNECTIONS) as threads:
        connections = [psycopg.connect(app_conninfo(url), autocommit=True) for _ in range(RAW_CONNECTIONS)]
        begun = time.perf_counter()
        list(threads.map(_insert, connections, (values[index::RAW_CONNECTIONS] for index in range(RAW_CONNECTIONS))))
        took = time.perf_counter() - begun
        for connection in connections:
            connection.close()
    return count / took


def _insert(connection: psycopg.Connection, values: list[tuple[object, ...]]) -> None:
    for row in values:
        connection.execute(_INSERT, row, prepare=True)


def _values(change: Change, metadata: Metadata) -> tuple[object, ...]:
    return (
        change.originator_id,
        change.originator_version,
        change.agent_id,
        change.client_id,
        TOPICS[type(change.event)],
        encode(change.event),
        metadata.actor,
        metadata.correlation_id,
        metadata.causation_id,
    )
