"""What time does to commands: they expire, and those of retired agents end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

from command_bus.context import InFlight, NewId
from command_bus.event_log import ConflictError, EventLog
from command_bus.repository import load_many
from domain.commands import Command
from domain.event import Change, Metadata
from domain.ids import AgentId

PAGE = 500
Due = Callable[[datetime, int], Awaitable[Sequence[tuple[UUID, AgentId]]]]
"""Finds (command, agent) pairs that are due, at most so many."""


class Housekeeping:
    """Ends what is due. Several may run at once: the log records each ending once.

    Args:
        log: the event log.
        in_flight: which commands an agent may already have.
        expired: finds queued commands whose time is up.
        orphaned: finds open commands of retired agents.
        new_id: for correlation.
    """

    def __init__(self, log: EventLog, in_flight: InFlight, expired: Due, orphaned: Due, new_id: NewId) -> None:
        self._log = log
        self._in_flight = in_flight
        self._expired = expired
        self._orphaned = orphaned
        self._new_id = new_id

    async def expire_due(self, now: datetime) -> int:
        """Expire up to 500 commands; returns how many. Call again while it returns any.

        A command that is on its way right now is left alone: its agent judges its age itself, and the next call comes
        soon. One whose fate is unknown since a lease ran out is expired: if the agent has it after all, the agent's
        result is recorded as a late one.
        """
        return await self._end(await self._expired(now, PAGE), lambda command: command.expire(now))

    async def abandon_retired(self, now: datetime) -> int:
        """End up to 500 open commands of retired agents; returns how many."""
        return await self._end(await self._orphaned(now, PAGE), lambda command: command.abandon("agent retired"))

    async def _end(self, due: Sequence[tuple[UUID, AgentId]], decide: Callable[[Command], list[Change]]) -> int:
        by_agent: dict[AgentId, list[UUID]] = {}
        for command_id, agent_id in due:
            by_agent.setdefault(agent_id, []).append(command_id)
        ended = 0
        for agent_id, command_ids in by_agent.items():
            async with self._in_flight.hold(agent_id):
                commands = await load_many(self._log, Command, command_ids)
                outcomes = await asyncio.gather(
                    *(self._append(decide(command)) for command in commands.values() if command.exists)
                )
            ended += sum(outcomes)
        return ended

    async def _append(self, changes: list[Change]) -> bool:
        if not changes:
            return False
        metadata = Metadata(actor="scheduler", correlation_id=self._new_id())
        try:
            await self._log.append(changes, metadata)
        except ConflictError:
            # Somebody else recorded something of it just now; if it is still due, the next round finds it.
            return False
        return True
