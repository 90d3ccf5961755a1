"""`checkin`: hellos of agents for which nothing waits, from many connections to one gateway; per second.

Each connection says hello, hears the answer, and says hello again: as many are under way as there are agents. The
limit is NATS alone: requests of the same size over the same connections, answered at once by a process that does
nothing else, turn about with ours.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import psutil

from gateways.bench.fleet import BenchFleet, bench_fleet
from gateways.bench.links import LightAgent
from gateways.bench.platform import NotReadyError
from gateways.bench.raw_nats import Task, raw_process
from gateways.bench.result import BenchOptions, BenchResult
from gateways.bench.simulated import VERSION, in_groups
from schema import wire

NAME = "checkin"
AGENTS = 1_000
EACH = 20
ROUNDS = 3
ANSWER_S = 60.0
CONNECTING = 100
_RAW = "fleet.*.out.raw"
"""Agents may speak there, and no gateway listens."""


async def run(options: BenchOptions) -> BenchResult:
    """Rounds of ours and of the engine's turn about; medians."""
    each = options.scaled(EACH)
    async with bench_fleet(options) as fleet:
        agents = [
            LightAgent(identity, fleet.keys.delivery.public)
            for identity in await fleet.enroll(options.agents or AGENTS)
        ]
        await in_groups([lambda agent=agent: agent.connect([fleet.nats_url]) for agent in agents], CONNECTING)  # type: ignore[misc]
        await _all(agents, 1, _hello)  # everybody is known from here on
        task = Task(database_url=fleet.url, nats_url=fleet.nats_url, size=len(wire.encode(_reply())), serve=_RAW)
        async with raw_process(task):
            rounds = [await _round(fleet, agents, each) for _ in range(ROUNDS)]
        await asyncio.gather(*(agent.close() for agent in agents))
    value, limit = (statistics.median(one[index] for one in rounds) for index in (0, 1))
    return BenchResult(
        name=NAME,
        value=value,
        unit="hellos/s",
        limit=limit,
        ratio=value / limit,
        n=len(agents) * each,
        extra={
            "gateway_cpu_us_each": statistics.median(one[2] for one in rounds) * 1e6,
            "agents_cpu_us_each": statistics.median(one[3] for one in rounds) * 1e6,
        },
    )


async def _round(fleet: BenchFleet, agents: Sequence[LightAgent], each: int) -> tuple[float, float, float, float]:
    """Hellos and raw requests per second, and the processor time of the gateway and of the agents for one hello."""
    await fleet.rested()
    own = psutil.Process()
    used, own_used, begun = fleet.cpu_s(), sum(own.cpu_times()[:2]), time.perf_counter()
    await _all(agents, each, _hello)
    took = time.perf_counter() - begun
    used, own_used = fleet.cpu_s() - used, sum(own.cpu_times()[:2]) - own_used
    begun = time.perf_counter()
    await _all(agents, each, _raw)
    raw_took = time.perf_counter() - begun
    count = len(agents) * each
    return count / took, count / raw_took, used / count, own_used / count


async def _all(agents: Sequence[LightAgent], each: int, say: Callable[[LightAgent], Awaitable[None]]) -> None:
    async def one(agent: LightAgent) -> None:
        for _ in range(each):
            await say(agent)

    await asyncio.gather(*(one(agent) for agent in agents))


async def _hello(agent: LightAgent) -> None:
    reply = await agent.hello(ANSWER_S)
    if not isinstance(reply, wire.HelloReply) or reply.pending:
        raise NotReadyError(f"Not the answer to a hello with nothing pending: {reply}")


async def _raw(agent: LightAgent) -> None:
    await agent.link.request(f"fleet.{agent.agent_id}.out.raw", wire.encode(_said()), ANSWER_S)


def _said() -> wire.Hello:
    return wire.Hello(agent_version=VERSION, sent_at=datetime.now(UTC))


def _reply() -> wire.HelloReply:
    return wire.HelloReply(server_time=datetime.now(UTC))
