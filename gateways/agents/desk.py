"""What handling agents takes, whichever way they come: the parts that the gateway and the HTTP check-in share."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from command_bus.askers import Askers
from command_bus.context import Clock, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.agent_keys import AgentKeys
from command_bus.handlers.delivery import Deliveries
from command_bus.handlers.duplicates import DuplicateNotices
from command_bus.handlers.presence import PresenceHandler
from command_bus.handlers.refused_orders import RefusedOrderReports
from command_bus.keystore import Keystore
from command_bus.master_keys import NO_KEYS, MasterKeys
from command_bus.postgres import AsyncPool
from domain.ids import AgentId
from gateways.agents.check_lists import CheckLists
from gateways.agents.checks import CheckReports, CheckTold
from gateways.agents.directory import Directory
from gateways.agents.hints import Hints
from gateways.agents.key_changes import KeyChanges
from gateways.agents.keys import KeysInUse
from gateways.agents.leases import Leases
from gateways.agents.masking import Masks
from gateways.agents.orders import Orders
from gateways.agents.proofs import Proofs
from gateways.agents.restored import Restored
from gateways.agents.secrets import Secrets
from gateways.agents.software import SoftwareReports
from gateways.agents.steps import Steps, nothing
from gateways.agents.telemetry import Telemetry
from gateways.agents.trust import Told
from gateways.agents.uplink import Uplink

ASKERS_LIFE = timedelta(seconds=30)
"""What somebody may do is read again after so long even where the log tells of no change; `Hints` hear of each."""


class Desk:
    """One process's parts.

    Args:
        log: the event log.
        pool: to the database.
        keys: the fleet's.
        name: of the process, in events and leases.
        leases: whose leases deliveries are made under.
        clock: now.
        new_id: a fresh version 7 UUID.
        on_ended: an agent was suspended or retired, or is two machines.
        on_pending: these agents may have something new.
        on_urgent: these do, and somebody asked for just that.
        on_room: these have ended something, and may have room for more.
        on_contact: these said hello and have something pending.
        seen: one was heard of.
        on_checks: these have other checks now.
        uplink_group: so many results go into one commit at the most.
        restored: the last restore of the log, if there was any.
        master_keys: what secrets are sealed with.
        told: whom agents are to trust.
        steps: see `gateways.agents.steps`.
    """

    def __init__(
        self,
        log: EventLog,
        pool: AsyncPool,
        keys: KeysInUse,
        name: str,
        leases: Leases,
        clock: Clock,
        new_id: NewId,
        *,
        on_ended: Callable[[AgentId], None],
        on_pending: Callable[[Sequence[AgentId]], None],
        on_urgent: Callable[[Sequence[AgentId]], None],
        on_room: Callable[[Sequence[AgentId]], None],
        on_contact: Callable[[Sequence[AgentId]], None],
        seen: Callable[[AgentId], None],
        on_checks: Callable[[Sequence[AgentId]], None],
        uplink_group: int = 500,
        restored: Restored | None = None,
        master_keys: MasterKeys = NO_KEYS,
        told: Told | None = None,
        steps: Steps = nothing,
    ) -> None:
        self.directory = Directory(log)
        self.deliveries = Deliveries(log, clock)
        self.presence = PresenceHandler(log, new_id)
        agent_keys = AgentKeys(log, new_id)
        self.keys = keys
        self._key_changes = KeyChanges(log, keys.url, new_id)
        self.duplicates = DuplicateNotices(log, new_id)
        self.proofs = Proofs(self.directory, agent_keys)
        keystore = Keystore(pool, master_keys)
        secrets = Secrets(log, keystore, self.directory, name)
        askers = Askers(log, ASKERS_LIFE)
        self.orders = Orders(log, lambda: keys.delivery, clock, secrets, askers, self.directory)
        self.leases = leases
        self.telemetry = Telemetry(pool, clock)
        self.check_lists = CheckLists(log, pool, lambda: keys.delivery, clock, on_checks)
        self.check_told = CheckTold(pool, self.check_lists)
        self._on_ended = on_ended
        self.hints = Hints(
            log,
            pool,
            clock,
            leases.hours,
            on_agent_changed=self._agent_changed,
            on_pending=on_pending,
            on_urgent=on_urgent,
            on_keys_changed=self.read_keys,
            on_askers_changed=askers.heard,
        )
        self.uplink = Uplink(
            log,
            pool,
            self.directory,
            self.deliveries,
            self.orders,
            self.presence,
            SoftwareReports(log, pool, clock, new_id),
            CheckReports(log, self.check_lists, clock, new_id),
            self.check_lists,
            self.check_told,
            RefusedOrderReports(log, new_id),
            name,
            clock,
            Masks(log, keystore, self.orders.names_no_secret),
            agent_keys,
            keys,
            on_contact=on_contact,
            on_room=on_room,
            seen=seen,
            on_samples=self.telemetry.add,
            group=uplink_group,
            restored=restored,
            told=told,
            steps=steps,
        )

    async def read_keys(self) -> None:
        """The fleet's keys may be others now; what a killed command left half done is done here.

        Raises:
            psycopg.Error, EventLogError: they cannot be read; those from before stay.
        """
        await self._key_changes.settle()
        await self.keys.read()

    def _agent_changed(self, agent_id: AgentId, ended: bool) -> None:
        self.directory.forget(agent_id)
        if ended:
            self._on_ended(agent_id)
