"""`storm`: the NATS server is killed under a whole fleet; seconds until every agent is back.

Back means: let in again, and its hello answered by a gateway that looked what waits for it. The whole platform runs as
`fleetlog up` runs it, which starts the server again at once. Ten thousand agents lose their connection in the same
moment and come back as real ones do, each after a random while (`agent/link.py`), and each asks a gateway to be let in.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable

import psutil
import psycopg

from command_bus.postgres import app_conninfo
from gateways.bench.fleets import simulated_fleet
from gateways.bench.memory import MB
from gateways.bench.platform import NotReadyError, Running, running_platform
from gateways.bench.result import BenchOptions, BenchResult
from gateways.simulate.fleet import Simulation
from gateways.simulate.plan import Plan

NAME = "storm"
AGENTS = 10_000
PATIENCE_S = 180.0
LOOK_S = 0.02
_ONLINE = "SELECT count(*) FROM agents WHERE online"


async def run(options: BenchOptions) -> BenchResult:
    """One platform, one fleet, one storm."""
    agents = options.agents or options.scaled(AGENTS)
    plan = Plan(duration_s=3 * PATIENCE_S, seed=1)
    async with running_platform() as running, simulated_fleet(running, plan, agents) as fleet:
        life = asyncio.create_task(fleet.run())
        try:
            begun = time.perf_counter()
            await _until(lambda: fleet.greeted == agents, "the fleet to be there")
            arrived_s = time.perf_counter() - begun
            await _until_shown(running, agents)
            extra = await _storm(running, fleet, agents)
        finally:
            fleet.ask_to_stop()
            report = await life
    if not report.ok:
        raise NotReadyError(f"Not what was promised: {report.breaches}")
    return BenchResult(
        name=NAME, value=extra.pop("recovered_s"), unit="s", n=agents, extra={"first_arrival_s": arrived_s, **extra}
    )


async def _storm(running: Running, fleet: Simulation, agents: int) -> dict[str, float]:
    gateway = next(one for one in psutil.Process(running.platform.pid).children() if one.cmdline()[-1] == "gateway")
    used, refused = sum(gateway.cpu_times()[:2]), fleet.refused
    begun = time.perf_counter()
    os.kill(_nats(running), signal.SIGKILL)
    await _until(lambda: fleet.lost >= agents, "the connections to be lost")
    await _until(lambda: fleet.greeted >= agents // 2, "half of the fleet to be back")
    half_s = time.perf_counter() - begun
    await _until(lambda: fleet.greeted == agents, "the fleet to be back")
    recovered_s = time.perf_counter() - begun
    await _until_shown(running, agents)
    return {
        "recovered_s": recovered_s,
        "half_s": half_s,
        "shown_online_s": time.perf_counter() - begun,
        "tries_in_vain": fleet.refused - refused,
        "gateway_cpu_s": sum(gateway.cpu_times()[:2]) - used,
        "agents_mb": psutil.Process().memory_info().rss / MB,
    }


def _nats(running: Running) -> int:
    state = json.loads((running.folder / "data" / "nats.json").read_text())
    return int(state["process"]["pid"])


async def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise NotReadyError(f"Waited {PATIENCE_S:.0f} s in vain for {what}.")
        await asyncio.sleep(LOOK_S)


async def _until_shown(running: Running, agents: int) -> None:
    """Wait until whoever looks sees all of them online."""
    async with await psycopg.AsyncConnection.connect(
        app_conninfo(running.platform.postgres_url), autocommit=True
    ) as connection:
        deadline = time.monotonic() + PATIENCE_S
        while await (await connection.execute(_ONLINE)).fetchone() != (agents,):
            if time.monotonic() > deadline:
                raise NotReadyError("The read models do not show the fleet online.")
            await asyncio.sleep(LOOK_S)
