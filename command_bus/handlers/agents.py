"""Handlers for what people do to agents."""

from contextlib import AsyncExitStack

from msgspec import structs

from command_bus.bus import Decision, Intent, id_answer
from command_bus.context import Caller
from command_bus.event_log import EventLog
from command_bus.handlers.limits import must_touch_one
from command_bus.handlers.scope import visible
from command_bus.intents.agents import MoveAgent, RenameAgent, ResumeAgent, RetireAgent, SuspendAgent, TagAgent
from command_bus.touches import Touches
from domain.agents import Agent
from domain.event import Change
from domain.ids import SiteId
from domain.scopes import Place, Scope
from domain.sites import Site


class AgentHandlers:
    """Move, rename, tag, suspend, resume, retire.

    Args:
        log: the event log.
        touches: counts what takes agents away from where they are, or from work: one by one is as bad as all at once.
    """

    def __init__(self, log: EventLog, touches: Touches) -> None:
        self._log = log
        self._touches = touches

    async def move(self, intent: MoveAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        where = _place(agent)
        site = await visible(self._log, structs.replace(caller, if_match=None), Site, intent.site_id)
        return await self._counted(agent, agent.move(SiteId(site.stream_id), site.client_id), intent, caller, where)

    async def rename(self, intent: RenameAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return _decided(agent, agent.rename(intent.name))

    async def tag(self, intent: TagAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return _decided(agent, agent.tag(intent.tags))

    async def suspend(self, intent: SuspendAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return await self._counted(agent, agent.suspend(intent.reason), intent, caller, _place(agent))

    async def resume(self, intent: ResumeAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return _decided(agent, agent.resume(intent.reason))

    async def retire(self, intent: RetireAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return await self._counted(agent, agent.retire(intent.reason), intent, caller, _place(agent))

    async def _counted(self, agent: Agent, change: Change, intent: Intent, caller: Caller, where: Scope) -> Decision:
        # After it was decided: what changes nothing touches nothing.
        await must_touch_one(self._touches, caller, intent.required(), agent.stream_id, where)
        return _decided(agent, change)


def _place(agent: Agent) -> Scope:
    return Scope.of((), (Place(agent.site_id, agent.client_id),))


def _decided(agent: Agent, change: Change) -> Decision:
    return Decision(changes=[change], answer=id_answer(agent.stream_id), subject=agent)
