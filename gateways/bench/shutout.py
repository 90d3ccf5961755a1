"""`shutout`: POST that an agent is suspended, or retired, until its connection has ended; p99 in ms.

Agents are shut out one after the other while all others stay, suspended and retired in turn: over NATS, until the
server has closed the connection, and over HTTP, until the long poll that stands open is answered with the refusal.

The limit is the engines alone: one durable commit, and the NATS server's own end of a connection, asked for by somebody
who knows which it is.
"""

import asyncio
import statistics
import time
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import msgspec
import psycopg
from nats.aio.client import Client

from command_bus.ids import utc_now
from command_bus.postgres import app_conninfo
from gateways.agents.connection import connect
from gateways.agents.keys import load_keys
from gateways.agents.nats_config import ACCOUNT
from gateways.bench.machines import Fleet, Machine, NotDoneError, connected_fleet, enroll
from gateways.bench.platform import Running
from gateways.bench.result import BenchOptions, BenchResult
from gateways.bench.simulated import SimulatedIdentity
from schema import wire

NAME = "shutout"
AGENTS = 1_000
OVER_NATS = 300
OVER_HTTP = 100
ALONE = 100
ENDED_S = 30.0
POLL_S = 50.0
PAGE = 1_000
AT_ONCE = 25
"""Polls that stand open together: the last one is to outlast those before it."""
WAYS = ("suspend", "retire")
_REFUSED = 400


