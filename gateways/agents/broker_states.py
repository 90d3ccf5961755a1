"""How the NATS servers fare: what they say of themselves when they are asked, kept where whoever looks finds it.

Only gateways may ask, by their connection to the servers' system account. So each asks now and then, and the newest
answer of each server lies beside the log; the API and the command line need no key of NATS to show it.
"""

import asyncio
import time
from datetime import datetime
from typing import Any

import msgspec
import nats.errors
import psycopg
import structlog
from nats.aio.client import Client
from psycopg.rows import tuple_row

from command_bus.postgres import AsyncPool
from gateways.cancelling import end

_log = structlog.get_logger(__name__)
EVERY_S = 5.0
REPLY_S = 1.0
"""So long each is waited for."""
SILENT_AFTER_S = 15.0
"""Who has not answered for so long is shown as silent."""
_FORGET_S = 3600
# Another gateway may have written just now, and a server that was begun again has another id under its name.
_KEEP = """
    WITH told AS (SELECT * FROM json_to_recordset(%(told)s) AS new (server_id text, name text, state jsonb)),
    gone AS (
        DELETE FROM fleetlog.nats_servers AS old
        WHERE old.server_id NOT IN (SELECT server_id FROM told) AND (
            old.name IN (SELECT name FROM told) OR old.seen_at < clock_timestamp() - make_interval(secs => %(forget_s)s)
        )
    )
    INSERT INTO fleetlog.nats_servers (server_id, name, state)
    SELECT server_id, name, state FROM told ORDER BY server_id
    ON CONFLICT (server_id) DO UPDATE SET name = excluded.name, state = excluded.state, seen_at = clock_timestamp()
    WHERE nats_servers.seen_at < clock_timestamp() - make_interval(secs => %(rest_s)s)
"""
_LIST = """
    SELECT server_id, name, state, extract(epoch FROM clock_timestamp() - seen_at)::float8
    FROM fleetlog.nats_servers ORDER BY name, server_id
"""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a NATS server says of itself."""

    version: str
    cluster: str
    """Its cluster's name; empty where it is alone."""
    jetstream: bool
    started_at: datetime
    connections: int
    subscriptions: int
    slow_consumers: int
    """Clients that it has cut off since it began, since they did not keep up."""
    routes: int
    """Connections to the other servers of its cluster."""
    memory_bytes: int
    cpu_percent: float
    in_messages_per_s: float | None
    """None until it has been asked twice."""
    in_bytes_per_s: float | None
    out_messages_per_s: float | None
    out_bytes_per_s: float | None


class Broker(msgspec.Struct, frozen=True):
    """A NATS server, as it was last heard of."""

    id: str
    name: str
    ok: bool
    """It has answered lately."""
    last_word_s: float
    state: State


class _Flow(msgspec.Struct, frozen=True):
    msgs: int = 0
    bytes: int = 0


class _Server(msgspec.Struct, frozen=True):
    id: str
    time: datetime
    name: str = ""
    ver: str = ""
    cluster: str = ""
    jetstream: bool = False


class _Stats(msgspec.Struct, frozen=True):
    start: datetime
    mem: int = 0
    cpu: float = 0.0
    connections: int = 0
    subscriptions: int = 0
    slow_consumers: int = 0
    sent: _Flow = _Flow()
    received: _Flow = _Flow()
    routes: list[msgspec.Raw] | None = None


class _Statsz(msgspec.Struct, frozen=True):
    server: _Server
    statsz: _Stats


_decode = msgspec.json.Decoder(_Statsz).decode
_decode_state = msgspec.json.Decoder(State).decode


class BrokerStates:
    """Asks the servers for one gateway, and keeps what they say.

    Args:
        system: a connection to their system account.
        pool: to the database.
    """

    def __init__(self, system: Client, pool: AsyncPool) -> None:
        self._system = system
        self._pool = pool
        self._before: dict[str, _Statsz] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._look_for_ever(), name="broker-states")

    async def stop(self) -> None:
        if self._task is not None:
            await end((self._task,))

    async def _look_for_ever(self) -> None:
        while True:
            try:
                if self._system.is_connected:
                    await self.look()
            except (nats.errors.Error, psycopg.OperationalError) as error:
                _log.info("broker_states_waiting", error=str(error).strip() or type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Ask all servers, and keep what they answer.

        Raises:
            nats.errors.Error: the connection went away.
            psycopg.OperationalError: the database is away.
        """
        told = await self._ask()
        if not told:
            return
        rows = [
            {"server_id": one.server.id, "name": one.server.name, "state": _state(one, self._before.get(one.server.id))}
            for one in told
        ]
        self._before = {one.server.id: one for one in told}
        values = {"told": msgspec.json.encode(rows).decode(), "forget_s": _FORGET_S, "rest_s": EVERY_S / 2}
        async with self._pool.connection() as connection:
            await connection.execute(_KEEP, values)

    async def _ask(self) -> list[_Statsz]:
        found: dict[str, _Statsz] = {}
        replies = await self._system.subscribe(self._system.new_inbox())
        try:
            await self._system.publish("$SYS.REQ.SERVER.PING.STATSZ", b"", reply=replies.subject)
            # How many there are nobody says: whoever answers does so within that time.
            until = time.monotonic() + REPLY_S
            while (left_s := until - time.monotonic()) > 0:
                try:
                    one = _decode((await replies.next_msg(left_s)).data)
                except nats.errors.TimeoutError:
                    break
                except msgspec.MsgspecError as error:
                    _log.warning("stats_unreadable", error=str(error))
                    continue
                found[one.server.id] = one
        finally:
            if self._system.is_connected:
                await replies.unsubscribe()
        return list(found.values())


def _state(now: _Statsz, before: _Statsz | None) -> State:
    stats = now.statsz
    span_s = (now.server.time - before.server.time).total_seconds() if before is not None else 0.0

    def rate(count: int, earlier: int) -> float | None:
        return round(max(0, count - earlier) / span_s, 1) if span_s > 0 else None

    then = before.statsz if before is not None else stats
    return State(
        version=now.server.ver,
        cluster=now.server.cluster,
        jetstream=now.server.jetstream,
        started_at=stats.start,
        connections=stats.connections,
        subscriptions=stats.subscriptions,
        slow_consumers=stats.slow_consumers,
        routes=len(stats.routes or ()),
        memory_bytes=stats.mem,
        cpu_percent=stats.cpu,
        in_messages_per_s=rate(stats.received.msgs, then.received.msgs),
        in_bytes_per_s=rate(stats.received.bytes, then.received.bytes),
        out_messages_per_s=rate(stats.sent.msgs, then.sent.msgs),
        out_bytes_per_s=rate(stats.sent.bytes, then.sent.bytes),
    )


async def list_brokers(connection: psycopg.AsyncConnection[Any]) -> list[Broker]:
    """The NATS servers as gateways last heard of them, by name."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        rows = await (await cursor.execute(_LIST)).fetchall()
    return [
        Broker(server_id, name, age_s <= SILENT_AFTER_S, round(age_s, 1), _decode_state(msgspec.json.encode(state)))
        for server_id, name, state, age_s in rows
    ]
