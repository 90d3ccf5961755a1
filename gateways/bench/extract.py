"""`extract`: a million events taken out of the log for an auditor, each with its proof, and verified by the file alone.

As a user does it: `fleetlog audit extract` asks a whole platform, `fleetlog audit verify --extract` reads the file. The
value is how fast it is written, the limit how fast the server hands the log out. Beside it: how fast the file is
verified, its size, and the most memory that the API and the two commands came to.
"""

import asyncio
import os
import re
import sys
import time

import psutil

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from gateways.bench.append import bench_metadata
from gateways.bench.chain import chained_s, handed_out_s
from gateways.bench.database import bench_database
from gateways.bench.history import FleetHistory
from gateways.bench.memory import MB
from gateways.bench.platform import Running, running_platform
from gateways.bench.result import BenchOptions, BenchResult
from gateways.bench.usage import rested
from projections.catalog import names
from projections.rebuild import rebuild
from projections.tables import create_tables

NAME = "extract"
EVENTS = 1_000_000
AGENTS = 10_000
LOOK_S = 0.1
PATIENCE_S = 3_600.0
_PROVEN = re.compile(rb"(\d+) of (\d+) events")


class BadCommandError(Exception):
    """A command did not end well, or did not say what it should; the text is what it said."""


async def run(options: BenchOptions) -> BenchResult:
    """Fill and sign a log, take all of it out, and verify the file."""
    count = options.scaled(EVENTS)
    async with bench_database(options) as url:
        await create_tables(url)
        log = PostgresEventLog(url, name="bench")
        await log.start()
        history = FleetHistory(options.agents or options.scaled(AGENTS))
        await log.append_bulk(history.changes(count), bench_metadata())
        await log.stop()
        for name in names():
            await asyncio.to_thread(rebuild, app_conninfo(url), name)
        await asyncio.to_thread(chained_s, url, signed=True)
        limit = count / await asyncio.to_thread(handed_out_s, url)
        async with running_platform(FLEETLOG_POSTGRES_URL=url) as running:
            await rested(running.pid)
            value, extra = await _taken_out(running, count)
    return BenchResult(name=NAME, value=value, unit="events/s", limit=limit, ratio=value / limit, n=count, extra=extra)


async def _taken_out(running: Running, count: int) -> tuple[float, dict[str, float]]:
    file = running.folder / "all.ndjson"
    api = _api_of(running)
    before = api.memory_info().rss
    watched = asyncio.create_task(_most(api))
    try:
        taken_s, _, own = await _command(running, "audit", "extract", str(file))
    finally:
        watched.cancel()
    most = max(before, *await asyncio.gather(watched))
    verified_s, said, verifying = await _command(running, "audit", "verify", "--extract", str(file))
    found = _PROVEN.search(said)
    if found is None or int(found[1]) < count:
        raise BadCommandError(said.decode(errors="replace"))
    return count / taken_s, {
        "extract_s": taken_s,
        "verify_per_s": count / verified_s,
        "verify_s": verified_s,
        "proven": int(found[1]),
        "file_mb": file.stat().st_size / MB,
        "api_before_mb": before / MB,
        "api_most_mb": most / MB,
        "extract_most_mb": own / MB,
        "verify_most_mb": verifying / MB,
    }


def _api_of(running: Running) -> psutil.Process:
    (api,) = [one for one in psutil.Process(running.pid).children() if one.cmdline()[-2:] == ["serve", "api"]]
    return api


async def _most(process: psutil.Process) -> int:
    """The most memory that a process was seen with, in bytes, until it ends or this is cancelled."""
    most = 0
    try:
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(LOOK_S)
    except (psutil.Error, asyncio.CancelledError):
        return most


async def _command(running: Running, *words: str) -> tuple[float, bytes, int]:
    """Run a command as a user does: how long it took, what it said, and the most memory that it had, in bytes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETLOG_")}
    environment |= {"FLEETLOG_URL": running.platform.api_url, "FLEETLOG_API_KEY": running.key}
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateways.cli", *words,
        env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            (said, _), most = await asyncio.gather(process.communicate(), _most(psutil.Process(process.pid)))
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise BadCommandError(said.decode(errors="replace"))
    return time.perf_counter() - begun, said, most
