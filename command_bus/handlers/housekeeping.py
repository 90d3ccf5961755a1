"""What time does to commands: they expire, and those of retired agents end."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from command_bus.context import InFlight, NewId
from command_bus.event_log import ConflictError, EventLog, Selection
from command_bus.repository import load_many
from domain.agents import AgentRetired
from domain.commands import Command
from domain.event import Change, Metadata
from domain.ids import AgentId

PAGE = 500
LOOKED_AT = 1000
"""Retired agents whose queues are looked at by one statement."""


class Queues(Protocol):
    """What there is to know of the pending queues; current at commit."""

    async def expired(self, now: datetime, limit: int) -> Sequence[tuple[UUID, AgentId]]:
        """(command, agent) of queued commands whose time is up."""

    async def agents_with_new(self, after: int) -> Sequence[tuple[UUID, int]]:
        """Agents for which something was queued after a position, a page of them; the largest position last."""

    async def open_of(self, agent_ids: Sequence[UUID], limit: int) -> Sequence[tuple[UUID, AgentId]]:
        """(command, agent) of open commands of some agents."""


class Orphans:
    """Retired agents that may have open commands.

    A retirement is an event and so is a queued command, and positions become visible in their order. So whichever of
    the two is read last meets the other: a retirement what is in the queue, a new command who is retired. Where neither
    happened, two looks at the ends of two indexes are all that it takes.

    Args:
        log: tells of retirements.
        queues: tell of commands.
    """

    def __init__(self, log: EventLog, queues: Queues) -> None:
        self._log = log
        self._queues = queues
        self._retired: set[UUID] = set()
        self._read = 0
        self._queued = 0
        self._suspects: dict[UUID, None] = {}

    async def find(self, limit: int) -> Sequence[tuple[UUID, AgentId]]:
        """Some of what is open of retired agents; nothing if nothing is."""
        await self._read_retirements()
        await self._read_queued()
        while self._suspects:
            some = list(self._suspects)[:LOOKED_AT]
            if found := await self._queues.open_of(some, limit):
                return found
            for agent_id in some:
                del self._suspects[agent_id]
        return ()

    async def _read_retirements(self) -> None:
        head = await self._log.head()
        while self._read < head:
            page = await self._log.read(
                Selection(types=(AgentRetired.__name__,)), after=self._read, upto=head, limit=LOOKED_AT, tolerant=True
            )
            found = dict.fromkeys(one.originator_id for one in page)
            self._retired.update(found)
            self._suspects.update(found)
            self._read = page[-1].position if len(page) == LOOKED_AT else head

    async def _read_queued(self) -> None:
        while found := await self._queues.agents_with_new(self._queued):
            self._suspects.update((agent_id, None) for agent_id, _ in found if agent_id in self._retired)
            self._queued = found[-1][1]


class Housekeeping:
    """Ends what is due. Several may run at once: the log records each ending once.

    Args:
        log: the event log.
        in_flight: which commands an agent may already have.
        queues: what is pending.
        new_id: for correlation.
    """

    def __init__(self, log: EventLog, in_flight: InFlight, queues: Queues, new_id: NewId) -> None:
        self._log = log
        self._in_flight = in_flight
        self._queues = queues
        self._orphans = Orphans(log, queues)
        self._new_id = new_id

    async def expire_due(self, now: datetime) -> int:
        """Expire up to 500 commands; returns how many. Call again while it returns any.

        A command that is on its way right now is left alone: its agent judges its age itself, and the next call comes
        soon. One whose fate is unknown since a lease ran out is expired: if the agent has it after all, the agent's
        result is recorded as a late one.
        """
        return await self._end(await self._queues.expired(now, PAGE), lambda command: command.expire(now))

    async def abandon_retired(self, now: datetime) -> int:
        """End up to 500 open commands of retired agents; returns how many."""
        del now
        return await self._end(await self._orphans.find(PAGE), lambda command: command.abandon("agent retired"))

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
