"""A whole platform and a fleet of agents that are connected to it: what the benches of rollouts stand on.

The agents live in this process, over connections of their own. What a machine does on processors of its own and before
it answers (it checks a signature) these do once the clock has stopped: every one of them, and a bad one fails the run.
"""

import asyncio
import contextlib
import gc
import hashlib
import time
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

import msgspec
import psycopg

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.reader import HEAD
from command_bus.rows import COLUMNS
from domain.ids import ClientId, SiteId
from gateways.agents.keys import load_keys
from gateways.bench import usage
from gateways.bench.database import RAW_TABLE, make_raw_table
from gateways.bench.links import LightAgent, Link
from gateways.bench.platform import Http, NotReadyError, Running, running_platform
from gateways.bench.raw_nats import Task, raw_process
from gateways.bench.result import BenchOptions
from gateways.bench.simulated import SimulatedIdentity, enroll_simulated, in_groups
from gateways.local.garbage import look_rarely
from gateways.simulate.fleet import FILES_BESIDE, allow_files
from projections.catalog import INLINE
from schema import wire

CONNECTING = 100
"""Connections made at once."""
DONE_S = 120.0
"""For a round."""
ANSWER_S = 60.0
SCRIPT = "#!/bin/sh\nset -eu\nsystemctl is-active ssh\nuptime\ndf -h / | tail -n 1\n"
RAW = "fleet.*.out.raw"
"""Agents may speak there, and no gateway listens."""
_COUNT: LiteralString = "SELECT count(*) FROM fleetlog.events WHERE topic = %s AND notification_id > %s"
_CHOSEN: LiteralString = f"SELECT {COLUMNS} FROM fleetlog.events WHERE notification_id > %s AND topic = ANY(%s)"  # noqa: S608 -- ours


class NotDoneError(Exception):
    """The rollout did not do in time what it should, or not as it should."""


class Machine(LightAgent):
    """One agent: accepts what it is sent and, where it is told to, reports at once that it has done it."""

    def __init__(self, identity: SimulatedIdentity, server_key: bytes, number: int) -> None:
        super().__init__(identity, server_key)
        printed = f"active\n up {number} days\n/dev/vda1 20G {number % 20}G\n".encode()
        self._printed = wire.StreamReport(
            size=len(printed),
            sha256=hashlib.sha256(printed).hexdigest(),
            tail=printed,
            inline=zlib.compress(printed),
        )
        self._unverified: list[tuple[bytes, bytes]] = []
        self._said = b""
        self.on_orders: Callable[[Machine, list[wire.Order]], None] | None = None
        """Told of what was accepted. Without it, requests are the raw side's, and are answered with the last answer."""
        self.on_end: Callable[[], None] | None = None
        """Told when its connection has ended."""
        self.delivered_bytes = 0
        self.reported_bytes = 0

    def answer(self, data: bytes) -> bytes:
        """See `LightAgent`."""
        if self.on_orders is None:
            return self._said
        before = len(self.received)
        self._said = self.reply_to(data)
        self.delivered_bytes = len(data)
        self.on_orders(self, self.received[before:])
        return self._said

    def on_lost(self, link: Link) -> None:
        """See `LightAgent`."""
        del link
        if self.on_end is not None:
            self.on_end()

    def _verify(self, signature: bytes, data: bytes) -> None:
        self._unverified.append((signature, data))

    def check(self) -> None:
        """Check what was not checked yet.

        Raises:
            InvalidSignature: the server did not sign it.
        """
        for signature, data in self._unverified:
            super()._verify(signature, data)
        self._unverified.clear()

    async def report(self, order: wire.Order) -> int:
        """Report the result until it is acknowledged; returns how often it had to be repeated."""
        now = datetime.now(UTC)
        message = wire.encode(
            wire.ResultReport(
                command_id=order.command_id,
                attempt=order.attempt,
                outcome="succeeded",
                exit_code=0,
                started_at=now,
                finished_at=now,
                stdout=self._printed,
            )
        )
        self.reported_bytes = len(message)
        repeated = 0
        while True:
            reply = wire.decode_uplink_reply(await self.ask_raw("result", message, ANSWER_S))
            if not isinstance(reply, wire.Refused):
                return repeated
            if reply.permanent:
                raise NotDoneError(f"A result was refused: {reply.code} {reply.detail}")
            repeated += 1
            await asyncio.sleep(reply.retry_after_s or 1.0)


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """A platform with connected agents and a script for them."""

    running: Running
    machines: list[Machine]
    script_id: str

    @property
    def url(self) -> str:
        """Of the database."""
        return self.running.platform.postgres_url

    async def rested(self) -> int:
        """Wait until what came before is done; returns the log's head."""
        await usage.rested(self.running.pid)
        return await self.head()

    async def head(self) -> int:
        """Of the log, now."""
        return await log_head(self.url)

    def http(self) -> Http:
        """A fresh connection to the API, which closes those that rest for long."""
        return Http(self.running.platform.api_url, self.running.key)

    async def start(self, http: Http) -> UUID:
        """One script for everybody; returns the rollout's id."""
        return await start_rollout(http, self.script_id, len(self.machines))

    async def until_recorded(self, topic: str, after: int) -> None:
        """Wait until there is an event of a kind from every agent."""
        async with await psycopg.AsyncConnection.connect(app_conninfo(self.url), autocommit=True) as connection:
            while await _number(connection, _COUNT, topic, after) < len(self.machines):  # noqa: ASYNC110 -- as in drain
                await asyncio.sleep(0.005)

    def hear(self, on_orders: Callable[[Machine, list[wire.Order]], None] | None) -> None:
        """What agents do with what they accept."""
        for machine in self.machines:
            machine.on_orders = on_orders

    def check(self) -> None:
        """Raise unless every agent got each of its commands once and signed."""
        for machine in self.machines:
            machine.check()
            if machine.errors or machine.redelivered:
                raise NotDoneError(f"redelivered: {machine.redelivered}, errors: {machine.errors}")

    # -- the engines alone -----------------------------------------------------------------------------------------

    async def raw_copy_s(self, after: int, *topics: str) -> float:
        """Seconds for one COPY of the very rows that were recorded since, into a table with the same indexes."""
        return await asyncio.to_thread(raw_copy_s, self.url, after, topics)

    async def raw_requests_s(self) -> float:
        """Seconds for one request of the same size to each agent, from a process where the gateway's was."""
        self.hear(None)
        subjects = [wire.command_subject(machine.agent_id) for machine in self.machines]
        task = self._task(self.machines[0].delivered_bytes, ask=subjects)
        async with raw_process(task) as seconds:
            return float(seconds)

    async def raw_reports_s(self) -> float:
        """Seconds for one request of the same size from each agent, to a process that answers at once."""
        body = bytes(self.machines[0].reported_bytes)
        async with raw_process(self._task(len(wire.encode(wire.Acknowledged())), serve=RAW)):
            begun = time.perf_counter()
            subjects = [(machine.link, f"fleet.{machine.agent_id}.out.raw") for machine in self.machines]
            await asyncio.gather(*(link.request(subject, body, ANSWER_S) for link, subject in subjects))
            return time.perf_counter() - begun

    def _task(self, size: int, *, ask: Sequence[str] = (), serve: str = "") -> Task:
        nats_url = self.running.platform.nats_url
        return Task(database_url=self.url, nats_url=nats_url, size=size, ask=list(ask), serve=serve)


