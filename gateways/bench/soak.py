"""`soak`: a fleet that comes and goes, and commands for it at a steady pace, for minutes; the p99 of their delay.

The whole platform runs as `fleetlog up` runs it; the agents are those of `fleetlog simulate`, in the bench's process,
and hold every command against what is promised. What must not be: a command lost, one done twice, or a role that goes
on growing. The delay is that from the queueing to the delivery, of commands whose agent was there.
"""

import asyncio
import contextlib
import time

from gateways.bench.fleets import simulated_fleet
from gateways.bench.memory import Memory
from gateways.bench.platform import running_platform
from gateways.bench.result import BenchOptions, BenchResult
from gateways.simulate.checks import Rule
from gateways.simulate.plan import Plan, Report

NAME = "soak"
AGENTS = 5_000
DURATION_S = 300.0
PER_SECOND = 40
"""Commands: about a fifth of what two cores can carry."""
CHURN = 0.10
"""Of the connections, each minute."""
AWAY_S = 10.0
WARM_UP = 0.3
"""Of the time: caches fill, and every agent says hello at least once."""


async def run(options: BenchOptions) -> BenchResult:
    """One platform, one fleet, one long run; `scale` is that of the time."""
    agents, duration_s = options.agents or AGENTS, DURATION_S * options.scale
    plan = Plan(
        duration_s=duration_s,
        run_s=0.1,
        churn=CHURN,
        away_s=AWAY_S,
        commands=round(PER_SECOND * duration_s),
        settle_s=120.0,
        seed=1,
    )
    async with running_platform() as running, simulated_fleet(running, plan, agents) as fleet:
        memory = Memory(running)
        begun = time.monotonic()
        watching = asyncio.create_task(memory.watch())
        try:
            report = await fleet.run()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        ended = begun + duration_s
        growth = memory.growth(begun + WARM_UP * duration_s, ended)
        held = memory.megabytes(ended)
    return BenchResult(
        name=NAME,
        value=report.delay_p99_ms or 0.0,
        unit="ms",
        n=report.queued,
        extra={**_seen(report), "growth": growth, "memory_mb": held},
    )


def _seen(report: Report) -> dict[str, object]:
    return {
        "agents": report.agents,
        "seconds": report.seconds,
        "lost": max(report.queued - report.ended, report.broken.get(Rule.KEPT, 0)),
        "doubled": report.broken.get(Rule.ONCE, 0),
        "other_breaches": sum(count for rule, count in report.broken.items() if rule not in (Rule.KEPT, Rule.ONCE)),
        "not_queued": report.not_queued,
        "delay_p50_ms": report.delay_p50_ms,
        "churned": report.churned,
        "connections": report.connections,
        "redelivered": report.redelivered,
        "repeated": report.repeated,
    }
