"""The gateway role: agents over NATS."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from command_bus.context import Clock, NewId
from command_bus.event_log import EventLog
from command_bus.ids import new_id as fresh_id
from command_bus.ids import utc_now
from command_bus.master_keys import NO_KEYS, MasterKeys
from command_bus.postgres import AsyncPool
from command_bus.refusals import RefusalRecords
from domain.ids import AgentId
from gateways.agents import metrics
from gateways.agents.admission import Admission
from gateways.agents.auth_callout import AuthCallout
from gateways.agents.broker_states import BrokerStates
from gateways.agents.connection import connect
from gateways.agents.delivery import Drain
from gateways.agents.desk import Desk
from gateways.agents.duplicates import Doorkeeper, There
from gateways.agents.keys import KeysInUse, wait_for_keys
from gateways.agents.leases import Leases
from gateways.agents.presence import Presence
from gateways.agents.refusals import AgentRefusals
from gateways.agents.restored import last_restore
from gateways.agents.steps import Steps, nothing
from gateways.agents.tasks import Tasks
from gateways.agents.trust import Told
from gateways.agents.wrong_proofs import WrongProofs
from gateways.tls import SYSTEM, Authorities
from schema import wire
from schema.checks import ChecksChanged

_log = structlog.get_logger()
PENDING_MESSAGES = 50_000
"""Read from NATS and not looked at yet. Looking takes microseconds, so only a process that got no time at all comes to
it; what is dropped then is repeated by its agent."""

_CHECKS_CHANGED = wire.encode(ChecksChanged())


class GatewayService:
    """One gateway. Any number may run, on any machines: they share the work through NATS' queue groups and the leases.

    Args:
        log: the event log, started by its owner, as the pool is opened.
        pool: to the database.
        database_url: the same, for reading the fleet's keys.
        nats_urls: of the servers, configured as `render_nats_config` says.
        name: unlike any other gateway's.
        clock: now.
        new_id: a fresh version 7 UUID.
        lease_s: how long another waits before it takes over from a gateway that died.
        concurrency: deliveries under way at once.
        uplink_group: so many results go into one commit at the most.
        stop_timeout_s: how long `stop` hears out what is in flight.
        master_keys: what secrets are sealed with.
        authorities: whom to trust at NATS.
        told: whom agents are to trust.
        steps: see `gateways.agents.steps`.
        valkey_url: where gateways count wrong proofs together; None has each count for itself.
    """

    def __init__(
        self,
        log: EventLog,
        pool: AsyncPool,
        database_url: str,
        nats_urls: Sequence[str],
        name: str,
        *,
        clock: Clock = utc_now,
        new_id: NewId = fresh_id,
        lease_s: float = 30.0,
        concurrency: int = 256,
        uplink_group: int = 500,
        stop_timeout_s: float = 20.0,
        master_keys: MasterKeys = NO_KEYS,
        authorities: Authorities = SYSTEM,
        told: Told | None = None,
        steps: Steps = nothing,
        valkey_url: str | None = None,
    ) -> None:
        self._log = log
        self._pool = pool
        self._database_url = database_url
        self._nats_urls = nats_urls
        self._name = name
        self._clock = clock
        self._new_id = new_id
        self._lease_s = lease_s
        self._concurrency = concurrency
        self._uplink_group = uplink_group
        self._stop_timeout_s = stop_timeout_s
        self._master_keys = master_keys
        self._authorities = authorities
        self._told = told
        self._steps = steps
        self._messages = Tasks("uplink")
        self._refusals = RefusalRecords(log, clock, new_id, actor=f"gateway:{name}")
        self._admission = Admission(time.monotonic)
        self._wrong = WrongProofs(time.monotonic)
        self._counts = self._wrong.shared(valkey_url) if valkey_url is not None else []
        self._client: Client | None = None
        self._system: Client | None = None
        self._uplink_subscription: Any = None
        self._running = False

    async def start(self) -> None:
        """Begin; waits for Postgres and NATS with back-off."""
        keys = KeysInUse(self._database_url, await wait_for_keys(self._database_url))
        self._client = await connect(
            self._nats_urls,
            lambda: keys.keys.gateway,
            self._name,
            authorities=self._authorities,
            look=keys.look,
        )
        self._system = await connect(
            self._nats_urls,
            lambda: keys.keys.system,
            f"{self._name}-system",
            authorities=self._authorities,
            on_reconnect=self._on_system_reconnect,
            on_dropped=self._on_system_dropped,
            look=keys.look,
        )
        leases = Leases(self._pool, self._name, self._clock, lease_s=self._lease_s)
        self._desk = Desk(
            self._log,
            self._pool,
            keys,
            self._name,
            leases,
            self._clock,
            self._new_id,
            on_ended=self._on_ended,
            on_pending=self._on_pending,
            on_urgent=self._on_urgent,
            on_room=self._on_room,
            on_contact=self._on_contact,
            seen=self._on_seen,
            on_checks=self._on_checks,
            uplink_group=self._uplink_group,
            restored=await last_restore(self._log),
            master_keys=self._master_keys,
            told=self._told,
            steps=self._steps,
        )
        self._presence = Presence(
            self._system,
            self._desk.directory,
            self._desk.presence,
            self._pool,
            self._name,
            self._clock,
            lambda agent_ids: self._drain.wake(list(agent_ids)),
            self._on_crowd,
        )
        self._doorkeeper = Doorkeeper(
            self._client, self._desk.directory, self._desk.duplicates, self._presence.there, self._name
        )
        self._drain = Drain(
            self._client,
            self._pool,
            leases,
            self._desk.orders,
            self._desk.deliveries,
            self._desk.directory,
            self._presence.online,
            self._name,
            clock=self._clock,
            concurrency=self._concurrency,
            steps=self._steps,
        )
        self._callout = AuthCallout(
            self._client,
            self._desk.directory,
            self._desk.proofs,
            self._doorkeeper,
            lambda: keys.keys.issuer,
            self._clock,
            self._wrong,
            AgentRefusals(self._refusals, self._log),
        )
        self._broker_states = BrokerStates(self._system, self._pool)
        # The picture of who is there, and the hints, before anybody is let in: so nothing falls between.
        await self._desk.hints.start()
        await self._desk.telemetry.start()
        await self._desk.check_lists.start()
        await self._desk.check_told.start()
        await self._presence.start()
        await self._drain.start()
        self._uplink_subscription = await self._client.subscribe(
            "fleet.*.up.*",
            queue=wire.GATEWAY_QUEUE,
            cb=self._on_message,
            pending_msgs_limit=PENDING_MESSAGES,
        )
        await self._refusals.start()
        for count in self._counts:
            await count.start()
        await self._callout.start()
        await self._broker_states.start()
        await self._client.flush()
        self._running = True
        _log.info("gateway_started", gateway=self._name)

    async def stop(self) -> None:
        """Take nothing new, finish what is in flight, leave."""
        if not self._running or self._client is None or self._system is None:
            return
        self._running = False
        if self._client.is_connected:
            await self._uplink_subscription.unsubscribe()
        await self._callout.stop()
        for count in self._counts:
            await count.stop()
        await self._refusals.stop()
        await self._broker_states.stop()
        await self._desk.hints.stop()
        await self._drain.stop()
        await self._messages.drain(self._stop_timeout_s)
        await self._desk.uplink.drain()
        await self._desk.telemetry.stop()
        await self._desk.check_lists.stop()
        await self._desk.check_told.stop()
        await self._presence.stop()
        for client in (self._client, self._system):
            if client.is_connected:
                await client.flush()
            await client.close()
        _log.info("gateway_stopped", gateway=self._name)

    @property
    def connected(self) -> bool:
        """Whether NATS is there just now."""
        return self._client is not None and self._client.is_connected

    @property
    def note(self) -> str:
        """What it waits for, for status."""
        return "waiting for NATS" if self._running and not self.connected else ""

    # The desk comes before the parts that it tells, which need it in turn; hence these.

    def _on_ended(self, agent_id: AgentId) -> None:
        self._presence.kick(agent_id)

    async def _on_crowd(self, agent_id: AgentId, newcomer: There) -> bool:
        return await self._doorkeeper.crowded(agent_id, newcomer)

    def _on_seen(self, agent_id: AgentId) -> None:
        self._presence.seen(agent_id)

    def _on_pending(self, agent_ids: Sequence[AgentId]) -> None:
        self._drain.wake_if_rested(agent_ids)

    def _on_urgent(self, agent_ids: Sequence[AgentId]) -> None:
        self._drain.wake_if_rested(agent_ids, urgent=True)

    def _on_room(self, agent_ids: Sequence[AgentId]) -> None:
        self._drain.wake_for_room(agent_ids)

    def _on_checks(self, agent_ids: Sequence[AgentId]) -> None:
        """Have those that are there say hello; who does not hear it says it within a minute anyhow."""
        here = [agent_id for agent_id in agent_ids if self._presence.online(agent_id)]
        if here and self._client is not None and self._client.is_connected:
            self._messages.spawn(self._tell_of_checks(self._client, here))

    async def _tell_of_checks(self, client: Client, agent_ids: Sequence[AgentId]) -> None:
        for agent_id in agent_ids:
            await client.publish(wire.command_subject(agent_id), _CHECKS_CHANGED)

    def _on_contact(self, agent_ids: Sequence[AgentId]) -> None:
        self._drain.greeted(agent_ids)

    async def _on_system_reconnect(self) -> None:
        # Comings and goings while the connection was away were not heard.
        if self._running:
            self._presence.reconcile_soon()

    def _on_system_dropped(self) -> None:
        if self._running:
            self._presence.reconcile_soon()

    async def _on_message(self, message: Msg) -> None:
        try:
            agent_id = UUID(message.subject.split(".", 2)[1])
        except ValueError:
            metrics.REFUSED.labels("malformed").inc()
            return
        refusal = self._admission.enter(agent_id, len(message.data))
        if refusal is None:
            self._messages.spawn(self._answer(AgentId(agent_id), message))
        elif refusal.silent:
            metrics.UNANSWERED_FLOOD.inc()
        else:
            metrics.REFUSED.labels(refusal.code).inc()
            busy = wire.Refused(code=refusal.code, permanent=False, retry_after_s=refusal.again_s)
            await self._respond(message, wire.encode(busy))

    async def _answer(self, agent_id: AgentId, message: Msg) -> None:
        try:
            await self._respond(message, await self._desk.uplink.handle(agent_id, message.data, "nats"))
        finally:
            self._admission.leave(agent_id, len(message.data))
            metrics.UPLINK_UNDER_WAY.set(self._admission.messages)
            metrics.UPLINK_UNDER_WAY_BYTES.set(self._admission.bytes)

    async def _respond(self, message: Msg, reply: bytes) -> None:
        if message.reply and self._client is not None and not self._client.is_closed:
            await message.respond(reply)
