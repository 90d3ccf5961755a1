"""Keys of agents that take over from others, and what they know of the server's: each step is one event, said often."""

from collections.abc import Callable

from command_bus.context import NewId
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog
from command_bus.repository import load_existing
from domain.agents import Agent
from domain.event import Change, Metadata
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
        await self._record(agent_id, lambda agent: agent.offer_key(public_key))

    async def used(self, agent_id: AgentId, public_key: str) -> None:
        """The agent comes in under a key; if it is the next one, the one before is void.

        Raises:
            BusyStreamError: others kept changing the agent.
        """
        await self._record(agent_id, lambda agent: agent.use_key(public_key))

    async def learned(self, agent_id: AgentId, number: int) -> None:
        """The agent says that it knows one of the server's own keys.

        Raises:
            AgentRetiredError: it may not do anything.
            BusyStreamError: others kept changing the agent.
        """
        await self._record(agent_id, lambda agent: agent.learn_server_key(number))

    async def _record(self, agent_id: AgentId, decide: Callable[[Agent], list[Change]]) -> None:
        for _ in range(MAX_TRIES):
            agent = await load_existing(self._log, Agent, agent_id, "agent")
            changes = decide(agent)
            if not changes:
                return
            try:
                await self._log.append(changes, Metadata(actor=f"agent:{agent_id}", correlation_id=self._new_id()))
            except ConflictError:
                continue
            return
        raise BusyStreamError