async def run(options: BenchOptions) -> BenchResult:
    """On a platform of its own."""
    async with connected_fleet(options, AGENTS) as fleet:
        count = len(fleet.machines)
        numbers = [min(options.scaled(number), max(2, count // 3)) for number in (OVER_NATS, OVER_HTTP, ALONE)]
        return await measured(fleet, *numbers)


async def measured(fleet: Fleet, over_nats: int, over_http: int, alone: int) -> BenchResult:
    """What it comes to.

    Args:
        fleet: a connected one; those that are shut out are so afterwards.
        over_nats: how many of its machines are.
        over_http: how many more are, that poll.
        alone: how many connections the engines end without us.
    """
    connected = len(fleet.machines)
    limit = await _alone(fleet, fleet.machines[:alone])
    ended = await _over_nats(fleet, fleet.machines[alone:][:over_nats])
    polls = await _over_http(fleet, over_http)
    value = _p99(ended)
    return BenchResult(
        name=NAME,
        value=value,
        unit="ms",
        limit=_p99(limit),
        ratio=_p99(limit) / value,
        n=len(ended),
        extra={
            "connected": connected,
            "p50_ms": statistics.median(ended),
            "worst_ms": max(ended),
            "http_p50_ms": statistics.median(polls),
            "http_p99_ms": _p99(polls),
            "http_n": len(polls),
            "limit_p50_ms": statistics.median(limit),
        },
    )


def _p99(took: Sequence[float]) -> float:
    return sorted(took)[len(took) * 99 // 100]


class _End:
    """The end of a machine's connection, and when it was."""

    def __init__(self, machine: Machine) -> None:
        self._over: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        machine.on_end = self._ended

    def _ended(self) -> None:
        if not self._over.done():
            self._over.set_result(time.perf_counter())

    async def ms_since(self, begun: float) -> float:
        """How long it took; waits for it."""
        async with asyncio.timeout(ENDED_S):
            return (await self._over - begun) * 1e3


async def _over_nats(fleet: Fleet, machines: Sequence[Machine]) -> list[float]:
    took = []
    await fleet.rested()
    async with fleet.http() as http:
        for number, machine in enumerate(machines):
            end = _End(machine)
            begun = time.perf_counter()
            await http.json("POST", _path(machine.agent_id, number), {"reason": "bench"})
            took.append(await end.ms_since(begun))
    return took


def _path(agent_id: UUID, number: int) -> str:
    return f"/api/v1/agents/{agent_id}/{WAYS[number % len(WAYS)]}"


async def _alone(fleet: Fleet, machines: Sequence[Machine]) -> list[float]:
    """The same by the engines: each connection ends on the word of who knows it, after one durable commit."""
    keys = load_keys(fleet.url)
    system = await connect([fleet.running.platform.nats_url], lambda: keys.system, "bench-system")
    took = []
    try:
        links = await _links(system, [machine.agent_id for machine in machines])
        await fleet.rested()
        with psycopg.connect(app_conninfo(fleet.url), autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS read.shut_out (id uuid PRIMARY KEY)")
            for machine in machines:
                server, number = links[machine.agent_id]
                end = _End(machine)
                begun = time.perf_counter()
                connection.execute("INSERT INTO read.shut_out VALUES (%s)", [uuid4()])
                await system.request(
                    f"$SYS.REQ.SERVER.{server}.KICK", msgspec.json.encode({"cid": number}), timeout=ENDED_S
                )
                took.append(await end.ms_since(begun))
            connection.execute("DROP TABLE read.shut_out")
    finally:
        await system.close()
    return took


async def _links(system: Client, agent_ids: Collection[UUID]) -> dict[UUID, tuple[str, int]]:
    """Server and number of each agent's connection."""
    names = {str(agent_id): agent_id for agent_id in agent_ids}
    found: dict[UUID, tuple[str, int]] = {}
    offset, total = 0, 1
    while offset < total:
        ask = {"auth": True, "acc": ACCOUNT, "sort": "cid", "limit": PAGE, "offset": offset}
        reply = await system.request("$SYS.REQ.SERVER.PING.CONNZ", msgspec.json.encode(ask), timeout=ENDED_S)
        data = msgspec.json.decode(reply.data)["data"]
        for one in data["connections"]:
            if (name := one.get("authorized_user", "")) in names:
                found[names[name]] = data["server_id"], one["cid"]
        offset, total = offset + PAGE, data["total"]
    if len(found) != len(agent_ids):
        raise NotDoneError(f"The NATS server names {len(found)} of {len(agent_ids)} connections.")
    return found


class _Poll:
    """A machine's long poll over a connection of its own."""

    def __init__(self, running: Running, identity: SimulatedIdentity) -> None:
        parts = urlsplit(running.platform.api_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._identity = identity
        self.agent_id = identity.agent_id
        self.over: asyncio.Task[tuple[float, int]]

    async def begin(self) -> None:
        """Ask, to wait as long as one may."""
        body = wire.encode(wire.HttpCheckIn(agent_id=self.agent_id, sent_at=utc_now(), messages=[], wait_s=POLL_S))
        signature = self._identity.key.sign(wire.HTTP_CONTEXT + body).hex()
        reader, writer = await asyncio.open_connection(self._host, self._port)
        head = (
            "POST /api/v1/agent/check-in HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            f"Content-Length: {len(body)}",
            f"{wire.HTTP_SIGNATURE_HEADER}: {signature}",
        )
        writer.write("\r\n".join((*head, "", "")).encode() + body)
        self.over = asyncio.create_task(self._hear(reader, writer))

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[float, int]:
        line = await reader.readuntil(b"\r\n")
        heard = time.perf_counter()
        writer.close()
        return heard, int(line.split(b" ")[1])


async def _over_http(fleet: Fleet, count: int) -> list[float]:
    took: list[float] = []
    async with fleet.http() as http:
        identities = await enroll(fleet.running, http, count)
    for start in range(0, len(identities), AT_ONCE):
        polls = [_Poll(fleet.running, identity) for identity in identities[start : start + AT_ONCE]]
        for poll in polls:
            await poll.begin()
        await fleet.rested()
        async with fleet.http() as http:
            for number, poll in enumerate(polls):
                if poll.over.done():
                    raise NotDoneError(f"A poll was over before its agent was shut out: {poll.over.result()}")
                begun = time.perf_counter()
                await http.json("POST", _path(poll.agent_id, number), {"reason": "bench"})
                async with asyncio.timeout(ENDED_S):
                    heard, status = await poll.over
                if status < _REFUSED:
                    raise NotDoneError(f"The poll of an agent that was shut out was answered with {status}.")
                took.append((heard - begun) * 1e3)
    return took
