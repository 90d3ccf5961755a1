"""Forwarding, as a part of the worker role: takes destinations up, and sends to each by itself.

Any number of workers may run. A destination is its worker's whose connection holds the destination's advisory lock, and
Postgres takes that back the moment the connection ends; whoever has lost the connection stops sending. A lock that is
thought lost while it is held costs nothing but a repetition: see `gateways.forward.sender`.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, LiteralString
from uuid import UUID

import msgspec
import psycopg
import structlog

from command_bus.context import Clock
from command_bus.event_log import EventLogError, Selection
from command_bus.handlers.destinations import opened
from command_bus.ids import utc_now
from command_bus.keystore import DESTINATIONS, Keystore
from command_bus.master_keys import MasterKeys
from command_bus.postgres import BY_INDEX, AsyncPool, app_conninfo, make_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load_many
from domain.codec import UndecodableEventError
from domain.destinations import (
    Destination,
    DestinationAdded,
    DestinationChanged,
    DestinationPaused,
    DestinationRemoved,
    DestinationResumed,
    DestinationSkipped,
    NatsSubject,
    Syslog,
    SyslogTransport,
    Webhook,
)
from domain.errors import NoMasterKeyError
from gateways.cancelling import end
from gateways.forward.channel import Channel
from gateways.forward.cursors import Cursors
from gateways.forward.envelope import source_of
from gateways.forward.errors import ForwardError
from gateways.forward.guard import Guard
from gateways.forward.nats import NatsChannel
from gateways.forward.selecting import Selecting
from gateways.forward.sender import FIRST_RETRY_S, Sender
from gateways.forward.syslog import DatagramChannel, StreamChannel, own_name
from gateways.forward.webhook import WebhookChannel

LOOK_S = 1.0
"""So soon at the latest a destination that was added, changed, paused or left by another is noticed."""
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
CONNECTIONS = 4
"""For cursors: each of their statements takes a moment."""
_TYPES = tuple(
    one.__name__
    for one in (
        DestinationAdded,
        DestinationChanged,
        DestinationPaused,
        DestinationResumed,
        DestinationSkipped,
        DestinationRemoved,
    )
)
_LOCK: LiteralString = "SELECT pg_try_advisory_lock(hashtextextended('fleetlog forward ' || %s::uuid, 0))"
_UNLOCK: LiteralString = "SELECT pg_advisory_unlock(hashtextextended('fleetlog forward ' || %s::uuid, 0))"
_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.UndefinedTable,  # not migrated yet
    psycopg.errors.InvalidSchemaName,
    EventLogError,
    UndecodableEventError,  # of a newer version: its own workers send there
)

_log = structlog.get_logger(__name__)
Connection = psycopg.AsyncConnection[Any]


class _Running(msgspec.Struct):
    """A destination that this process sends to."""

    version: int
    task: asyncio.Task[None]


class Forwarder:
    """The service.

    Args:
        url: the database.
        master_keys: what destinations' secrets are sealed under.
        guard: says where may be sent to.
        clock: now.
        look_s: how often destinations are looked at.
        retry_s: see `Sender`.
    """

    def __init__(
        self,
        url: str,
        master_keys: MasterKeys,
        guard: Guard,
        *,
        clock: Clock = utc_now,
        look_s: float = LOOK_S,
        retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._url = url
        self._guard = guard
        self._clock = clock
        self._look_s = look_s
        self._retry_s = retry_s
        self._log = PostgresEventLog(url, name="forward")
        self._pool: AsyncPool = make_pool(url, max_size=CONNECTIONS, name="fleetlog-forward-cursors", settings=BY_INDEX)
        self._keystore = Keystore(self._pool, master_keys, DESTINATIONS)
        self._cursors = Cursors(self._pool)
        self._running: dict[UUID, _Running] = {}
        self._seen = -1
        self._destinations: dict[UUID, Destination] = {}
        self._source = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def sends_to(self) -> Sequence[UUID]:
        """Those that this process has taken up."""
        return list(self._running)

    async def start(self) -> None:
        """Begin; waits for nothing."""
        self._task = asyncio.create_task(self._run(), name="forwarder")

    async def stop(self) -> None:
        """Send nothing more; others take up what was left."""
        if self._task is not None:
            await end([self._task])
        await self._log.stop()
        await self._pool.close()

    async def wait(self) -> None:
        """Return or raise when it is over."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        await self._pool.open(wait=False)
        await self._log.start()
        wait_s = FIRST_WAIT_S
        while True:
            try:
                conninfo = app_conninfo(str(self._url), name="fleetlog-forward")
                async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                    wait_s = FIRST_WAIT_S
                    await self._lead(connection)
            except _PASSING as error:
                _log.warning("forwarder_waits", error=str(error).strip(), wait_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _lead(self, connection: Connection) -> None:
        """Hold locks, and send, for as long as the connection is up."""
        self._seen = -1
        try:
            while True:
                await connection.execute("SELECT 1")
                await self._read_destinations()
                await self._settle(connection)
                await asyncio.sleep(self._look_s)
        finally:
            try:
                await end([one.task for one in self._running.values()])
            finally:
                self._running.clear()

    async def _read_destinations(self) -> None:
        last = await self._log.read_rows(Selection(types=_TYPES), limit=1, backwards=True)
        position = last[0][0] if last else 0
        if position == self._seen:
            return
        found: list[UUID] = []
        after = 0
        while rows := await self._log.read_rows(Selection(types=(DestinationAdded.__name__,)), after=after, limit=500):
            found += [row[1] for row in rows]
            after = rows[-1][0]
        self._destinations = await load_many(self._log, Destination, found)
        if not self._source:
            first = await self._log.read_rows(limit=1)
            self._source = source_of(first[0]) if first else ""
        self._seen = position

    async def _settle(self, connection: Connection) -> None:
        """Have that run which is to run, and nothing else."""
        for destination_id, running in list(self._running.items()):
            destination = self._destinations.get(destination_id)
            as_it_was = destination is not None and destination.active and destination.version == running.version
            if as_it_was and not running.task.done():
                continue
            await end([running.task])
            del self._running[destination_id]
            if destination is None or not destination.active:
                await connection.execute(_UNLOCK, [destination_id])
                _log.info("forwarding_left", destination=destination.name if destination is not None else "")
            else:
                self._begin(destination)
        for destination_id, destination in self._destinations.items():
            if destination.removed and destination_id not in self._running:
                await self._cursors.forget(destination_id)
                continue
            if not destination.active or destination_id in self._running:
                continue
            cursor = await connection.execute(_LOCK, [destination_id])
            if await cursor.fetchone() == (True,):
                _log.info("forwarding_taken_up", destination=destination.name)
                self._begin(destination)
        self._destinations = {key: one for key, one in self._destinations.items() if not one.removed}

    def _begin(self, destination: Destination) -> None:
        sender = Sender(
            destination.stream_id,
            destination.name,
            Selecting(self._log, destination.only),
            destination.skips,
            destination.after,
            partial(self._channel, destination),
            self._log,
            self._cursors,
            self._source,
            self._clock,
            retry_s=self._retry_s,
        )
        task = asyncio.create_task(sender.run(), name=f"forward-{destination.stream_id}")
        self._running[destination.stream_id] = _Running(destination.version, task)

    async def _channel(self, destination: Destination) -> Channel:
        """A new way to a destination.

        Raises:
            ForwardError: its secrets cannot be opened.
        """
        told: dict[str, str] = {}
        if destination.value_id is not None:
            try:
                told = await opened(self._keystore, destination.value_id)
            except NoMasterKeyError as error:
                raise ForwardError(error.detail) from error
        match destination.to:
            case Webhook() as to:
                return WebhookChannel(to, told, self._guard, self._clock)
            case NatsSubject() as to:
                return NatsChannel(to, told, self._guard)
            case Syslog(transport=SyslogTransport.UDP) as to:
                return DatagramChannel(to, self._guard, own_name())
            case Syslog() as to:
                return StreamChannel(to, self._guard, own_name())
