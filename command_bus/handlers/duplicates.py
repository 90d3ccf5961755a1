"""Two machines with one identity: noticed by gateways, settled by people."""

from contextlib import AsyncExitStack

from msgspec import structs

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.event_log import ConflictError, EventLog
from command_bus.handlers.scope import visible
from command_bus.intents.agents import SettleDuplicate
from domain.agents import Agent
from domain.duplicates import Duplicates, Sighting, duplicates_stream
from domain.event import Metadata
from domain.ids import AgentId, ClientId

MAX_TRIES = 10


async def _load(log: EventLog, agent_id: AgentId, client_id: ClientId) -> Duplicates:
    duplicates = Duplicates.of(agent_id, client_id)
    stream_id = duplicates_stream(agent_id)
    for recorded in (await log.read_streams([stream_id])).get(stream_id, []):
        duplicates.version += 1
        duplicates.when(recorded.event)
    return duplicates


class DuplicateHandlers:
    """Settles what was noticed.

    Args:
        log: the event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def settle(self, intent: SettleDuplicate, caller: Caller, _stack: AsyncExitStack) -> Decision:
        # The version that the caller read is the agent's; what is settled has a stream of its own.
        agent = await visible(self._log, structs.replace(caller, if_match=None), Agent, intent.agent_id)
        duplicates = await _load(self._log, AgentId(agent.stream_id), agent.client_id)
        change = duplicates.settle(intent.stays, intent.reason)
        return Decision(changes=[change], answer=id_answer(agent.stream_id), subject=duplicates)


class DuplicateNotices:
    """Records what a gateway notices.

    Args:
        log: the event log.
        new_id: a fresh version 7 UUID.
    """

    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def noticed(
        self, agent_id: AgentId, client_id: ClientId, present: Sighting, newcomer: Sighting, gateway: str
    ) -> bool:
        """Record two machines with one identity; returns whether that is news."""
        for _ in range(MAX_TRIES):
            duplicates = await _load(self._log, agent_id, client_id)
            changes = duplicates.notice(present, newcomer)
            if not changes:
                return False
            try:
                await self._log.append(changes, Metadata(actor=f"gateway:{gateway}", correlation_id=self._new_id()))
            except ConflictError:
                continue
            return True
        return False
