"""`forward`: a log that is there, forwarded to one destination of each kind, one kind after the other.

The forwarder is the one that serves, in this process; the receivers are one of their own, which reads what comes and
keeps nothing. The value is a webhook in batches, the limit the very same requests sent over one connection with nothing
of ours around them: no reading, no envelope, no signature, no cursor. The others are in `extra`, with their own limits.
"""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

import nats
import psycopg

from command_bus.context import Caller
from command_bus.handlers.destinations import DestinationHandlers
from command_bus.ids import new_id
from command_bus.intents.destinations import AddDestination, PauseDestination
from command_bus.keystore import DESTINATIONS, Keystore
from command_bus.master_keys import GivenKeys, MasterKey
from command_bus.postgres import app_conninfo, open_pool
from command_bus.postgres_log import PostgresEventLog
from gateways.bench.append import AGENTS, bench_metadata, queued_commands
from gateways.bench.database import bench_database
from gateways.bench.result import BenchOptions, BenchResult
from gateways.forward.envelope import BATCH, SINGLE, Outgoing, batched
from gateways.forward.guard import Guard, networks
from gateways.forward.service import Forwarder
from gateways.forward.syslog import message
from gateways.local.servers import EmbeddedNats, embedded_servers

NAME = "forward"
EVENTS = 20_000
AT_ONCE = 100
"""Of a webhook in batches."""
PAGE = 1_000
LOOK_S = 0.01
PATIENCE_S = 600.0
HERE = "127.0.0.1"
SUBJECT = "bench.forward"
_KEYS = GivenKeys([MasterKey(bytes(32))])
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_END = b"\r\n\r\n"


async def run(options: BenchOptions) -> BenchResult:
    """Forward all of it to each kind in turn, and send the same bytes raw."""
    count = options.scaled(EVENTS)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(bench_database(options))
        log = PostgresEventLog(url, name="bench")
        await log.start()
        stack.push_async_callback(log.stop)
        pool = await open_pool(url, name="bench-forward")
        stack.push_async_callback(pool.close)
        await log.append_bulk(queued_commands(count, AGENTS), bench_metadata())
        events = await _all(log)
        http, syslog = await stack.enter_async_context(_receivers())
        server = await stack.enter_async_context(_stream())
        bus = Destinations(url, log, DestinationHandlers(log, new_id, Keystore(pool, _KEYS, DESTINATIONS)))
        hook = {"kind": "webhook", "url": f"http://{HERE}:{http}/in"}
        forwarded = {
            "webhook_batched": await bus.rate(count, hook | {"batch": AT_ONCE}),
            "webhook": await bus.rate(count, hook),
            "syslog": await bus.rate(count, {"kind": "syslog", "host": HERE, "port": syslog, "transport": "tcp"}),
            "nats": await bus.rate(count, {"kind": "nats", "url": server.url, "subject": SUBJECT}),
        }
        batches = [events[at : at + AT_ONCE] for at in range(0, count, AT_ONCE)]
        raw = {
            "webhook_batched": count / await _post(http, [(batched(one), BATCH) for one in batches]),
            "webhook": count / await _post(http, [(one.body, SINGLE) for one in events]),
            "syslog": count / await _write(syslog, [message(one, 13, "bench", one.body) for one in events]),
            "nats": count / await _publish(server.url, [one.body for one in events]),
        }
    extra = {f"{kind}_per_s": rate for kind, rate in forwarded.items() if kind != "webhook_batched"}
    extra |= {f"{kind}_limit_per_s": rate for kind, rate in raw.items() if kind != "webhook_batched"}
    value, limit = forwarded["webhook_batched"], raw["webhook_batched"]
    return BenchResult(name=NAME, value=value, unit="events/s", limit=limit, ratio=value / limit, n=count, extra=extra)


