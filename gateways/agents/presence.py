"""Who is connected: from the NATS servers' own words, so that it is known within a moment.

Every gateway hears every connect and disconnect and keeps the same picture; each records what changed, and the log
takes each change once (`PresenceHandler` compares with the last event). So no gateway's death loses a departure while
another lives; and when one starts, when a server comes or goes, and once a minute, the picture is compared with the
servers' lists of connections and with what is on record.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import msgspec
import nats.errors
import psycopg
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from command_bus.context import Clock
from command_bus.event_log import EventLogError
from command_bus.handlers.presence import Arrival, Departure, PresenceHandler
from command_bus.postgres import AsyncPool
from domain.errors import DomainError
from domain.ids import AgentId
from gateways.agents import metrics
from gateways.agents.brokers import Brokers, Link
from gateways.agents.directory import Directory, Entry
from gateways.agents.duplicates import There
from gateways.agents.nats_config import ACCOUNT
from gateways.cancelling import end
from schema import wire
from schema.arrays import uuids

_log = structlog.get_logger()
PENDING_ADVISORIES = 200_000
"""Heard and not looked at yet; were there ever more, the picture is compared with the servers' lists."""
FLUSH_S = 0.05
TELEMETRY_S = 1.0
RECONCILE_S = 60.0
CROWD_S = 1.0
"""By then the end of the connection that another one replaced has been heard of."""
HTTP_GONE_AFTER = timedelta(seconds=150)
"""An agent that checks in over HTTP does so at least each minute."""
_PAGE = 1000
_KICK_AGAIN_S = (0.0, 1.0, 5.0, 25.0)
"""A connect that was under way when the agent was suspended may come to its end after the first kick."""


class _Peer(msgspec.Struct):
    id: int
    user: str = ""
    host: str = ""
    name: str = ""


class _Server(msgspec.Struct):
    id: str


class _Advisory(msgspec.Struct):
    server: _Server
    client: _Peer
    reason: str = ""


_decode_advisory = msgspec.json.Decoder(_Advisory).decode


