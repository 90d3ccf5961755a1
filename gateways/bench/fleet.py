"""A gateway in a process of its own, as `fleetlog serve gateway` runs it, and the servers that it stands on."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import psycopg

from command_bus.ids import new_id
from command_bus.postgres_log import PostgresEventLog
from domain.ids import ClientId, SiteId
from gateways.agents.keys import ServerKeys, load_keys
from gateways.agents.nats_config import render_nats_config
from gateways.bench.database import bench_database
from gateways.bench.platform import READY_S, STOP_S, NotReadyError
from gateways.bench.result import BenchOptions
from gateways.bench.simulated import SimulatedIdentity, enroll_simulated
from gateways.local.servers import embedded_servers, temporary_folder
from projections.catalog import INLINE
from projections.tables import create_tables

RESTED_S = 0.25
RESTING_S = 0.015
"""Processor time in that while of a gateway that only looks whether there is anything to do."""
_RUNNING = "SELECT count(*) FROM fleetlog.processes WHERE role = 'gateway' AND state = 'running'"


class BenchFleet(msgspec.Struct, frozen=True, kw_only=True):
    """What a bench of the gateway stands on."""

    url: str
    """Of the database."""
    nats_url: str
    keys: ServerKeys
    log: PostgresEventLog
    """The bench's own, to prepare and to look."""
    client_id: ClientId
    site_id: SiteId
    gateway: psutil.Process

    async def enroll(self, count: int) -> list[SimulatedIdentity]:
        return await enroll_simulated(self.log, count, self.client_id, self.site_id)

    def cpu_s(self) -> float:
        """Processor time that the gateway has used so far."""
        times = self.gateway.cpu_times()
        return times.user + times.system

    async def rested(self) -> None:
        """Wait until the gateway has done what came before: what is measured next begins with a quiet one."""
        before = -1.0
        while self.cpu_s() - before > RESTING_S:
            before = self.cpu_s()
            await asyncio.sleep(RESTED_S)


@contextlib.asynccontextmanager
async def bench_fleet(options: BenchOptions) -> AsyncIterator[BenchFleet]:
    """Servers, migrated and empty, and one running gateway.

    NATS is always a server of the bench's own: its configuration names the keys of the bench's database.
    """
    async with bench_database(options) as url:
        await create_tables(url)
        keys = load_keys(url)
        log = PostgresEventLog(url, inline=INLINE, name="bench")
        async with (
            embedded_servers(postgres=False, nats_config=render_nats_config(keys)) as servers,
            _gateway(url, servers.nats_url) as gateway,
        ):
            await log.start()
            try:
                yield BenchFleet(
                    url=url,
                    nats_url=servers.nats_url,
                    keys=keys,
                    log=log,
                    client_id=ClientId(new_id()),
                    site_id=SiteId(new_id()),
                    gateway=gateway,
                )
            finally:
                await log.stop()


@contextlib.asynccontextmanager
async def _gateway(url: str, nats_url: str) -> AsyncIterator[psutil.Process]:
    folder = temporary_folder("fleetlog-bench-")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETLOG_")}
    environment |= {"FLEETLOG_POSTGRES_URL": url, "FLEETLOG_NATS_URL": nats_url, "FLEETLOG_LOG_LEVEL": "warning"}
    log_file = folder / "gateway.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateways.cli", "serve", "gateway",
            env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await _running(process, url, log_file)
        yield psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def _running(process: asyncio.subprocess.Process, url: str, log_file: Path) -> None:
    deadline = asyncio.get_running_loop().time() + READY_S
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while asyncio.get_running_loop().time() < deadline and process.returncode is None:
            if await (await connection.execute(_RUNNING)).fetchone() == (1,):
                return
            await asyncio.sleep(0.05)
    raise NotReadyError(_tail(log_file))


def _tail(file: Path) -> str:
    return file.read_text(errors="replace")[-4000:]
