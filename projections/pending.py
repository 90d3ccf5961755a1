"""The pending queues: the commands of each agent that have not ended, in order.

Folded inside of the appending transaction, so that a gateway that looks after a commit sees what was committed.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec
from psycopg.rows import tuple_row

from domain.commands import (
    ENDINGS,
    CommandCancelled,
    CommandCancelRequested,
    CommandDelivered,
    CommandExpired,
    CommandFailed,
    CommandInterrupted,
    CommandPriorityChanged,
    CommandQueued,
    CommandRejected,
    CommandRequeued,
    CommandStarted,
    CommandState,
    CommandSucceeded,
    CommandTimedOut,
    state_after,
)
from domain.event import Event, Recorded
from domain.hours import encode_hours
from domain.ids import AgentId
from projections import sql
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query, Tenants, cut
from projections.projection import Batch, Cells, Projection
from schema.arrays import uuids

_encode = msgspec.json.Encoder().encode


class PendingRow(msgspec.Struct, frozen=True):
    command_id: UUID
    agent_id: UUID
    client_id: UUID
    lane: str
    priority: int
    position: int
    """Of the event that queued it: with priority, its place in the queue."""
    state: CommandState
    attempt: int
    not_before: datetime | None
    expires_at: datetime
    cancel_requested: bool
    queued_at: datetime
    correlation_id: UUID
    spec: bytes
    """JSON of `domain.commands.Spec`."""
    version: int
    hours: str | None = None
    """JSON of `domain.hours.Hours`."""
    actor: str | None = None
    """Who queued it; known where a gateway leases it, and nowhere else."""

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[6] = CommandState(row[6])
        return cls(*cells)


class Cancel(msgspec.Struct, frozen=True):
    """A command that its agent is to be asked to drop."""

    agent_id: UUID
    command_id: UUID
    position: int
    """Of the request."""


class QueueCounts(msgspec.Struct, frozen=True):
    queued: int = 0
    delivered: int = 0
    running: int = 0

    @property
    def open(self) -> int:
        return self.queued + self.delivered + self.running


class Depths(msgspec.Struct, frozen=True):
    """All queues together, for status."""

    queued: int
    delivered: int
    running: int
    agents: int
    """With anything pending."""
    oldest_at: datetime | None
    """When the oldest of them was queued."""


class Pending(Projection):
    name: ClassVar[str] = "pending"
    inline: ClassVar[bool] = True
    strict: ClassVar[bool] = False
    """A damaged queue must not keep a result from being recorded (invariant 6); `verify` finds the damage."""
    positions: ClassVar[frozenset[str]] = frozenset({"position", "cancel_position"})
    times: ClassVar[frozenset[str]] = frozenset({"queued_at"})
    ends: ClassVar[frozenset[type[Event]]] = ENDINGS
    folds: ClassVar[tuple[type[Event], ...]] = (
        CommandQueued,
        CommandDelivered,
        CommandStarted,
        CommandRequeued,
        CommandPriorityChanged,
        CommandCancelRequested,
        CommandSucceeded,
        CommandFailed,
        CommandTimedOut,
        CommandInterrupted,
        CommandRejected,
        CommandCancelled,
        CommandExpired,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        event, key = recorded.event, recorded.originator_id
        pending = batch["pending"]
        if isinstance(event, CommandQueued):
            pending.insert(
                key,
                agent_id=event.agent_id,
                client_id=event.client_id,
                lane=event.lane,
                priority=event.priority,
                position=recorded.position,
                state=CommandState.QUEUED,
                attempt=1,
                not_before=event.not_before,
                expires_at=event.expires_at,
                cancel_requested=False,
                cancel_position=None,
                queued_at=recorded.recorded_at,
                correlation_id=recorded.correlation_id,
                spec=_encode(event.spec),
                version=recorded.originator_version,
                hours=encode_hours(event.hours).decode() if event.hours is not None else None,
            )
            return
        if type(event) in ENDINGS:
            pending.delete(key)
            return
        cells: Cells = {"version": recorded.originator_version}
        state = state_after(event)
        if state is not None:
            cells["state"] = state
        if isinstance(event, CommandRequeued):
            cells |= {"attempt": event.attempt, "not_before": event.not_before}
        elif isinstance(event, CommandPriorityChanged):
            cells["priority"] = event.priority
        elif isinstance(event, CommandCancelRequested):
            cells |= {"cancel_requested": True, "cancel_position": recorded.position}
        pending.update_row(key, cells)


_SQL = sql.load("pending")
_FIRST = UUID(int=0)
_AS_DELIVERED = Order("pending", "priority, position", (int, int))


def place_in_queue(row: PendingRow) -> tuple[int, int]:
    """Of the commands of one agent the smallest is delivered first."""
    return row.priority, row.position


async def list_pending(
    connection: Connection,
    agent_id: UUID,
    *,
    client_ids: Tenants,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[PendingRow]:
    """One agent's queue, in the order in which it will be delivered."""
    query = Query(_SQL["select"])
    query.where("agent_id = %s", agent_id)
    query.tenants("client_id", client_ids, agent="agent_id")
    return await query.page(
        connection,
        PendingRow.from_row,
        _AS_DELIVERED,
        cursor=cursor,
        limit=limit,
        key=place_in_queue,
    )


