"""Handlers for what people do to agents."""

from contextlib import AsyncExitStack

from msgspec import structs

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller
from command_bus.event_log import EventLog
from command_bus.handlers.scope import visible
from command_bus.intents.agents import MoveAgent, RenameAgent, ResumeAgent, RetireAgent, SuspendAgent, TagAgent
from domain.agents import Agent
from domain.event import Change
from domain.ids import SiteId
from domain.sites import Site


class AgentHandlers:
    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def move(self, intent: MoveAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        site = await visible(self._log, structs.replace(caller, if_match=None), Site, intent.site_id)
        return _decided(agent, agent.move(SiteId(site.stream_id), site.client_id))

    async def rename(self, intent: RenameAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return _decided(agent, agent.rename(intent.name))

    async def tag(self, intent: TagAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return _decided(agent, agent.tag(intent.tags))

    async def suspend(self, intent: SuspendAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return _decided(agent, agent.suspend(intent.reason))

    async def resume(self, intent: ResumeAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return _decided(agent, agent.resume(intent.reason))

    async def retire(self, intent: RetireAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        return _decided(agent, agent.retire(intent.reason))


def _decided(agent: Agent, change: Change) -> Decision:
    return Decision(changes=[change], answer=id_answer(agent.stream_id), subject=agent)