class Destinations:
    """Added one after the other, each forwarded to from the beginning.

    Args:
        url: the database.
        log: the event log.
        handlers: of destinations.
    """

    def __init__(self, url: str, log: PostgresEventLog, handlers: DestinationHandlers) -> None:
        self._url = url
        self._log = log
        self._handlers = handlers

    async def rate(self, count: int, to: dict[str, Any]) -> float:
        """How many of so many events arrive at one in a second, from when it is taken up."""
        intent = AddDestination.model_validate({"name": f"{to['kind']} {new_id()}", "to": to, "after": "beginning"})
        destination_id = UUID(await self._decide(self._handlers.add, intent))
        forwarder = Forwarder(self._url, _KEYS, Guard(networks(f"{HERE}/32")), look_s=LOOK_S)
        with psycopg.connect(app_conninfo(self._url), autocommit=True) as connection:
            await forwarder.start()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while self._position(connection, destination_id) is None:  # noqa: ASYNC110 - another task moves it
                        await asyncio.sleep(LOOK_S)
                    begun = time.perf_counter()
                    while (self._position(connection, destination_id) or 0) < count:  # noqa: ASYNC110 - as above
                        await asyncio.sleep(LOOK_S)
                took = time.perf_counter() - begun
            finally:
                await forwarder.stop()
        await self._decide(self._handlers.pause, PauseDestination(destination_id=destination_id))
        return count / took

    async def _decide(self, handler: Callable[..., Awaitable[Any]], intent: Any) -> str:
        async with AsyncExitStack() as stack:
            decision = await handler(intent, Caller(actor="key:bench", correlation_id=new_id()), stack)
            await self._log.append(decision.changes, bench_metadata())
        return str(decision.answer["id"])

    def _position(self, connection: psycopg.Connection, destination_id: UUID) -> int | None:
        """Up to where all has arrived; None before it is taken up."""
        row = connection.execute(
            "SELECT position, error FROM fleetlog.forwarding WHERE destination_id = %s", [destination_id]
        ).fetchone()
        if row is not None and row[1]:
            raise RuntimeError(row[1])
        return None if row is None else int(row[0])


async def _all(log: PostgresEventLog) -> list[Outgoing]:
    found: list[Outgoing] = []
    while rows := await log.read_rows(after=found[-1].position if found else 0, limit=PAGE):
        found += [Outgoing(row, "urn:fleetlog:log:bench") for row in rows]
    return found


@asynccontextmanager
async def _receivers() -> AsyncIterator[tuple[int, int]]:
    """The ports of a web server and a syslog receiver, in a process of their own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,))
    process.start()
    try:
        if not await asyncio.to_thread(ours.poll, PATIENCE_S):
            raise TimeoutError("the receivers do not start")
        yield ours.recv()
    finally:
        ours.close()
        await asyncio.to_thread(process.join)


def _serve(parent: Connection) -> None:
    async def serve() -> None:
        http = await asyncio.start_server(_web, HERE, 0)
        syslog = await asyncio.start_server(_drain, HERE, 0)
        parent.send((http.sockets[0].getsockname()[1], syslog.sockets[0].getsockname()[1]))
        # Until whoever started it closes its end.
        await asyncio.to_thread(parent.poll, None)

    asyncio.run(serve())


async def _web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request once its body is there."""
    try:
        while True:
            head = (await reader.readuntil(_END)).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(_ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 20):
        pass
    writer.close()


async def _post(port: int, requests: list[tuple[bytes, str]]) -> float:
    """The requests one after the other, with nothing around them; how long that took."""
    reader, writer = await asyncio.open_connection(HERE, port)
    begun = time.perf_counter()
    for body, kind in requests:
        head = f"POST /in HTTP/1.1\r\nHost: {HERE}:{port}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + _END + body)
        await reader.readuntil(_END)
    took = time.perf_counter() - begun
    writer.close()
    return took


async def _write(port: int, messages: list[bytes]) -> float:
    """The messages until the receiver has closed, which it does when it has read all of them."""
    reader, writer = await asyncio.open_connection(HERE, port)
    begun = time.perf_counter()
    for text in messages:
        writer.write(b"%d %s" % (len(text), text))
        await writer.drain()
    writer.write_eof()
    await reader.read()
    took = time.perf_counter() - begun
    writer.close()
    return took


@asynccontextmanager
async def _stream() -> AsyncIterator[EmbeddedNats]:
    """A NATS server of somebody's own, with a stream at the subject."""
    async with embedded_servers(postgres=False, nats_config="jetstream {}\n") as servers:
        server = servers.nats
        if server is None:
            raise RuntimeError("no NATS server was started")
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="BENCH", subjects=[SUBJECT])
        await client.close()
        yield server


async def _publish(url: str, bodies: list[bytes]) -> float:
    """Each acknowledged before the next, as the order wants it."""
    client = await nats.connect(url)
    stream = client.jetstream()
    begun = time.perf_counter()
    for body in bodies:
        await stream.publish(SUBJECT, body)
    took = time.perf_counter() - begun
    await client.close()
    return took