def cut_queue(rows: Sequence[PendingRow], *, cursor: str | None, limit: int) -> Page[PendingRow]:
    """One page of a queue that is in memory, in the order of delivery; as `list_pending` gives it."""
    return cut(rows, _AS_DELIVERED, place_in_queue, cursor=cursor, limit=limit)


# -- for gateways and the scheduler: they serve all tenants -------------------------------------------------------


async def _all(connection: Connection, name: str, arguments: dict[str, Any]) -> list[tuple[Any, ...]]:
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL[name], arguments)
        return await cursor.fetchall()


async def agents_with_new(connection: Connection, after_position: int, limit: int = 1000) -> list[tuple[UUID, int]]:
    """Agents for which something was queued after a position.

    Args:
        connection: to the database.
        after_position: go on from here.
        limit: look at no more than so many commands.

    Returns:
        (agent, position of the newest of its commands that were looked at), the largest position last: go on after it.
        Empty when there is nothing new.
    """
    return [
        (row[0], row[1]) for row in await _all(connection, "agents_with_new", {"after": after_position, "limit": limit})
    ]


async def agents_due(connection: Connection, *, now: datetime, since: datetime) -> list[UUID]:
    """Agents that have a command whose ``not_before`` passed after ``since`` and until ``now``."""
    return [row[0] for row in await _all(connection, "agents_due", {"now": now, "since": since})]


async def hours_waited_for(connection: Connection) -> list[str]:
    """Every hours that a command waits for."""
    return [row[0] for row in await _all(connection, "hours_waited_for", {})]


async def agents_in_hours(connection: Connection, hours: Sequence[str]) -> list[UUID]:
    """Agents with a command that has one of these hours."""
    return [row[0] for row in await _all(connection, "agents_in_hours", {"hours": list(hours)})]


async def agents_with_pending(connection: Connection, after: UUID = _FIRST, limit: int = 1000) -> list[UUID]:
    """Agents with anything pending, by id: for a gateway that starts, or sweeps."""
    return [row[0] for row in await _all(connection, "agents_with_pending", {"after": after, "limit": limit})]


async def cancels(connection: Connection, after_position: int = 0, limit: int = 1000) -> list[Cancel]:
    """Requests to cancel that are recorded after a position and still open, oldest first."""
    return [Cancel(*row) for row in await _all(connection, "cancels", {"after": after_position, "limit": limit})]


async def counts(connection: Connection, agent_ids: Sequence[UUID]) -> dict[UUID, QueueCounts]:
    """How much is pending for each; an agent with nothing is absent."""
    rows = await _all(connection, "counts", {"agent_ids": uuids(agent_ids)})
    return {agent_id: QueueCounts(*numbers) for agent_id, *numbers in rows}


async def held(connection: Connection, agent_ids: Sequence[UUID]) -> dict[UUID, list[tuple[UUID, int]]]:
    """(command, attempt) of what each of these agents has said that it has, and not how it ended.

    What somebody wants cancelled is left out: of that the agent is asked anyway.
    """
    found: dict[UUID, list[tuple[UUID, int]]] = {}
    for agent_id, command_id, attempt in await _all(connection, "held", {"agent_ids": uuids(agent_ids)}):
        found.setdefault(agent_id, []).append((command_id, attempt))
    return found


async def naming_secrets(connection: Connection, after: UUID, limit: int) -> list[UUID]:
    """Commands that have not ended and may name secrets, in order, from one on."""
    return [row[0] for row in await _all(connection, "naming_secrets", {"after": after, "limit": limit})]


async def expired(connection: Connection, now: datetime, limit: int) -> list[tuple[UUID, AgentId]]:
    """(command, agent) of queued commands whose time is up, longest ago first."""
    return [(row[0], AgentId(row[1])) for row in await _all(connection, "expired", {"now": now, "limit": limit})]


async def open_of(connection: Connection, agent_ids: Sequence[UUID], limit: int) -> list[tuple[UUID, AgentId]]:
    """(command, agent) of open commands of these agents."""
    arguments = {"agent_ids": uuids(agent_ids), "limit": limit}
    return [(row[0], AgentId(row[1])) for row in await _all(connection, "open_of", arguments)]


async def waiting(connection: Connection, agent_id: UUID, limit: int) -> int:
    """How many of an agent's commands are open; counted up to a limit and no further."""
    ((count,),) = await _all(connection, "waiting", {"agent_id": agent_id, "limit": limit})
    return int(count)


async def queue_depths(connection: Connection) -> Depths:
    """How much is pending in all."""
    (row,) = await _all(connection, "depths", {})
    return Depths(*row)


class QueueReader:
    """What the command bus asks of the queues.

    Args:
        connect: lends a connection.
    """

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        self._connect = connect

    async def expired(self, now: datetime, limit: int) -> list[tuple[UUID, AgentId]]:
        async with self._connect() as connection:
            return await expired(connection, now, limit)

    async def agents_with_new(self, after: int) -> list[tuple[UUID, int]]:
        async with self._connect() as connection:
            return await agents_with_new(connection, after)

    async def open_of(self, agent_ids: Sequence[UUID], limit: int) -> list[tuple[UUID, AgentId]]:
        async with self._connect() as connection:
            return await open_of(connection, agent_ids, limit)
