"""`growth`: what one command's whole life costs as the fleet and its history grow.

A platform as `fleetlog up` runs it, on a database with a fleet of so many agents and a history of so many events. A
sample of agents spread over the fleet is online. Commands are POSTed one after the other, each to the next of them,
and each is waited for until its result is read back from the projection. Counted is everything that all roles and all
servers spend meanwhile, less what they spend in the same time when nothing is asked of them. That idle cost is shown
too: it must not grow either.

The limit is the cost with the smallest fleet and history, in the same run; the value is the dearest of the others.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from gateways.agents.keys import load_keys
from gateways.bench.append import bench_metadata
from gateways.bench.database import server_database
from gateways.bench.history import FleetHistory
from gateways.bench.meter import Meter, Used, between
from gateways.bench.platform import Http, NotReadyError, Running, running_platform
from gateways.bench.project import seconds_to_catch_up
from gateways.bench.result import BenchOptions, BenchResult
from gateways.bench.roundtrip import PromptAgent
from gateways.bench.simulated import SimulatedIdentity
from gateways.local.servers import embedded_servers
from projections.catalog import INLINE
from projections.rebuild import rebuild
from projections.tables import create_tables

NAME = "growth"
STEPS = (
    (1_000, 10_000),
    (1_000, 1_000_000),
    (1_000, 5_000_000),
    (10_000, 1_000_000),
    (100_000, 1_000_000),
)
"""Agents, and events of history; the first is what the others are compared with."""
ONLINE = 100
COMMANDS = 600
WARM_UP = 60
IDLE_S = 5.0
SETTLE_S = 300.0
QUIET_CPU = 0.12
"""Processors that a platform with nothing to do may use."""


class Cost(msgspec.Struct, frozen=True):
    """Of one command, or of one idle second."""

    cpu_ms: float
    statements: float
    wal_bytes: float
    data_bytes: float
    roles_ms: dict[str, float]

    @classmethod
    def of(cls, used: Used, count: float) -> "Cost":
        """What was used, for each of so many."""
        return cls(
            used.cpu_all_s * 1e3 / count,
            used.statements / count,
            used.wal_bytes / count,
            used.data_bytes / count,
            {role: cpu_s * 1e3 / count for role, cpu_s in used.cpu_s.items()},
        )

    def beyond(self, idle: "Cost", seconds: float) -> "Cost":
        """Less what so many idle seconds cost. Bytes stay: what is written while idle comes in gusts."""
        return Cost(
            self.cpu_ms - idle.cpu_ms * seconds,
            self.statements - idle.statements * seconds,
            self.wal_bytes,
            self.data_bytes,
            {role: cpu_ms - idle.roles_ms.get(role, 0.0) * seconds for role, cpu_ms in self.roles_ms.items()},
        )

    def shown(self) -> dict[str, float]:
        plain = {name: getattr(self, name) for name in ("cpu_ms", "statements", "wal_bytes", "data_bytes")}
        roles = {f"{role.removesuffix('-server')}_ms": cpu_ms for role, cpu_ms in self.roles_ms.items()}
        return {name: round(amount, 2) for name, amount in (plain | roles).items()}


async def run(options: BenchOptions) -> BenchResult:
    """Each step on a database of its own; the values are compared with those of the first."""
    costs: list[Cost] = []
    extra: dict[str, Any] = {}
    count = min(COMMANDS, max(20, options.scaled(COMMANDS) * 4))
    async with _server(options) as server_url:
        for fleet, events in STEPS:
            agents = options.agents or max(20, options.scaled(fleet))
            async with server_database(server_url) as url:
                await create_tables(url)
                keys = {number: Ed25519PrivateKey.generate() for number in _online(agents)}
                history = FleetHistory(agents, {number: _public(key) for number, key in keys.items()})
                await _fill(url, history, options.scaled(events))
                cost, idle, took_ms = await _measure(url, history, keys, count)
            costs.append(cost)
            extra[f"{agents} agents, {options.scaled(events)} events"] = {
                "command": cost.shown() | {"took_ms": round(took_ms, 2)},
                "idle_second": idle.shown(),
            }
    first, worst = costs[0].cpu_ms, max(cost.cpu_ms for cost in costs[1:])
    return BenchResult(
        name=NAME, value=worst, unit="ms of processor", limit=first, ratio=first / worst, n=count, extra=extra
    )


@contextlib.asynccontextmanager
async def _server(options: BenchOptions) -> AsyncIterator[str]:
    """The server named, or one that counts its statements."""
    if options.postgres_url:
        yield options.postgres_url
        return
    async with embedded_servers(nats=False, preload="pg_stat_statements") as servers:
        yield servers.postgres_url


def _online(agents: int) -> list[int]:
    """Numbers of machines, spread over the fleet; none of those that stay off."""
    step = max(1, agents // ONLINE)
    return [number + (number % 20 == 7) for number in range(0, agents - 1, step)][:ONLINE]  # noqa: PLR2004 -- as history.py


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


async def _fill(url: str, history: FleetHistory, events: int) -> None:
    """The history in the log and in the projections; then as a database is that has been up for a while."""
    log = PostgresEventLog(url, name="bench")
    await log.start()
    head = await log.append_bulk(history.changes(events), bench_metadata())
    await log.stop()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    for projection in INLINE:
        await asyncio.to_thread(rebuild, app_conninfo(url), projection.name)
    await seconds_to_catch_up(url, head)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


async def _measure(
    url: str, history: FleetHistory, keys: dict[int, Ed25519PrivateKey], count: int
) -> tuple[Cost, Cost, float]:
    server_key = load_keys(url).delivery.public
    identities = [
        SimulatedIdentity(history.machines[number].agent_id, key.private_bytes_raw()) for number, key in keys.items()
    ]
    agents = [PromptAgent(identity, server_key) for identity in identities]
    async with running_platform(FLEETLOG_POSTGRES_URL=url) as running:
        try:
            for agent in agents:
                await agent.connect([running.platform.nats_url])
                await agent.hello()
            with psycopg.connect(url, autocommit=True) as connection:
                meter = Meter(connection, running.platform.pid)
                await _settled(running, meter, len(agents))
                await _lives(running, agents, WARM_UP)
                idle = Cost.of(await _idle(meter), IDLE_S)
                before, begun = meter.read(), time.perf_counter()
                await _lives(running, agents, count)
                seconds = time.perf_counter() - begun
                cost = Cost.of(between(before, meter.read()), count)
                return cost.beyond(idle, seconds / count), idle, seconds * 1e3 / count
        finally:
            await asyncio.gather(*(agent.close() for agent in agents))


async def _settled(running: Running, meter: Meter, online: int) -> None:
    """The history leaves machines online that do not exist: the gateway records that they are gone, and then rests."""
    async with asyncio.timeout(SETTLE_S), Http(running.platform.api_url, running.key) as http:
        page = f"/api/v1/agents?online=true&limit={online + 1}"
        while len((await http.json("GET", page))["items"]) > online:  # noqa: ASYNC110 -- a poll
            await asyncio.sleep(0.5)
        before = meter.read()
        while True:
            await asyncio.sleep(1.0)
            now = meter.read()
            if between(before, now).cpu_all_s < QUIET_CPU:
                return
            before = now


async def _idle(meter: Meter) -> Used:
    before = meter.read()
    await asyncio.sleep(IDLE_S)
    return between(before, meter.read())


async def _lives(running: Running, agents: list[PromptAgent], count: int) -> None:
    async with Http(running.platform.api_url, running.key) as http:
        for number in range(count):
            agent = agents[number % len(agents)]
            wanted = {"agent_id": str(agent.agent_id), "spec": {"kind": "ping"}}
            queued = await http.json("POST", "/api/v1/commands", wanted)
            way = f"/api/v1/commands/{queued['id']}?wait_s=10&wait_position={queued['position']}"
            if (read := await http.json("GET", way))["state"] != "succeeded":
                raise NotReadyError(f"The command is {read['state']} after 10 s; agent: {agent.errors}")