class Presence:
    """Keeps the picture for one gateway.

    Args:
        system: a connection to the servers' system account.
        directory: of agents.
        handler: records comings and goings.
        pool: to the database, for telemetry and what is on record.
        gateway: this one's name.
        clock: now.
        on_online: called for agents that were found to be there; those that connect say hello themselves.
        crowded: asked whether the last of an agent's connections is another machine's, and is to go.
    """

    def __init__(
        self,
        system: Client,
        directory: Directory,
        handler: PresenceHandler,
        pool: AsyncPool,
        gateway: str,
        clock: Clock,
        on_online: Callable[[Iterable[AgentId]], None],
        crowded: Callable[[AgentId, There], Awaitable[bool]],
    ) -> None:
        self._system = system
        self._brokers = Brokers(system, on_new=self.reconcile_soon, on_gone=self._server_gone)
        self._directory = directory
        self._handler = handler
        self._pool = pool
        self._gateway = gateway
        self._clock = clock
        self._on_online = on_online
        self._crowded = crowded
        self._who: dict[Link, There] = {}
        self._links: dict[AgentId, set[Link]] = {}
        self._changed: dict[AgentId, tuple[str, str]] = {}
        self._seen: set[AgentId] = set()
        self._left_lately: set[Link] | None = None
        """While lists are read: what was heard to be gone since."""
        self._tasks: list[asyncio.Task[None]] = []
        self._kicks: set[asyncio.Task[None]] = set()
        self._reconcile_now = asyncio.Event()
        self._subscription: Any = None

    def online(self, agent_id: AgentId) -> bool:
        return agent_id in self._links

    def there(self, agent_id: AgentId) -> list[There]:
        """An agent's connections, and who is behind each."""
        return [self._who[link] for link in self._links.get(agent_id, ()) if link in self._who]

    def all_online(self) -> list[AgentId]:
        return list(self._links)

    def seen(self, agent_id: AgentId) -> None:
        """It was heard of just now."""
        self._seen.add(agent_id)

    def reconcile_soon(self) -> None:
        self._reconcile_now.set()

    async def start(self) -> None:
        """Listen, and take the first picture; what waits for agents that are there is then looked at."""
        self._subscription = await self._system.subscribe(
            f"$SYS.ACCOUNT.{ACCOUNT}.*", cb=self._on_advisory, pending_msgs_limit=PENDING_ADVISORIES
        )
        await self._system.flush()
        await self._brokers.start()
        self._reconcile_now.set()
        self._tasks = [
            asyncio.create_task(self._every(FLUSH_S, self._flush), name="presence-flush"),
            asyncio.create_task(self._every(TELEMETRY_S, self._flush_seen), name="presence-seen"),
            asyncio.create_task(self._reconcile_for_ever(), name="presence-reconcile"),
        ]

    async def stop(self) -> None:
        await self._brokers.stop()
        await end((*self._tasks, *self._kicks))
        if self._subscription is not None and self._system.is_connected:
            await self._subscription.unsubscribe()
        with contextlib.suppress(EventLogError, psycopg.OperationalError):
            # What is lost here the next gateway finds when it compares.
            await self._flush()
            await self._flush_seen()

    def kick(self, agent_id: AgentId) -> None:
        """End an agent's connections, now and once more when a connect that was under way has ended."""
        task = asyncio.create_task(self._kick(agent_id), name="presence-kick")
        self._kicks.add(task)
        task.add_done_callback(self._kicks.discard)

    async def _kick(self, agent_id: AgentId) -> None:
        for wait_s in _KICK_AGAIN_S:
            await asyncio.sleep(wait_s)
            entry = (await self._directory.get_many((agent_id,))).get(agent_id)
            links = self._unwelcome(agent_id, entry)
            if not links and entry is not None and entry.state == "active":
                return
            for link in links:
                await self._end(link)

    def _unwelcome(self, agent_id: AgentId, entry: Entry | None) -> list[Link]:
        """The connections of an agent that are to end: all of one that is not active, else those of its clones."""
        links = list(self._links.get(agent_id, ()))
        if entry is None or entry.state != "active":
            return links
        there = {link: self._who[link].who for link in links if link in self._who}
        return [link for link, who in there.items() if who is not None and who.machine in entry.barred]

    async def _end(self, link: Link) -> None:
        metrics.KICKS.inc()
        try:
            await self._brokers.kick(link)
        except nats.errors.Error as error:
            # Tried again by whoever asked for it, and at each comparing as long as the connection is there.
            _log.info("kick_unanswered", server=link[0], error=str(error) or type(error).__name__)

    async def _judge_crowd(self, agent_id: AgentId, link: Link) -> None:
        """An agent has two connections: one that ends, or two machines."""
        await asyncio.sleep(CROWD_S)
        newcomer = self._who.get(link)
        links = self._links.get(agent_id, set())
        if newcomer is None or link not in links or len(links) < 2:  # noqa: PLR2004 -- two are a crowd
            return
        try:
            if await self._crowded(agent_id, newcomer):
                await self._end(link)
        except (DomainError, EventLogError, nats.errors.Error) as error:
            _log.info("crowd_not_judged", agent_id=str(agent_id), error=str(error).strip() or type(error).__name__)

    # -- what the servers say --------------------------------------------------------------------------------------

    async def _on_advisory(self, message: Msg) -> None:
        try:
            advisory = _decode_advisory(message.data)
        except msgspec.MsgspecError as error:
            _log.warning("advisory_unreadable", subject=message.subject, error=str(error))
            return
        agent_id = _agent_id(advisory.client.user)
        if agent_id is None:
            return
        link = (advisory.server.id, advisory.client.id)
        if message.subject.endswith(".CONNECT"):
            self._came(agent_id, link, advisory.client.host, advisory.client.name)
        elif message.subject.endswith(".DISCONNECT"):
            self._left(agent_id, link, advisory.reason)

    def _came(self, agent_id: AgentId, link: Link, address: str, name: str = "") -> None:
        self._brokers.heard(link[0])
        links = self._links.setdefault(agent_id, set())
        if link in links:
            return
        links.add(link)
        self._who[link] = There(wire.read_connection_name(name), address)
        if len(links) > 1 and self._who[link].who is not None:
            judging = asyncio.create_task(self._judge_crowd(agent_id, link), name="presence-crowd")
            self._kicks.add(judging)
            judging.add_done_callback(self._kicks.discard)
        self._changed[agent_id] = (address, "")
        self._seen.add(agent_id)

    def _left(self, agent_id: AgentId, link: Link, reason: str) -> None:
        if self._left_lately is not None:
            self._left_lately.add(link)
        links = self._links.get(agent_id)
        if links is None:
            return
        links.discard(link)
        self._who.pop(link, None)
        if not links:
            del self._links[agent_id]
            self._changed[agent_id] = ("", reason)

    def _server_gone(self, server: str) -> None:
        """With it went its connections; its agents come back by another, or it was their only one."""
        for agent_id, link in [(a, link) for a, links in self._links.items() for link in links if link[0] == server]:
            self._left(agent_id, link, "NATS server gone")

    # -- what is recorded ------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        """Record how each agent stands that came or left; it is what stands now that counts, not the steps to it."""
        metrics.ONLINE.set(len(self._links))
        while self._changed:
            group = dict(list(self._changed.items())[:500])
            for agent_id in group:
                del self._changed[agent_id]
            try:
                await self._record(group)
            except EventLogError:
                self._changed = group | self._changed
                raise

    async def _record(self, group: dict[AgentId, tuple[str, str]]) -> None:
        entries = await self._directory.get_many(group)
        arrivals: list[Arrival] = []
        departures: list[Departure] = []
        for agent_id, (address, reason) in group.items():
            entry = entries.get(agent_id)
            if entry is None:
                continue
            if agent_id in self._links:
                if entry.state != "active":
                    # It was let in just before that changed, and its coming is heard of just after.
                    self.kick(agent_id)
                arrivals.append(Arrival(agent_id=agent_id, client_id=entry.client_id, address=address))
            else:
                departure = Departure(
                    agent_id=agent_id, client_id=entry.client_id, reason=reason, last_seen_at=self._clock()
                )
                departures.append(departure)
        if arrivals:
            await self._handler.connected(arrivals, self._gateway)
        if departures:
            await self._handler.disconnected(departures, self._gateway)

    async def _flush_seen(self) -> None:
        seen, self._seen = self._seen, set()
        if not seen:
            return
        try:
            await touch(self._pool, seen, self._gateway)
        except psycopg.OperationalError:
            self._seen |= seen
            raise

    async def _every(self, interval_s: float, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except (EventLogError, psycopg.OperationalError) as error:
                _log.info("presence_waiting", error=str(error).strip())
                await asyncio.sleep(1.0)
            await asyncio.sleep(interval_s)

    # -- comparing -------------------------------------------------------------------------------------------------

    async def _reconcile_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_S):
                    await self._reconcile_now.wait()
            self._reconcile_now.clear()
            try:
                await self.reconcile()
            except (nats.errors.Error, EventLogError, psycopg.OperationalError) as error:
                _log.info("presence_reconcile_failed", error=str(error).strip() or type(error).__name__)
                self._reconcile_now.set()
            await asyncio.sleep(1.0)

    async def reconcile(self) -> None:
        """Compare the picture with the servers' lists, and what is on record with the picture."""
        known = {(agent_id, link) for agent_id, links in self._links.items() for link in links}
        self._left_lately = set()
        try:
            listed, servers = await self._listed()
            for (agent_id, link), (address, name) in listed.items():
                # The list may be older than a disconnect that was heard since.
                if (agent_id, link) not in known and link not in self._left_lately:
                    self._came(agent_id, link, address, name)
                    # Unlike one whose connect was just announced, it listens already and may not say hello for a while.
                    self._on_online((agent_id,))
        finally:
            self._left_lately = None
        for agent_id, link in known - listed.keys():
            # Of a server that is there and was too busy to answer, nothing is known.
            gone = not await self._brokers.connected(link) if link[0] in servers else not self._brokers.there(link[0])
            if gone:
                self._left(agent_id, link, "found gone")
        for page in _pages(list(self._links)):
            for entry in (await self._directory.get_many(page)).values():
                if entry.state != "active":
                    self.kick(entry.agent_id)
        await self._compare_with_record({agent_id: address for (agent_id, _), (address, _) in listed.items()})

    async def _listed(self) -> tuple[dict[tuple[AgentId, Link], tuple[str, str]], set[str]]:
        """All agents' connections by the servers' lists, and the servers that answered."""
        listed: dict[tuple[AgentId, Link], tuple[str, str]] = {}
        servers: set[str] = set()
        async for server, connections in self._brokers.connections():
            servers.add(server)
            for one in connections:
                agent_id = _agent_id(one.authorized_user)
                if agent_id is not None:
                    listed[agent_id, (server, one.cid)] = one.ip, one.name
        return listed, servers

    async def _compare_with_record(self, addresses: Mapping[AgentId, str]) -> None:
        for agent_id in await self._on_record():
            if agent_id not in self._links:
                self._changed.setdefault(agent_id, ("", "found gone"))
        # The other way round: another gateway may have lost sight of a server that this one sees.
        for page in _pages(list(self._links)):
            for agent_id in await self._recorded_as_away(page):
                self._changed.setdefault(agent_id, (addresses.get(agent_id, ""), ""))

    async def _on_record(self) -> list[AgentId]:
        """Agents that are recorded as connected over NATS, and those over HTTP that have not been heard of lately."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT a.agent_id FROM agents AS a LEFT JOIN fleetlog.presence AS p USING (agent_id) WHERE a.online"
                " AND (a.transport <> 'http' OR coalesce(p.last_seen_at, a.connected_at) < %s)",
                [self._clock() - HTTP_GONE_AFTER],
            )
            return [AgentId(row[0]) for row in await cursor.fetchall()]

    async def _recorded_as_away(self, agent_ids: list[AgentId]) -> list[AgentId]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT agent_id FROM agents WHERE agent_id = ANY(%s) AND NOT online", [agent_ids]
            )
            return [AgentId(row[0]) for row in await cursor.fetchall()]


async def touch(pool: AsyncPool, agent_ids: Iterable[AgentId], gateway: str) -> None:
    """Note that agents were heard of just now."""
    async with pool.connection() as connection:
        # Sorted, so that two gateways that note the same agents do not wait for each other in a circle.
        await connection.execute(
            "INSERT INTO fleetlog.presence AS p (agent_id, last_seen_at, gateway)"
            " SELECT wanted, now(), %(gateway)s FROM unnest(%(agent_ids)s::uuid[]) AS wanted"
            " ON CONFLICT (agent_id) DO UPDATE SET last_seen_at = now(), gateway = %(gateway)s",
            {"agent_ids": uuids(sorted(agent_ids, key=attrgetter("int"))), "gateway": gateway},
        )


def _agent_id(user: str) -> AgentId | None:
    try:
        return AgentId(UUID(user))
    except ValueError:
        # One of our own: gateways go by their keys.
        return None


def _pages(agent_ids: list[AgentId]) -> Iterator[list[AgentId]]:
    for start in range(0, len(agent_ids), _PAGE):
        yield agent_ids[start : start + _PAGE]
