"""`fairness`: one tenant's single commands while another's rollout to a hundred thousand agents is under way.

The same round trip as in `roundtrip` (POST a no-op for an online agent, GET it with `wait_s` until its result is read
back), by a key that sees the one tenant alone: first by itself, then from the moment at which the other's rollout is
posted until every queue holds its command and every agent of it that is online has reported. The value is the p99
beside the rollout, the limit the p99 without it.
"""

import asyncio
import time
from uuid import UUID

import psycopg

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from domain.ids import ClientId, SiteId
from gateways.agents.keys import load_keys
from gateways.bench.fanout_offline import TOLD
from gateways.bench.machines import Fleet, Machine, NotDoneError, connected_fleet, enroll
from gateways.bench.platform import Http
from gateways.bench.result import BenchOptions, BenchResult
from gateways.bench.roundtrip import PromptAgent, in_turn
from gateways.bench.simulated import enroll_simulated
from projections.catalog import INLINE
from schema import wire

NAME = "fairness"
AGENTS = 100_000
ONLINE = 1_000
ALONE = 300
WARM_UP = 50
LONGEST_S = 150.0


async def run(options: BenchOptions) -> BenchResult:
    """On a platform of its own."""
    count = options.agents or options.scaled(AGENTS)
    online = min(max(1, count // 2), options.scaled(ONLINE))
    async with connected_fleet(BenchOptions(agents=online), online) as fleet:
        async with fleet.http() as http:
            await enroll(fleet.running, http, count - online)
        return await measured(fleet, count, options.scaled(ALONE))


async def measured(fleet: Fleet, count: int, alone_count: int) -> BenchResult:
    """Alone, then beside the rollout.

    Args:
        fleet: the other tenant's agents that are online, on their platform.
        count: how many agents it has.
        alone_count: round trips without the rollout.
    """
    async with fleet.http() as admin:
        theirs = (await admin.json("GET", "/api/v1/sites"))["items"][0]["client_id"]
        key, worker = await _another_tenant(fleet, admin)
    try:
        async with Http(fleet.running.platform.api_url, key) as http:
            await in_turn(http, worker, WARM_UP)
            await fleet.rested()
            alone = await in_turn(http, worker, alone_count)
            beside, seconds = await _beside(fleet, http, worker, theirs, count)
    finally:
        await worker.close()
    value, limit = _percentile(beside, 99), _percentile(alone, 99)
    return BenchResult(
        name=NAME,
        value=value,
        unit="ms",
        limit=limit,
        ratio=limit / value,
        n=len(beside),
        extra={
            "p50_ms": _percentile(beside, 50),
            "worst_ms": max(beside),
            "alone_p50_ms": _percentile(alone, 50),
            "agents": count,
            "online": len(fleet.machines),
            **seconds,
        },
    )


async def _another_tenant(fleet: Fleet, admin: Http) -> tuple[str, PromptAgent]:
    """A client with one agent that is online, and a key that sees nothing else."""
    client = await admin.json("POST", "/api/v1/clients", {"name": "Another"})
    site = await admin.json("POST", f"/api/v1/clients/{client['id']}/sites", {"name": "Main"})
    made = await admin.json(
        "POST",
        "/api/v1/api-keys",
        {"name": "another", "role": "operator", "client_ids": [client["id"]], "unattended": True},
    )
    log = PostgresEventLog(fleet.url, inline=INLINE, name="bench")
    await log.start()
    try:
        identity = (await enroll_simulated(log, 1, ClientId(UUID(client["id"])), SiteId(UUID(site["id"]))))[0]
    finally:
        await log.stop()
    worker = PromptAgent(identity, load_keys(fleet.url).delivery.public)
    await worker.connect([fleet.running.platform.nats_url])
    await worker.hello()
    return str(made["key"]), worker


async def _beside(
    fleet: Fleet, http: Http, worker: PromptAgent, theirs: str, count: int
) -> tuple[list[float], dict[str, float]]:
    """Round trips for as long as the rollout takes, in ms; and how long its parts took."""
    reports: list[asyncio.Task[int]] = []
    all_reported = asyncio.Event()
    left = len(fleet.machines)

    def on_report(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            all_reported.set()

    def on_orders(machine: Machine, orders: list[wire.Order]) -> None:
        for order in orders:
            reports.append(asyncio.create_task(machine.report(order)))
            reports[-1].add_done_callback(on_report)

    fleet.hear(on_orders)
    after = await fleet.rested()
    took: list[float] = []
    begun = time.perf_counter()
    seconds: dict[str, float] = {}

    async def until_done() -> None:
        async with await psycopg.AsyncConnection.connect(app_conninfo(fleet.url), autocommit=True) as connection:
            while True:
                row = await (await connection.execute(TOLD, [after])).fetchone()
                if row is not None and int(row[0]) >= count:
                    break
                await asyncio.sleep(0.1)
        seconds["queued_s"] = time.perf_counter() - begun
        await all_reported.wait()
        seconds["reported_s"] = time.perf_counter() - begun

    async with asyncio.timeout(LONGEST_S):
        # Of a connection of its own: the answer to the rollout takes as long as drawing up its list.
        starting = asyncio.create_task(_start(fleet, theirs, count))
        done = asyncio.create_task(until_done())
        while not done.done():
            took += await in_turn(http, worker, 1)
        await starting
        await done
        await asyncio.gather(*reports)
    fleet.check()
    return took, seconds


async def _start(fleet: Fleet, theirs: str, count: int) -> None:
    body = {
        "name": "look at all of them",
        "target": {"include": {"clients": [theirs]}},
        "spec": {"kind": "run_script", "script_id": fleet.script_id},
    }
    async with fleet.http() as http:
        told = await http.json("POST", "/api/v1/rollouts", body)
    if told["targeted"] != count:
        raise NotDoneError(f"The rollout is for {told['targeted']} agents, not {count}.")


def _percentile(took: list[float], percent: int) -> float:
    return sorted(took)[min(len(took) - 1, len(took) * percent // 100)]
