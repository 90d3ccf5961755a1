"""The handler that gives many agents tags, or takes them away.

A request does a part of a large work, and says what is left: what is done needs no doing again, so that whoever repeats
the same request comes to its end, also after a break.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import Protocol
from uuid import UUID

from command_bus.bus import Decision
from command_bus.context import Caller
from command_bus.event_log import EventLog
from command_bus.handlers.limits import must_touch
from command_bus.intents.agents import TagAgents
from command_bus.repository import load_many
from domain.agents import MAX_TAGS, Agent, AgentState, clean_tags
from domain.errors import InvalidValueError, NotFoundError, TooManyTagsError
from domain.event import Change
from domain.matching import Matching, ToTag
from domain.scopes import Scope

AT_ONCE = 2_000
"""Agents that one request changes: each takes an event, and all of them are one transaction."""


class TagReads(Protocol):
    """What tagging many needs of the read models."""

    async def to_tag(
        self,
        named: Collection[UUID],
        matching: Matching | None,
        scope: Scope,
        *,
        without: Collection[UUID],
        add: Collection[str],
        remove: Collection[str],
    ) -> ToTag:
        """Agents that are named or match and do not have just these tags yet; none that is retired."""


class TagHandlers:
    """Tags, for many agents.

    Args:
        log: the event log.
        reads: whom it is about.
    """

    def __init__(self, log: EventLog, reads: TagReads) -> None:
        self._log = log
        self._reads = reads

    async def tag(self, intent: TagAgents, caller: Caller, _stack: AsyncExitStack) -> Decision:
        add, remove = clean_tags(intent.add), clean_tags(intent.remove)
        matching = _checked(intent, add, remove)
        found = await self._reads.to_tag(
            intent.agents, matching, caller.scope, without=intent.exclude, add=add, remove=remove
        )
        if found.unknown:
            raise NotFoundError(f"There is no agent {found.unknown[0]}.")
        # By all that it is about: many small steps are one action.
        where = Scope.of(sites={place for _, place in found.agents})
        must_touch(caller, intent.required(), len(found.agents), where)
        part = [agent_id for agent_id, _ in found.agents[:AT_ONCE]]
        agents = await load_many(self._log, Agent, part, closed=True)
        changes = await asyncio.to_thread(_changes, agents.values(), caller.scope, add, remove)
        return Decision(changes=changes, answer={"tagged": len(changes), "left": len(found.agents) - len(part)})


def _checked(intent: TagAgents, add: Collection[str], remove: Collection[str]) -> Matching | None:
    """What has to match; refuses what cannot be meant."""
    if not intent.agents and intent.matching is None:
        raise InvalidValueError("agents, matching: say which agents.")
    if not add and not remove:
        raise InvalidValueError("add, remove: say which tags.")
    if both := sorted(set(add) & set(remove)):
        raise InvalidValueError(f"add, remove: {both[0]!r} cannot be both.")
    if intent.matching is None:
        return None
    matching = intent.matching.to_domain()
    matching.check()
    return matching


def _changes(agents: Collection[Agent], scope: Scope, add: Sequence[str], remove: Sequence[str]) -> list[Change]:
    changes: list[Change] = []
    for agent in agents:
        # It may have moved or retired since it was found.
        if agent.state is AgentState.RETIRED or not scope.holds(agent.client_id, agent.site_id):
            continue
        tags = (set(agent.tags) - set(remove)) | set(add)
        if len(tags) > MAX_TAGS:
            raise TooManyTagsError(f"Agent {agent.stream_id} would have {len(tags)} tags; {MAX_TAGS} are the most.")
        if tags != set(agent.tags):
            changes.append(agent.tag(tuple(tags)))
    return changes
