"""Receivers as the outside has them: a web server, syslog receivers, a NATS server with streams; and the forwarder."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from command_bus.context import Caller
from command_bus.handlers.destinations import DestinationHandlers
from command_bus.ids import new_id
from command_bus.intents.destinations import AddDestination, Secrets
from command_bus.keystore import DESTINATIONS, Keystore
from command_bus.master_keys import GivenKeys, MasterKey
from command_bus.postgres import open_pool
from command_bus.postgres_log import PostgresEventLog
from domain.event import Recorded
from gateways.forward.guard import Guard, networks
from gateways.forward.service import Forwarder
from projections.catalog import INLINE
from tests.event_log.samples import metadata
from tests.projections.histories import Fleet
from tests.rest.harness import running

KEYS = GivenKeys([MasterKey(bytes(range(32)))])
HERE = Guard(networks("127.0.0.0/8, ::1"))
PATIENCE_S = 60


class Place:
    """A log, and what is forwarded from it."""

    def __init__(self, url: str, log: PostgresEventLog, keystore: Keystore) -> None:
        self.url = url
        self.log = log
        self.handlers = DestinationHandlers(log, new_id, keystore)

    async def decide(self, handler: Callable[..., Awaitable[Any]], intent: Any) -> Any:
        """Have an intent decided and recorded, as the bus does."""
        async with contextlib.AsyncExitStack() as stack:
            decision = await handler(intent, Caller(actor="key:tests", correlation_id=new_id()), stack)
            await self.log.append(decision.changes, metadata())
        return decision

    async def add(self, to: dict[str, Any], *, name: str = "", only: Any = None, **more: Any) -> tuple[UUID, str]:
        """A destination; returns its id and the key that was made for it."""
        secrets = {key: SecretStr(value) for key, value in more.pop("secrets", {}).items()}
        fields = {"name": name or f"d-{new_id()}", "to": to, "only": only or {}, "after": "beginning"} | more
        intent = AddDestination.model_validate(fields | ({"secrets": Secrets(**secrets)} if secrets else {}))
        decision = await self.decide(self.handlers.add, intent)
        return UUID(decision.answer["id"]), decision.secret.get("signing_key", "")

    async def grow(self, steps: int, seed: int = 1) -> None:
        """Record the story of a small fleet, in which nothing is forwarded anywhere."""
        for changes in Fleet(seed).history(steps):
            if not type(changes[0].event).__name__.startswith("Destination"):
                await self.log.append(changes, metadata())

    def row(self, destination_id: UUID) -> tuple[Any, ...]:
        """(position, failures, error, failing since, next try) of a destination; empty if it is not known."""
        with psycopg.connect(self.url, autocommit=True) as owner:
            found = owner.execute(
                "SELECT position, failures, error, failing_since, tries_at FROM fleetlog.forwarding"
                " WHERE destination_id = %s",
                [destination_id],
            ).fetchone()
        return found or ()

    def stuck(self, destination_id: UUID) -> tuple[Any, ...]:
        """(position, type) of the event that a destination does not take."""
        with psycopg.connect(self.url, autocommit=True) as owner:
            found = owner.execute(
                "SELECT stuck_at, stuck_type FROM fleetlog.forwarding WHERE destination_id = %s", [destination_id]
            ).fetchone()
        return found or ()

    @asynccontextmanager
    async def forwarding(
        self, guard: Guard = HERE, count: int = 1, retry_s: float = 0.1
    ) -> AsyncIterator[list[Forwarder]]:
        """Forwarders, as workers run them, and quicker to try again."""
        forwarders = [Forwarder(self.url, KEYS, guard, look_s=0.05, retry_s=retry_s) for _ in range(count)]
        for one in forwarders:
            await one.start()
        try:
            yield forwarders
        finally:
            for one in forwarders:
                await one.stop()


@asynccontextmanager
async def place(url: str) -> AsyncIterator[Place]:
    log = PostgresEventLog(url, inline=INLINE, name="tests", timeout_s=20)
    await log.start()
    pool = await open_pool(url, name="tests-forward")
    try:
        yield Place(url, log, Keystore(pool, KEYS, DESTINATIONS))
    finally:
        await pool.close()
        await log.stop()


async def all_of(log: PostgresEventLog, upto: int | None = None) -> list[Recorded]:
    found: list[Recorded] = []
    while page := await log.read(after=found[-1].position if found else 0, upto=upto, limit=1000):
        found += page
    return found


async def until(seen: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = seen()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)


class Received:
    """CloudEvents in the order in which they came."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def take(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    @property
    def positions(self) -> list[int]:
        """Of each event, where it came for the first time: by its id, which tells repetitions."""
        first: dict[str, int] = {}
        for event in self.events:
            position = int(event["sequence"])
            assert first.setdefault(event["id"], position) == position
        return list(first.values())


class WebReceiver(Received):
    """A web server whose answers the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[dict[str, str], bytes, str]] = []
        self.answer: Callable[[int], Response] = lambda _: Response(status_code=204)
        """To the request of that number."""
        self.holds = 0
        """The request of that number, it has and does not answer until it is to."""
        self.go_on = asyncio.Event()
        self.url = ""

    def of(self, path: str) -> Received:
        """What came at one path."""
        found = Received()
        for _, body, url in self.requests:
            if url == self.url + path:
                events = json.loads(body)
                for event in events if isinstance(events, list) else [events]:
                    found.take(event)
        return found

    async def _hook(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append((dict(request.headers), body, str(request.url)))
        response = self.answer(len(self.requests))
        # A receiver may have it and not come to say so.
        if response.status_code < 300 or response.headers.get("kept"):
            found = json.loads(body)
            for event in found if isinstance(found, list) else [found]:
                self.take(event)
        if len(self.requests) == self.holds:
            await self.go_on.wait()
        return response

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["WebReceiver"]:
        app = Starlette(routes=[Route("/{path:path}", self._hook, methods=["GET", "POST"])])
        async with running(app) as (url, _):
            self.url = url
            yield self


class SyslogReceiver(Received):
    """RFC 5424 with counted octets over TCP or TLS, or a datagram each; takes apart what comes by the letter."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[str] = []
        self.port = 0
        self.most: int | None = None
        """So many messages are read of a connection; then it is reset, as soon as it may be."""
        self.may_reset = asyncio.Event()
        self.may_reset.set()
        self.connections = 0

    def message(self, text: bytes) -> None:
        head, _, body = text.partition(b"{")
        self.heads.append(head.decode("ascii"))
        self.take(json.loads(b"{" + body))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        read = 0
        try:
            while self.most is None or read < self.most:
                length = int((await reader.readuntil(b" "))[:-1])
                self.message(await reader.readexactly(length))
                read += 1
            await self.may_reset.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator["SyslogReceiver"]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, ssl=context, limit=2**22)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @asynccontextmanager
    async def datagrams(self) -> AsyncIterator["SyslogReceiver"]:
        receiver = self

        class Datagrams(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _addr: Any) -> None:
                receiver.message(data)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        self.port = transport.get_extra_info("sockname")[1]
        try:
            yield self
        finally:
            transport.close()
