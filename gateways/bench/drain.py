"""`drain`: agents whose commands wait for them all connect at once; commands accepted per second.

A command counts when its agent's word has come and `CommandDelivered` is committed. The clock runs from the first
connect, so that letting the agents in (the signed nonce, NATS' question to the gateway) is part of it.

The limit is the engines doing the same work without a line of ours: a COPY of the very rows that were recorded, and a
NATS request of the same size to each of the same agents, one after the other.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg

from command_bus.ids import new_id
from command_bus.postgres import app_conninfo
from command_bus.rows import COLUMNS
from domain.commands import Command, CommandQueued, RunShell
from domain.event import Change, Metadata
from domain.ids import AgentId
from domain.scripts import Shell
from gateways.bench.database import RAW_TABLE, make_raw_table
from gateways.bench.fleet import BenchFleet, bench_fleet
from gateways.bench.links import LightAgent
from gateways.bench.raw_nats import Task, raw_process
from gateways.bench.result import BenchOptions, BenchResult
from gateways.bench.simulated import SimulatedIdentity

NAME = "drain"
AGENTS = 1_000
EACH = 20
ROUNDS = 3
DRAINED_S = 120.0

_ACCEPTED: LiteralString = "FROM fleetlog.events WHERE topic = 'CommandDelivered/1' AND notification_id > %(after)s"


class NotDrainedError(Exception):
    """Not every command was accepted in time."""


class _Tally:
    """How many orders all agents together have taken, and the size of what carried them."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.orders = 0
        self.requests = 0
        self.bytes = 0
        self.done = asyncio.Event()

    def add(self, orders: int, size: int) -> None:
        self.requests += 1
        self.bytes += size
        self.orders += orders
        if self.orders >= self._wanted:
            self.done.set()


class _Agent(LightAgent):
    """Takes what it is sent; or, for the raw side, answers anything at once."""

    def __init__(self, identity: SimulatedIdentity, server_key: bytes, tally: _Tally) -> None:
        super().__init__(identity, server_key)
        self._tally = tally
        self._said = b""
        self.raw = False

    def answer(self, data: bytes) -> bytes:
        if self.raw:
            return self._said
        before = len(self.received)
        self._said = self.reply_to(data)
        self._tally.add(len(self.received) - before, len(data))
        return self._said

    async def arrive(self, nats_url: str) -> float:
        """Connect and say hello; returns when it was let in."""
        await self.connect([nats_url])
        let_in = time.perf_counter()
        await self.hello(DRAINED_S)
        return let_in


class _Round:
    def __init__(self) -> None:
        self.ours = 0.0
        self.raw = 0.0
        self.extra: dict[str, float] = {}


async def run(options: BenchOptions) -> BenchResult:
    """Rounds of fresh agents, each followed by the engines alone; medians."""
    agents, each = options.agents or options.scaled(AGENTS), EACH
    async with bench_fleet(options) as fleet:
        make_raw_table(fleet.url)
        rounds = [await _round(fleet, agents, each) for _ in range(ROUNDS)]
    value, limit = (statistics.median(one.ours for one in rounds), statistics.median(one.raw for one in rounds))
    extra = {key: statistics.median(one.extra[key] for one in rounds) for key in rounds[0].extra}
    count = agents * each
    return BenchResult(
        name=NAME, value=value, unit="commands/s", limit=limit, ratio=value / limit, n=count, extra=extra
    )


def _commands(fleet: BenchFleet, agent_ids: list[AgentId], each: int) -> Iterator[Change]:
    now = datetime.now(UTC)
    for _ in range(each):
        for agent_id in agent_ids:
            queued = CommandQueued(
                agent_id=agent_id,
                client_id=fleet.client_id,
                site_id=fleet.site_id,
                spec=RunShell(shell=Shell.SH, line="systemctl is-active ssh && uptime"),
                expires_at=now + timedelta(days=30),
            )
            yield Command(new_id()).queue(queued, now)


async def _round(fleet: BenchFleet, count: int, each: int) -> _Round:
    result = _Round()
    tally = _Tally(count * each)
    agents = [_Agent(identity, fleet.keys.delivery.public, tally) for identity in await fleet.enroll(count)]
    metadata = Metadata(actor="system", correlation_id=new_id())
    after = await fleet.log.append_bulk(_commands(fleet, [agent.agent_id for agent in agents], each), metadata)
    await fleet.rested()
    connection = await psycopg.AsyncConnection.connect(app_conninfo(fleet.url), autocommit=True)
    async with connection:
        used, begun = fleet.cpu_s(), time.perf_counter()
        async with asyncio.timeout(DRAINED_S):
            let_in = await asyncio.gather(*(agent.arrive(fleet.nats_url) for agent in agents))
            await tally.done.wait()
            said = time.perf_counter()
            while await _accepted(connection, after) < count * each:  # noqa: ASYNC110 -- no event tells of a commit
                await asyncio.sleep(0.002)
        ended = time.perf_counter()
    result.ours = count * each / (ended - begun)
    result.extra = {
        "all_connected_s": max(let_in) - begun,
        "all_answered_s": said - begun,
        "all_committed_s": ended - begun,
        "per_second_from_first_let_in": count * each / (ended - min(let_in)),
        "gateway_cpu_s": fleet.cpu_s() - used,
        "redelivered": float(sum(agent.redelivered for agent in agents)),
    }
    errors = [error for agent in agents for error in agent.errors]
    if errors:
        raise NotDrainedError(f"{len(errors)} deliveries were refused by their agents: {errors[0]}")
    copy_s = await asyncio.to_thread(_raw_copy, fleet.url, after)
    request_s = await _raw_requests(fleet, agents, tally)
    result.raw = count * each / (copy_s + request_s)
    result.extra |= {"raw_copy_s": copy_s, "raw_requests_s": request_s}
    await asyncio.gather(*(agent.close() for agent in agents))
    return result


async def _accepted(connection: psycopg.AsyncConnection, after: int) -> int:
    row = await (await connection.execute(f"SELECT count(*) {_ACCEPTED}", {"after": after})).fetchone()
    return int(row[0]) if row is not None else 0


def _raw_copy(url: str, after: int) -> float:
    """The same bytes into a table with the same keys and indexes, in one transaction."""
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        rows = connection.cursor()
        with rows.copy(f"COPY (SELECT {COLUMNS} {_ACCEPTED}) TO STDOUT (FORMAT binary)", {"after": after}) as out:
            block = b"".join(bytes(piece) for piece in out)
        begun = time.perf_counter()
        with rows.copy(f"COPY {RAW_TABLE} ({COLUMNS}) FROM STDIN (FORMAT binary)") as copy:
            copy.write(block)
        return time.perf_counter() - begun


async def _raw_requests(fleet: BenchFleet, agents: list[_Agent], tally: _Tally) -> float:
    """One request to each agent over the connections that they have, from a process where the gateway's was."""
    for agent in agents:
        agent.raw = True
    task = Task(
        database_url=fleet.url,
        nats_url=fleet.nats_url,
        size=tally.bytes // tally.requests,
        ask=[f"fleet.{agent.agent_id}.cmd" for agent in agents],
    )
    async with raw_process(task) as seconds:
        return float(seconds)
