"""More than a whole platform can take: nothing accepted is lost, every role stays small, and it recovers by itself.

By default a few of everything; FLEETLOG_TEST_OVERLOAD=30 makes it thirty times as much.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import nats.errors
import psutil
import psycopg
import pytest

from command_bus.ids import utc_now
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from domain.ids import ClientId, SiteId
from gateways.agents.keys import load_keys
from gateways.bench.platform import Http
from gateways.bench.simulated import SimulatedAgent, enroll_simulated
from projections.catalog import INLINE
from schema import wire
from tests.topology.harness import Platform

pytestmark = pytest.mark.serial
TIMES = int(os.environ.get("FLEETLOG_TEST_OVERLOAD", "1"))
MIB = 1024 * 1024
PING = {"kind": "ping"}
MOST_MIB = 600
"""Of one role. Bodies and messages under way may take 64 MiB each, and as much again while they are worked on."""
PATIENCE_S = 60.0 * max(1, TIMES // 4)


def roles(platform: Platform) -> dict[str, psutil.Process]:
    found = {}
    for process in psutil.Process(platform.up.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            if "serve" in words:
                found[words[words.index("serve") + 1]] = process
    return found


@contextlib.asynccontextmanager
async def weighed(platform: Platform) -> AsyncIterator[Counter[str]]:
    """The most that each role held in memory while the context was open, in MiB."""
    most: Counter[str] = Counter()
    processes = roles(platform)
    assert {"api", "gateway"} <= processes.keys()

    async def weigh() -> None:
        while True:
            for role, process in processes.items():
                most[role] = max(most[role], process.memory_info().rss // MIB)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(weigh())
    try:
        yield most
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def agents(platform: Platform, count: int) -> list[SimulatedAgent]:
    """Connected ones."""
    url = platform.addresses.postgres_url
    site = next(iter(platform.api.items("/sites")))
    log = PostgresEventLog(url, inline=INLINE, name="overload")
    await log.start()
    identities = await enroll_simulated(log, count, ClientId(UUID(site["client_id"])), SiteId(UUID(site["id"])))
    await log.stop()
    server_key = load_keys(url).delivery.public
    found = [SimulatedAgent(identity, server_key) for identity in identities]
    for agent in found:
        await agent.connect(platform.addresses.nats_url.split(","), reconnect=True)
    return found


def postgres_of(platform: Platform) -> psutil.Process:
    return next(
        process for process in psutil.Process(platform.up.pid).children(recursive=True) if process.name() == "postgres"
    )


async def post(platform: Platform, body: bytes, start: asyncio.Event) -> tuple[int, dict[str, str], bytes]:
    async with Http(platform.url, platform.admin_key) as http:
        await start.wait()
        return await http.send("POST", "/api/v1/commands", body)


async def unread_stream(platform: Platform) -> asyncio.StreamWriter:
    where = urlsplit(platform.url)
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    head = f"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {platform.admin_key}\r\n\r\n"
    writer.write(head.encode())
    return writer


async def large_body(platform: Platform) -> bytes:
    where = urlsplit(platform.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = (
        f"POST /api/v1/commands HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {platform.admin_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {64 * MIB}\r\n\r\n"
    )
    writer.write(head.encode())
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            writer.write(bytes(MIB))
            await writer.drain()
    line = await reader.readline()
    writer.close()
    return line


@pytest.mark.embedded
async def test_a_flood_of_requests_while_the_database_stands_still(platform: Platform) -> None:
    """Hundreds of POSTs, followers that do not read, huge bodies, Postgres stopped: what was accepted is on record."""
    agent = (await agents(platform, 1))[0]
    body = msgspec.json.encode({"agent_id": str(agent.agent_id), "spec": {"kind": "ping"}})
    start = asyncio.Event()
    backends = [postgres_of(platform), *postgres_of(platform).children()]
    async with weighed(platform) as most, asyncio.timeout(PATIENCE_S):
        streams = [await unread_stream(platform) for _ in range(33 * TIMES)]
        posts = [asyncio.create_task(post(platform, body, start)) for _ in range(300 * TIMES)]
        large = [asyncio.create_task(large_body(platform)) for _ in range(3 * TIMES)]
        for process in backends:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        try:
            start.set()
            await asyncio.sleep(2.0)  # the fault's own length
        finally:
            for process in backends:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
        answers = await asyncio.gather(*posts)
        refused = await asyncio.gather(*large)
        for stream in streams:
            stream.close()
    statuses = Counter(status for status, _, _ in answers)
    told_off = Counter(line.split()[1] if line else b"closed" for line in refused)
    figures = {"statuses": dict(statuses), "large": dict(told_off), "most_mib": dict(most)}
    print(figures)  # noqa: T201 -- for who asks with -s
    assert statuses.keys() <= {202, 429, 503}
    assert statuses[202]
    assert all(int(headers["retry-after"]) >= 1 for status, headers, _ in answers if status != 202)
    assert told_off.keys() <= {b"413", b"429", b"503", b"closed"}
    accepted = {msgspec.json.decode(told)["id"] for status, _, told in answers if status == 202}
    unknown = sum(b'"outcome_unknown"' in told for _, _, told in answers)
    on_record = await recorded(platform, agent)
    assert accepted <= on_record
    assert len(on_record - accepted) <= unknown
    assert max(most.values()) < MOST_MIB
    assert platform.api.post("/commands", {"agent_id": str(agent.agent_id), "spec": {"kind": "ping"}})["id"]
    await agent.close()


async def recorded(platform: Platform, agent: SimulatedAgent) -> set[str]:
    async with await psycopg.AsyncConnection.connect(app_conninfo(platform.addresses.postgres_url)) as connection:
        query = "SELECT originator_id::text FROM fleetlog.events WHERE agent_id = %s AND topic LIKE 'CommandQueued/%%'"
        return {row[0] for row in await (await connection.execute(query, [agent.agent_id])).fetchall()}


async def upload(agent: SimulatedAgent, order: wire.Order, raw: bytes, waits: Counter[str]) -> None:
    """What a real agent does with a large output, several chunks at once and each until it is acknowledged."""
    sha256 = hashlib.sha256(raw).hexdigest()
    report = wire.StreamReport(size=len(raw), sha256=sha256, tail=raw[-wire.TAIL_BYTES :])
    chunks: list[wire.Uplink] = [
        wire.OutputChunk(
            command_id=order.command_id,
            attempt=order.attempt,
            sha256=sha256,
            size=len(raw),
            index=index,
            data=zlib.compress(raw[index * wire.CHUNK_BYTES : (index + 1) * wire.CHUNK_BYTES], 1),
        )
        for index in range(-(-len(raw) // wire.CHUNK_BYTES))
    ]
    await asyncio.gather(*(insist(agent, chunk, waits) for chunk in chunks))
    now = utc_now()
    result = wire.ResultReport(
        command_id=order.command_id, attempt=order.attempt, outcome="succeeded", started_at=now, stdout=report
    )
    await insist(agent, result, waits)


async def insist(agent: SimulatedAgent, message: wire.Uplink, waits: Counter[str]) -> None:
    while True:
        try:
            reply = await agent.ask(message, 20.0)
        except (OSError, TimeoutError):
            waits["no answer"] += 1
            continue
        except nats.errors.NoRespondersError:  # the gateway was cut off as too slow, and comes back
            waits["nobody listens"] += 1
            await asyncio.sleep(random.uniform(0.5, 1.5))
            continue
        if not isinstance(reply, wire.Refused):
            return
        assert not reply.permanent, reply
        waits[reply.code] += 1
        await asyncio.sleep((reply.retry_after_s or 1.0) * random.uniform(1.0, 1.5))


async def flood(agent: SimulatedAgent, count: int) -> None:
    hello = wire.encode(wire.Hello(agent_version="flood", sent_at=utc_now()))
    subject = wire.uplink_subject(agent.agent_id, "hello")
    for number in range(count):
        await agent.client.publish(subject, hello, reply=agent.client.new_inbox())
        if number % 500 == 0:
            await agent.client.flush(30)


async def test_outputs_from_everybody_at_once_beside_a_flood(platform: Platform) -> None:
    """Agents that all send large outputs at once, and two that say hello without end: every result is kept."""
    fleet = await agents(platform, 8 * TIMES)
    mad = await agents(platform, 2)
    ids = {
        agent.agent_id: platform.api.post("/commands", {"agent_id": str(agent.agent_id), "spec": PING})["id"]
        for agent in fleet
    }
    outputs = [random.randbytes(4 * MIB + number) for number in range(len(fleet))]
    waits: Counter[str] = Counter()
    async with weighed(platform) as most, asyncio.timeout(PATIENCE_S):
        for agent in fleet:
            await agent.hello(30.0)
            await agent.until(lambda agent=agent: agent.received, 30.0)
        floods = [asyncio.create_task(flood(agent, 5_000 * TIMES)) for agent in mad]
        await asyncio.gather(
            *(upload(agent, agent.received[0], raw, waits) for agent, raw in zip(fleet, outputs, strict=True))
        )
        await asyncio.gather(*floods)
    print({"waits": dict(waits), "most_mib": dict(most)})  # noqa: T201 -- as above
    for agent in fleet:
        told: Any = platform.api.get(f"/commands/{ids[agent.agent_id]}", wait_s=30)
        assert (told["state"], told["result"]["stdout"]["size"] >= 4 * MIB) == ("succeeded", True)
    assert max(most.values()) < MOST_MIB
    for agent in (*fleet, *mad):
        await agent.close()
