"""Handlers for parts of the history that are taken out."""

from contextlib import AsyncExitStack

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.scope import visible
from command_bus.intents.extracts import ExtractHistory
from domain.agents import Agent
from domain.errors import NotFoundError
from domain.extracts import Extract, HistoryExtracted


class ExtractHandlers:
    """Record that somebody takes a part of the history out.

    Args:
        log: the event log.
        new_id: fresh ids.
    """

    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def ask(self, intent: ExtractHistory, caller: Caller, _stack: AsyncExitStack) -> Decision:
        # What it holds is judged when it is fetched; here, that nobody writes of what does not exist to them.
        if intent.agent_id is not None:
            await visible(self._log, caller, Agent, intent.agent_id)
        scope = caller.scope
        if intent.client_id is not None and not scope.everything and intent.client_id not in scope.known_clients:
            raise NotFoundError(f"There is no client {intent.client_id}.")
        extract = Extract(self._new_id())
        asked = HistoryExtracted(
            format=intent.format,
            agent_id=intent.agent_id,
            client_id=intent.client_id,
            actor=intent.actor,
            types=tuple(sorted(set(intent.types))),
            since=intent.since,
            until=intent.until,
        )
        return Decision(changes=[extract.ask(asked)], answer=id_answer(extract.stream_id), subject=extract)
