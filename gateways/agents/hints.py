"""Follows the log for what a gateway must look at. Everything here is a hint: the queue and the leases decide."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import structlog

from command_bus.askers import ABOUT_ASKERS
from command_bus.context import Clock
from command_bus.event_log import EventLog, EventLogError, Mark
from command_bus.postgres import AsyncPool
from domain.agents import (
    AgentKeyOffered,
    AgentKeyRotated,
    AgentMoved,
    AgentResumed,
    AgentRetired,
    AgentServerKeyLearned,
    AgentSuspended,
)
from domain.commands import CommandCancelRequested, CommandQueued, CommandRequeued
from domain.duplicates import AgentDuplicateNoticed, AgentDuplicateSettled
from domain.ids import AgentId, is_derived
from domain.server_keys import ServerKeyAnnounced, ServerKeyRetired
from gateways.agents.open_hours import OpenHours
from gateways.cancelling import end
from projections.pending import agents_due, agents_in_hours, agents_with_pending

_log = structlog.get_logger()
_RESUMED = AgentResumed.__name__
_ENDED = frozenset(
    kind.__name__ for kind in (AgentSuspended, AgentRetired, AgentDuplicateNoticed, AgentDuplicateSettled)
)
"""After these some connection of the agent may have to end."""
_OF_COMMANDS = frozenset(kind.__name__ for kind in (CommandQueued, CommandRequeued, CommandCancelRequested))
_OF_KEYS = frozenset(kind.__name__ for kind in (ServerKeyAnnounced, ServerKeyRetired))
_CHANGED = tuple(
    kind.__name__ for kind in (AgentMoved, AgentKeyOffered, AgentKeyRotated, AgentServerKeyLearned, AgentResumed)
)
_TYPES = (*_CHANGED, *_ENDED, *_OF_COMMANDS, *_OF_KEYS, *sorted(ABOUT_ASKERS))
DUE_EVERY_S = 0.5
OVERLAP = timedelta(seconds=5)
"""A command may be requeued for a moment that has passed by the time its row can be seen."""
SWEEP_EVERY_S = 60.0


class Hints:
    """Tells of agents that changed, and of agents that may have something to be sent.

    Args:
        log: followed from its end.
        pool: to the database.
        clock: judges ``not_before``.
        hours: tells which have opened.
        on_agent_changed: an agent's state or tenant is another now; ``ended`` if it may not be connected any more.
        on_pending: these agents may have something new.
        on_urgent: these do, and somebody asked for just that, singly; ``on_pending`` is told of rollouts' commands.
        on_keys_changed: the fleet's own keys are others now.
        on_askers_changed: what some user or key may do is something else now.
    """

    def __init__(
        self,
        log: EventLog,
        pool: AsyncPool,
        clock: Clock,
        hours: OpenHours,
        *,
        on_agent_changed: Callable[[AgentId, bool], None],
        on_pending: Callable[[Sequence[AgentId]], None],
        on_urgent: Callable[[Sequence[AgentId]], None],
        on_keys_changed: Callable[[], Awaitable[None]],
        on_askers_changed: Callable[[Mark], None],
    ) -> None:
        self._log = log
        self._pool = pool
        self._clock = clock
        self._hours = hours
        self._on_agent_changed = on_agent_changed
        self._on_pending = on_pending
        self._on_urgent = on_urgent
        self._on_keys_changed = on_keys_changed
        self._on_askers_changed = on_askers_changed
        self._keys_changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Follow from the end of the log; what was before is found by the sweep."""
        after = await self._log.head()
        self._tasks = [
            asyncio.create_task(self._follow(after), name="hints-follow"),
            asyncio.create_task(self._keep(self._due_for_ever), name="hints-due"),
            asyncio.create_task(self._keep(self._sweep_for_ever), name="hints-sweep"),
            asyncio.create_task(self._keep(self._keys_for_ever), name="hints-keys"),
        ]

    async def stop(self) -> None:
        await end(self._tasks)

    async def _follow(self, after: int) -> None:
        async for page in self._log.follow_marks(after, _TYPES):
            pending: dict[AgentId, None] = {}
            urgent: dict[AgentId, None] = {}
            for mark in page:
                if mark.type in _OF_KEYS:
                    self._keys_changed.set()
                if mark.type in ABOUT_ASKERS:
                    self._on_askers_changed(mark)
                    continue
                if mark.agent_id is None:
                    continue
                agent_id = AgentId(mark.agent_id)
                kind = mark.type
                if kind in _OF_COMMANDS:
                    (pending if is_derived(mark.originator_id) else urgent)[agent_id] = None
                else:
                    self._on_agent_changed(agent_id, kind in _ENDED)
                    if kind == _RESUMED:
                        pending[agent_id] = None
            if urgent:
                self._on_urgent(list(urgent))
            if pending:
                self._on_pending(list(pending))

    async def _due_for_ever(self) -> None:
        since = self._clock() - OVERLAP
        while True:
            await asyncio.sleep(DUE_EVERY_S)
            now = self._clock()
            async with self._pool.connection() as connection:
                due = await agents_due(connection, now=now, since=since)
                if opened := await self._hours.opened(connection, now):
                    due += await agents_in_hours(connection, opened)
            since = now - OVERLAP
            if due:
                self._on_pending([AgentId(agent_id) for agent_id in due])

    async def _sweep_for_ever(self) -> None:
        """Every agent with anything pending, page by page: whatever a hint missed is found here."""
        while True:
            async with self._pool.connection() as connection:
                found = await agents_with_pending(connection)
            while found:
                self._on_pending([AgentId(agent_id) for agent_id in found])
                async with self._pool.connection() as connection:
                    found = await agents_with_pending(connection, found[-1])
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _keys_for_ever(self) -> None:
        """Once at the start, for what was before; then after each change."""
        while True:
            await self._on_keys_changed()
            await self._keys_changed.wait()
            self._keys_changed.clear()

    async def _keep(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except (psycopg.OperationalError, EventLogError) as error:
                _log.info("hints_waiting", error=str(error).strip())
                await asyncio.sleep(1.0)
