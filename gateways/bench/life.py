"""`life`: the rollout of `fanout` until every result is committed and can be read; whole lives per second.

Each agent reports at once, with some output of its own, and repeats until it is acknowledged. A life has ended when
the API shows it so: the clock stops when the rollout's counts and the list of commands say that all have succeeded.

The limit is the engines doing the same without a line of ours, one thing after the other: one COPY of the very events
that were recorded, one NATS request of the same size to each agent, and one from each.
"""

import asyncio
import time

from domain.codec import TOPICS
from domain.commands import CommandDelivered, CommandQueued, CommandStarted, CommandSucceeded
from gateways.bench import usage
from gateways.bench.machines import DONE_S, Fleet, Machine, NotDoneError, connected_fleet
from gateways.bench.result import BenchOptions, BenchResult, of_rounds
from schema import wire

NAME = "life"
AGENTS = 10_000
ROUNDS = 3
EVENTS = tuple(TOPICS[one] for one in (CommandQueued, CommandDelivered, CommandStarted, CommandSucceeded))


async def run(options: BenchOptions) -> BenchResult:
    """On a platform of its own."""
    async with connected_fleet(options, AGENTS) as fleet:
        return await measured(fleet)


async def measured(fleet: Fleet, rounds: int = ROUNDS) -> BenchResult:
    """Rounds, each followed by the engines alone; medians."""
    return of_rounds(NAME, "lives/s", len(fleet.machines), [await _round(fleet) for _ in range(rounds)])


async def _round(fleet: Fleet) -> dict[str, float]:
    result: dict[str, float] = {}
    count = len(fleet.machines)
    reports: list[asyncio.Task[int]] = []
    last = asyncio.Event()

    def on_orders(machine: Machine, orders: list[wire.Order]) -> None:
        reports.extend(asyncio.create_task(machine.report(order)) for order in orders)
        if len(reports) >= count:
            last.set()

    fleet.hear(on_orders)
    after = await fleet.rested()
    async with asyncio.timeout(DONE_S):
        async with fleet.http() as http:
            used, begun = usage.cpu_s(fleet.running.pid), time.perf_counter()
            rollout_id = await fleet.start(http)
        await last.wait()
        result["all_accepted_s"] = time.perf_counter() - begun
        repeated = sum(await asyncio.gather(*reports))
        result["all_acknowledged_s"] = time.perf_counter() - begun
        head = await fleet.head()
        async with fleet.http() as http:
            told = await http.json("GET", f"/api/v1/rollouts/{rollout_id}?wait_position={head}")
            listed = await http.json("GET", f"/api/v1/commands?state=succeeded&limit=1&wait_position={head}")
    result["ours_s"] = time.perf_counter() - begun
    spent = usage.each_us(fleet.running.pid, used, count)
    if told["counts"]["succeeded"] != count or not listed["items"]:
        raise NotDoneError(f"Not every result can be read: {told['counts']}")
    result["repeated"] = float(repeated)
    result |= spent
    fleet.check()
    copy_s = await fleet.raw_copy_s(after, *EVENTS)
    requests_s, reports_s = await fleet.raw_requests_s(), await fleet.raw_reports_s()
    raw = {"raw_copy_s": copy_s, "raw_requests_s": requests_s, "raw_reports_s": reports_s}
    return result | raw | {"raw_s": sum(raw.values())}
