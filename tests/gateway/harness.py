"""A whole gateway for tests: a real database, a real NATS with the real configuration, and agents that speak wire."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from command_bus.bus import CommandBus, Intent
from command_bus.context import Caller, Clock
from command_bus.event_log import Selection
from command_bus.ids import new_id, utc_now
from command_bus.keystore import Keystore
from command_bus.master_keys import GivenKeys, MasterKey, MasterKeys
from command_bus.postgres import AsyncPool, open_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.wiring import make_bus
from domain.commands import Command as CommandAggregate
from domain.commands import CommandDelivered, CommandQueued, Ping, Spec
from domain.event import Event, Metadata
from domain.hours import Hours
from domain.ids import AgentId, ClientId, SiteId
from gateways.agents.keys import ServerKeys, load_keys
from gateways.agents.leases import Holds
from gateways.agents.masking import Masks
from gateways.agents.service import GatewayService
from gateways.agents.steps import Steps, nothing
from gateways.bench.simulated import SimulatedAgent, SimulatedIdentity, enroll_simulated
from gateways.local.servers import EmbeddedNats, EmbeddedNatsCluster
from projections.catalog import INLINE
from projections.rollout_reads import RolloutReader
from tests.nats import fleet_nats
from tests.shape import NATS_SIZE

CLIENT = ClientId(UUID(int=1))
SITE = SiteId(UUID(int=2))


class Fleet:
    """What a test needs to act as administrator, gateway and agents."""

    def __init__(
        self,
        url: str,
        log: PostgresEventLog,
        pool: AsyncPool,
        keys: ServerKeys,
        nats: EmbeddedNats | EmbeddedNatsCluster,
    ) -> None:
        self.url = url
        self.log = log
        self.pool = pool
        self.keys = keys
        self.nats = nats
        self.holds = Holds(pool)
        self.keys_given = GivenKeys([MasterKey(bytes(range(32)))])
        self.use(self.keys_given)
        self.services: list[GatewayService] = []
        self._agents: list[SimulatedAgent] = []

    def use(self, master_keys: MasterKeys) -> None:
        """Seal secrets with these from now on; gateways that run already keep theirs."""
        self.master_keys = master_keys
        keystore = Keystore(self.pool, master_keys)
        self.masks = Masks(self.log, keystore)
        self.bus: CommandBus = make_bus(self.log, self.holds, RolloutReader(self.pool.connection), keystore=keystore)

    async def gateway(
        self,
        name: str = "gateway-1",
        *,
        lease_s: float = 30.0,
        urls: Sequence[str] = (),
        concurrency: int = 256,
        clock: Clock = utc_now,
        steps: Steps = nothing,
        valkey_url: str | None = None,
    ) -> GatewayService:
        urls = urls or self.nats.urls
        service = GatewayService(
            self.log,
            self.pool,
            self.url,
            urls,
            name,
            lease_s=lease_s,
            concurrency=concurrency,
            clock=clock,
            steps=steps,
            master_keys=self.master_keys,
            valkey_url=valkey_url,
        )
        await service.start()
        self.services.append(service)
        return service

    async def identities(self, count: int = 1) -> list[SimulatedIdentity]:
        return await enroll_simulated(self.log, count, CLIENT, SITE)

    def simulate(self, identity: SimulatedIdentity) -> SimulatedAgent:
        agent = SimulatedAgent(identity, self.keys.delivery.public)
        self._agents.append(agent)
        return agent

    async def agent(self, identity: SimulatedIdentity | None = None) -> SimulatedAgent:
        """A connected one."""
        agent = self.simulate(identity or (await self.identities())[0])
        await agent.connect(self.nats.urls)
        return agent

    async def queue(
        self,
        agent_id: AgentId,
        count: int = 1,
        *,
        spec: Spec | None = None,
        lane: str = "default",
        priority: int = 5,
        client_id: ClientId = CLIENT,
        hours: Hours | None = None,
        expires_in: timedelta = timedelta(hours=1),
    ) -> list[UUID]:
        """Queue commands by the domain's own decisions, one append for each."""
        ids = []
        for _ in range(count):
            command = CommandAggregate(new_id())
            queued = CommandQueued(
                agent_id=agent_id,
                client_id=client_id,
                site_id=SITE,
                spec=spec or Ping(),
                lane=lane,
                priority=priority,
                expires_at=utc_now() + expires_in,
                hours=hours,
            )
            change = command.queue(queued, utc_now())
            await self.log.append([change], Metadata(actor="system", correlation_id=new_id()))
            ids.append(command.stream_id)
        return ids

    async def dispatch(self, intent: Intent) -> object:
        return await self.bus.dispatch(intent, Caller(actor="key:test", correlation_id=new_id()))

    async def story(self, stream_id: UUID) -> list[Event]:
        streams = await self.log.read_streams([stream_id])
        return [one.event for one in streams.get(stream_id, [])]

    async def state(self, command_id: UUID) -> str:
        return str(CommandAggregate.load(command_id, await self.story(command_id)).state)

    async def until_event(self, agent_id: UUID, event_type: type[Event], count: int = 1) -> list[Event]:
        """Wait, by the log's own follower, until an agent has so many events of a type."""
        found: list[Event] = []
        selection = Selection(agent_id=agent_id, types=(event_type.__name__,))
        async for page in self.log.follow(0, selection):
            found += [one.event for one in page]
            if len(found) >= count:
                break
        return found

    async def until_delivered(self, command_id: UUID) -> None:
        """Wait until the log says that the agent has it."""
        async for _ in self.log.follow(0, Selection(stream_id=command_id, types=("CommandDelivered",))):
            if any(isinstance(event, CommandDelivered) for event in await self.story(command_id)):
                return

    async def close(self) -> None:
        for agent in self._agents:
            await agent.close()
        for service in self.services:
            await service.stop()


@contextlib.asynccontextmanager
async def open_fleet(url: str, folder: Path, *, nats_size: int = NATS_SIZE) -> AsyncIterator[Fleet]:
    keys = load_keys(url)
    log = PostgresEventLog(url, inline=INLINE, name="test")
    await log.start()
    pool = await open_pool(url, max_size=8, name="test-gateway")
    with fleet_nats(folder, keys, size=nats_size) as nats:
        fleet = Fleet(url, log, pool, keys, nats)
        try:
            yield fleet
        finally:
            await fleet.close()
            await pool.close()
            await log.stop()
