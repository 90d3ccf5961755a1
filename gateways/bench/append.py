"""`append`: construct, encode and durably commit many events, against the server's COPY of the same rows alone."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg

from command_bus.ids import new_id
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.rows import COLUMNS, COPY, copy_block
from domain.commands import Command, CommandQueued, RunShell
from domain.event import Change, Metadata
from domain.ids import AgentId, ClientId, SiteId
from domain.scripts import Shell
from gateways.bench.database import RAW_TABLE, bench_database, make_raw_table
from gateways.bench.result import BenchOptions, BenchResult

NAME = "append"
EVENTS = 100_000
AGENTS = 1_000
ROUNDS = 3


def queued_commands(count: int, agents: int) -> Iterator[Change]:
    """Commands as the domain decides them, one by one, for so many agents in turn."""
    client_id, site_id = ClientId(new_id()), SiteId(new_id())
    agent_ids = [AgentId(new_id()) for _ in range(agents)]
    now = datetime.now(UTC)
    for number in range(count):
        queued = CommandQueued(
            agent_id=agent_ids[number % agents],
            client_id=client_id,
            site_id=site_id,
            spec=RunShell(shell=Shell.SH, line="systemctl is-active ssh && uptime"),
            expires_at=now + timedelta(days=30),
            reason="nightly",
        )
        yield Command(new_id()).queue(queued, now)


def bench_metadata() -> Metadata:
    return Metadata(actor=f"key:{new_id()}", correlation_id=new_id(), causation_id=new_id())


async def run(options: BenchOptions) -> BenchResult:
    """Ours and the engine's turn about, into tables with the same keys and indexes; medians."""
    count = options.scaled(EVENTS)
    agents = options.agents or AGENTS
    ours, raw = [], []
    async with bench_database(options) as url:
        make_raw_table(url)
        log = PostgresEventLog(url, name="bench")
        await log.start()
        for _ in range(ROUNDS):
            raw.append(await asyncio.to_thread(_raw_copy, url, count, agents))
            begun = time.perf_counter()
            await log.append_bulk(queued_commands(count, agents), bench_metadata())
            ours.append(count / (time.perf_counter() - begun))
        await log.stop()
    value, limit = statistics.median(ours), statistics.median(raw)
    return BenchResult(name=NAME, value=value, unit="events/s", limit=limit, ratio=value / limit, n=count)


def _raw_copy(url: str, count: int, agents: int) -> float:
    """One COPY of rows that lie ready, in one transaction."""
    rows = COPY.rows(queued_commands(count, agents), bench_metadata())
    block = copy_block(rows)
    with psycopg.connect(app_conninfo(url), autocommit=True) as conn:
        begun = time.perf_counter()
        with conn.cursor().copy(f"COPY {RAW_TABLE} ({COLUMNS}) FROM STDIN (FORMAT binary)") as copy:
            copy.write(block)
        return count / (time.perf_counter() - begun)