@contextlib.asynccontextmanager
async def connected_fleet(options: BenchOptions, agents: int) -> AsyncIterator[Fleet]:
    """`fleetlog up`, and so many agents that are enrolled, connected and have said hello."""
    count = options.agents or options.scaled(agents)
    allow_files(count + FILES_BESIDE)
    async with running_platform() as running:
        async with Http(running.platform.api_url, running.key) as http:
            identities = await enroll(running, http, count)
            script_id = await add_script(http)
        server_key = load_keys(running.platform.postgres_url).delivery.public
        machines = [Machine(identity, server_key, number) for number, identity in enumerate(identities)]
        # As in the processes of the platform: or this half would be the slower one.
        look_rarely()
        gc.freeze()
        nats_url = running.platform.nats_url

        def arrive(machine: Machine) -> Callable[[], asyncio.Future[None]]:
            return lambda: asyncio.ensure_future(_arrive(machine, nats_url))

        await in_groups([arrive(machine) for machine in machines], CONNECTING)
        make_raw_table(running.platform.postgres_url)
        fleet = Fleet(running=running, machines=machines, script_id=script_id)
        await fleet.rested()
        try:
            yield fleet
        finally:
            await asyncio.gather(*(machine.close() for machine in machines))
            gc.unfreeze()


async def _arrive(machine: Machine, nats_url: str) -> None:
    await machine.connect([nats_url])
    reply = await machine.hello(ANSWER_S)
    if not isinstance(reply, wire.HelloReply):
        raise NotReadyError(f"Not the answer to a hello: {reply}")


async def enroll(running: Running, http: Http, count: int) -> list[SimulatedIdentity]:
    """Agents of the first site."""
    while not (sites := (await http.json("GET", "/api/v1/sites"))["items"]):  # noqa: ASYNC110 -- nothing to wait on
        await asyncio.sleep(0.05)  # the projector is still on its way to it
    site = sites[0]
    log = PostgresEventLog(running.platform.postgres_url, inline=INLINE, name="bench")
    await log.start()
    try:
        return await enroll_simulated(log, count, ClientId(UUID(site["client_id"])), SiteId(UUID(site["id"])))
    finally:
        await log.stop()


async def add_script(http: Http) -> str:
    """The script that everybody runs; returns its id."""
    script = await http.json("POST", "/api/v1/scripts", {"name": "look", "content": {"shell": "sh", "body": SCRIPT}})
    return str(script["id"])


async def start_rollout(http: Http, script_id: str, count: int) -> UUID:
    """POST a rollout of the script to everybody.

    Raises:
        NotDoneError: it is not for as many as it should be.
    """
    body = {
        "name": "look at all of them",
        "target": {"include": {"everything": True}},
        "spec": {"kind": "run_script", "script_id": script_id},
    }
    told = await http.json("POST", "/api/v1/rollouts", body)
    if told["targeted"] != count:
        raise NotDoneError(f"The rollout is for {told['targeted']} agents, not {count}.")
    return UUID(told["id"])


def raw_copy_s(url: str, after: int, topics: Sequence[str]) -> float:
    """Seconds for one COPY of what the log got of some kinds since a position, into a table with the same indexes."""
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        rows = connection.cursor()
        with rows.copy(f"COPY ({_CHOSEN}) TO STDOUT (FORMAT binary)", (after, list(topics))) as out:
            block = b"".join(bytes(piece) for piece in out)
        begun = time.perf_counter()
        with rows.copy(f"COPY {RAW_TABLE} ({COLUMNS}) FROM STDIN (FORMAT binary)") as copy:
            copy.write(block)
        return time.perf_counter() - begun


async def log_head(url: str) -> int:
    """The log's last position."""
    async with await psycopg.AsyncConnection.connect(app_conninfo(url), autocommit=True) as connection:
        return await _number(connection, HEAD)


async def _number(connection: psycopg.AsyncConnection, statement: LiteralString, *arguments: object) -> int:
    row = await (await connection.execute(statement, arguments)).fetchone()
    return int(row[0]) if row is not None else 0
