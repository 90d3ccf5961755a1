"""Keys of agents that take over from others: each step is one event, however often it is said."""

from command_bus.context import NewId
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog
from command_bus.repository import load_existing
from domain.agents import Agent
from domain.event import Metadata
from domain.ids import AgentId

MAX_TRIES = 10


class AgentKeys:
    """Records what agents do with their keys. That they hold the private halves is for the adapter to check."""

    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def offered(self, agent_id: AgentId, public_key: str) -> None:
        """Another key is to take over.

        Raises:
            AgentSuspendedError, AgentRetiredError: the agent may not do anything.
            BusyStreamError: others kept changing the agent.
        """
        await self._record(agent_id, public_key, used=False)

    async def used(self, agent_id: AgentId, public_key: str) -> None:
        """The agent comes in under a key; if it is the next one, the one before is void.

        Raises:
            BusyStreamError: others kept changing the agent.
        """
        await self._record(agent_id, public_key, used=True)

    async def _record(self, agent_id: AgentId, public_key: str, *, used: bool) -> None:
        for _ in range(MAX_TRIES):
            agent = await load_existing(self._log, Agent, agent_id, "agent")
            changes = agent.use_key(public_key) if used else agent.offer_key(public_key)
            if not changes:
                return
            try:
                await self._log.append(changes, Metadata(actor=f"agent:{agent_id}", correlation_id=self._new_id()))
            except ConflictError:
                continue
            return
        raise BusyStreamError
