"""`fanout-offline`: POST one script for a hundred thousand agents that are away, until the queue of each holds it.

In seconds. The limit is the server taking the same: one COPY of the very events that were recorded and one of the very
rows of the queues, into tables with the same indexes.
"""

import asyncio
import statistics
import time

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from command_bus.postgres import app_conninfo
from domain.codec import TOPICS
from domain.commands import CommandQueued
from gateways.bench import usage
from gateways.bench.database import make_raw_table
from gateways.bench.machines import DONE_S, NotDoneError, add_script, enroll, log_head, raw_copy_s, start_rollout
from gateways.bench.platform import Http, Running, running_platform
from gateways.bench.result import BenchOptions, BenchResult
from projections.catalog import LIVE

NAME = "fanout-offline"
AGENTS = 100_000
ROUNDS = 3
LOOK_S = 0.02
_QUEUE = Identifier(LIVE, "pending")
_RAW_QUEUE = Identifier(LIVE, "raw_pending")
# How far the rollout says that it is costs little to ask while it goes on; the queues are counted at the end.
TOLD = SQL(
    "SELECT coalesce(sum((convert_from(state, 'UTF8')::json ->> 'count')::int), 0) FROM fleetlog.events"
    " WHERE topic = 'RolloutAdvanced/1' AND notification_id > %s"
)
_HOLDING = SQL("SELECT count(DISTINCT agent_id) FROM {} WHERE position > %s").format(_QUEUE)


async def run(options: BenchOptions) -> BenchResult:
    """On a platform of its own."""
    count = options.agents or options.scaled(AGENTS)
    async with running_platform() as running:
        async with _http(running) as http:
            script_id = await add_script(http)
            await enroll(running, http, count)
        make_raw_table(running.platform.postgres_url)
        return await measured(running, script_id, count)


async def measured(running: Running, script_id: str, count: int, rounds: int = ROUNDS) -> BenchResult:
    """Rounds, each followed by the server alone; medians."""
    found = [await _round(running, script_id, count) for _ in range(rounds)]
    extra = {key: statistics.median(one[key] for one in found) for key in found[0]}
    value, limit = extra.pop("ours_s"), extra.pop("raw_s")
    return BenchResult(name=NAME, value=value, unit="s", limit=limit, ratio=limit / value, n=count, extra=extra)


def _http(running: Running) -> Http:
    return Http(running.platform.api_url, running.key)


async def _round(running: Running, script_id: str, count: int) -> dict[str, float]:
    result: dict[str, float] = {}
    url = running.platform.postgres_url
    await usage.rested(running.pid)
    after = await log_head(url)
    async with (
        asyncio.timeout(DONE_S),
        await psycopg.AsyncConnection.connect(app_conninfo(url), autocommit=True) as connection,
        _http(running) as http,
    ):
        used, begun = usage.cpu_s(running.pid), time.perf_counter()
        await start_rollout(http, script_id, count)
        result["posted_s"] = time.perf_counter() - begun
        while await _number(connection, TOLD, after) < count:  # noqa: ASYNC110 -- no event tells of a commit
            await asyncio.sleep(LOOK_S)
        if await _number(connection, _HOLDING, after) != count:
            raise NotDoneError("There are agents whose queues do not hold it.")
    result["ours_s"] = time.perf_counter() - begun
    spent = usage.each_us(running.pid, used, count)
    result |= spent
    copy_s = await asyncio.to_thread(raw_copy_s, url, after, [TOPICS[CommandQueued]])
    rows_s = await asyncio.to_thread(_raw_rows_s, url, after)
    return result | {"raw_copy_s": copy_s, "raw_rows_s": rows_s, "raw_s": copy_s + rows_s}


async def _number(connection: psycopg.AsyncConnection, statement: SQL | Composed, after: int) -> int:
    row = await (await connection.execute(statement, [after])).fetchone()
    return int(row[0]) if row is not None else 0


def _raw_rows_s(url: str, after: int) -> float:
    """Seconds for one COPY of the queues' new rows into a table with the same indexes."""
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        rows = connection.cursor()
        read = SQL("COPY (SELECT * FROM {} WHERE position > {}) TO STDOUT (FORMAT binary)").format(_QUEUE, after)
        with rows.copy(read) as out:
            block = b"".join(bytes(piece) for piece in out)
        rows.execute(SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(_RAW_QUEUE, _QUEUE))
        begun = time.perf_counter()
        with rows.copy(SQL("COPY {} FROM STDIN (FORMAT binary)").format(_RAW_QUEUE)) as copy:
            copy.write(block)
        took = time.perf_counter() - begun
        rows.execute(SQL("DROP TABLE {}").format(_RAW_QUEUE))
        return took
