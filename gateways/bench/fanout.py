"""`fanout`: POST one script for ten thousand connected agents; agents per second until the last has accepted.

An agent counts when its word has come and `CommandDelivered` is committed. The whole platform runs as `fleetlog up`
runs it. The limit is the engines doing the same without a line of ours: one COPY of the very events that were
recorded, and one NATS request of the same size to each of the same agents, one after the other.
"""

import asyncio
import time

from domain.codec import TOPICS
from domain.commands import CommandDelivered, CommandQueued
from gateways.bench import usage
from gateways.bench.machines import DONE_S, Fleet, Machine, connected_fleet
from gateways.bench.result import BenchOptions, BenchResult, of_rounds
from schema import wire

NAME = "fanout"
AGENTS = 10_000
ROUNDS = 3


async def run(options: BenchOptions) -> BenchResult:
    """On a platform of its own."""
    async with connected_fleet(options, AGENTS) as fleet:
        return await measured(fleet)


async def measured(fleet: Fleet, rounds: int = ROUNDS) -> BenchResult:
    """Rounds, each followed by the engines alone; medians."""
    return of_rounds(NAME, "agents/s", len(fleet.machines), [await _round(fleet) for _ in range(rounds)])


async def _round(fleet: Fleet) -> dict[str, float]:
    result: dict[str, float] = {}
    count = len(fleet.machines)
    taken: list[tuple[Machine, wire.Order]] = []
    first, last = asyncio.Event(), asyncio.Event()

    def on_orders(machine: Machine, orders: list[wire.Order]) -> None:
        taken.extend((machine, order) for order in orders)
        if not first.is_set():
            first.set()
            result["first_accepted_s"] = time.perf_counter() - begun
        if len(taken) >= count:
            last.set()

    fleet.hear(on_orders)
    after = await fleet.rested()
    async with asyncio.timeout(DONE_S), fleet.http() as http:
        used, begun = usage.cpu_s(fleet.running.pid), time.perf_counter()
        await fleet.start(http)
        result["posted_s"] = time.perf_counter() - begun
        await last.wait()
        result["all_accepted_s"] = time.perf_counter() - begun
        await fleet.until_recorded("CommandDelivered/1", after)
    result["ours_s"] = time.perf_counter() - begun
    spent = usage.each_us(fleet.running.pid, used, count)
    result |= spent
    # What the agents' own clocks would have them do next, so that the next round begins with empty queues.
    await asyncio.gather(*(machine.report(order) for machine, order in taken))
    fleet.check()
    copy_s = await fleet.raw_copy_s(after, TOPICS[CommandQueued], TOPICS[CommandDelivered])
    requests_s = await fleet.raw_requests_s()
    return result | {"raw_copy_s": copy_s, "raw_requests_s": requests_s, "raw_s": copy_s + requests_s}
