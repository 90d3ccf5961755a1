"""`roundtrip`: POST a no-op for an online agent until its result is read back from the projection.

In turn by one caller (p50, p99), then by eight at once (per second). The limit is what the engines need for the same
number of steps in turn: one NATS request each way and three durable single-row commits (queued; delivered; started and
ended), without a line of ours.
"""

import asyncio
import statistics
import time
from uuid import UUID, uuid4

import nats
import psycopg
from nats.aio.msg import Msg

from command_bus.postgres_log import PostgresEventLog
from domain.ids import ClientId, SiteId
from gateways.agents.keys import load_keys
from gateways.bench.platform import Http, NotReadyError, Running, running_platform
from gateways.bench.result import BenchOptions, BenchResult
from gateways.bench.simulated import SimulatedAgent, enroll_simulated
from gateways.local.servers import embedded_servers
from projections.catalog import INLINE
from schema import wire

NAME = "roundtrip"
IN_TURN = 500
WARM_UP = 50
AT_ONCE = 8
EACH_AT_ONCE = 150
COMMITS = 3


async def run(options: BenchOptions) -> BenchResult:
    """Both parts against one freshly started platform, then the engines alone on the same machine."""
    count, each = options.scaled(IN_TURN), options.scaled(EACH_AT_ONCE)
    async with running_platform() as running:
        agents = await _agents(running, options.agents or AT_ONCE)
        try:
            async with Http(running.platform.api_url, running.key) as http:
                await in_turn(http, agents[0], WARM_UP)
                took = await in_turn(http, agents[0], count)
            per_second = await _at_once(running, agents, each)
        finally:
            await asyncio.gather(*(agent.close() for agent in agents))
    limit = await _limit(count)
    took.sort()
    p50 = statistics.median(took)
    return BenchResult(
        name=NAME,
        value=p50,
        unit="ms",
        limit=limit,
        ratio=limit / p50,
        n=count,
        extra={"p99_ms": took[len(took) * 99 // 100], "per_second_8_callers": per_second},
    )


class PromptAgent(SimulatedAgent):
    """An agent that does nothing at once, and says so."""

    def take(self, data: bytes) -> bytes:
        before = len(self.received)
        answer = super().take(data)
        self._tasks = [asyncio.create_task(self._report(order)) for order in self.received[before:]]
        return answer

    async def _report(self, order: wire.Order) -> None:
        reply = await self.finish(order)
        if isinstance(reply, wire.Refused):
            self.errors.append(NotReadyError(f"{reply.code}: {reply.detail}"))


async def _agents(running: Running, count: int) -> list[PromptAgent]:
    async with Http(running.platform.api_url, running.key) as http:
        while not (sites := (await http.json("GET", "/api/v1/sites"))["items"]):  # noqa: ASYNC110 -- nothing to wait on
            await asyncio.sleep(0.05)  # the projector is still on its way to it
        site = sites[0]
        log = PostgresEventLog(running.platform.postgres_url, inline=INLINE, name="bench")
        await log.start()
        try:
            identities = await enroll_simulated(log, count, ClientId(UUID(site["client_id"])), SiteId(UUID(site["id"])))
        finally:
            await log.stop()
        server_key = load_keys(running.platform.postgres_url).delivery.public
        agents = [PromptAgent(identity, server_key) for identity in identities]
        for agent in agents:
            await agent.connect([running.platform.nats_url])
            await agent.hello()
    return agents


async def in_turn(http: Http, agent: SimulatedAgent, count: int) -> list[float]:
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        queued = await http.json(
            "POST", "/api/v1/commands", {"agent_id": str(agent.agent_id), "spec": {"kind": "ping"}}
        )
        read = await http.json("GET", f"/api/v1/commands/{queued['id']}?wait_s=10&wait_position={queued['position']}")
        took.append((time.perf_counter() - begun) * 1e3)
        if read["state"] != "succeeded":
            raise NotReadyError(f"The command is {read['state']} after 10 s; agent: {agent.errors}")
    return took


async def _at_once(running: Running, agents: list[PromptAgent], each: int) -> float:
    async def caller(agent: SimulatedAgent) -> None:
        async with Http(running.platform.api_url, running.key) as http:
            await in_turn(http, agent, each)

    begun = time.perf_counter()
    await asyncio.gather(*(caller(agents[index % len(agents)]) for index in range(AT_ONCE)))
    return AT_ONCE * each / (time.perf_counter() - begun)


async def _echo(message: Msg) -> None:
    await message.respond(message.data)


async def _limit(count: int) -> float:
    """Median milliseconds of the bare engines for one round trip's requests and commits."""
    async with embedded_servers() as servers:
        client = await nats.connect(servers.nats_url)
        await client.subscribe("echo", cb=_echo)
        body = bytes(400)
        took = []
        with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE rows (id uuid PRIMARY KEY, body bytea)")
            for _ in range(count):
                begun = time.perf_counter()
                for _ in range(COMMITS):
                    connection.execute("INSERT INTO rows VALUES (%s, %s)", [uuid4(), body])
                await client.request("echo", body, timeout=10)
                await client.request("echo", body, timeout=10)
                took.append((time.perf_counter() - begun) * 1e3)
        await client.close()
    return statistics.median(took)
