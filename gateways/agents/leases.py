"""Who delivers to an agent just now, and which commands may be on their way to it.

One row for each agent, not for each command: so never do two gateways deliver to one agent, and the order within its
lanes holds (invariant 4). A lease ends when its holder settles it, or when its time is up.

``command_ids`` outlasts the lease: a command whose delivery was never answered stays in it until an agent has said
something about it, whoever asks. Only while a queued command is not in it may it be cancelled without asking the agent
(invariant 5), and `Holds` sees to it that nobody adds one meanwhile.
"""

import contextlib
import itertools
import operator
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg.rows import tuple_row

from command_bus.context import Clock
from command_bus.postgres import AsyncPool
from domain.ids import AgentId
from gateways.agents.open_hours import OpenHours
from projections.pending import PendingRow
from schema import wire
from schema.arrays import uuids

_log = structlog.get_logger()
HTTP = "http"
"""Holder of the leases of agents that check in over HTTP, in whichever process they do."""

LONGEST_LEASE_S = 3600.0
"""The most that may be configured."""

# 0050_take_leases.sql argues why it is as it is, 0062_lease_takes.sql how those left behind are found, and
# 0067_who_asked.sql where it is known from who asked for an order.
_TAKE = """
SELECT * FROM fleetlog.take_leases_and_askers(
    %(agent_ids)s::uuid[], %(gateway)s, %(lease_s)s, %(longest_s)s, %(again)s, %(only_wanted)s, %(now)s, %(window)s,
    %(open_hours)s::text[]
)
"""
_WANTING = "SELECT agent_id FROM fleetlog.wanting(%s::uuid[], %s, %s::text[])"
_OF_LEASE = 6
"""Columns of `_TAKE` that say what is leased; the others are an order."""
_SETTLE = """
UPDATE fleetlog.leases AS l SET command_ids = wanted.unknown::uuid[], expires_at = '-infinity'
FROM unnest(%(agent_ids)s::uuid[], %(fences)s::bigint[], %(unknown)s::text[]) AS wanted (agent_id, fence, unknown)
WHERE l.agent_id = wanted.agent_id AND l.fence = wanted.fence
"""
_ANSWERED = """
UPDATE fleetlog.leases AS l SET expires_at = '-infinity', command_ids = coalesce((
    SELECT array_agg(c) FROM unnest(l.command_ids) AS c WHERE c <> ALL(%(known)s::uuid[])
), '{}')
WHERE agent_id = %(agent_id)s AND gateway = %(gateway)s
"""
_LEFT_BEHIND = "SELECT agent_id FROM fleetlog.left_behind(%(longest_s)s, %(limit)s)"


class Handover(msgspec.Struct, frozen=True):
    """What a lease entitles its holder to send to one agent."""

    agent_id: AgentId
    fence: int
    orders: list[PendingRow]
    """In order; never more than the agent has room for."""
    cancels: list[UUID]
    """Commands that the agent is to be asked to drop."""
    command_ids: frozenset[UUID]
    """All that are, or may be, on their way from now on."""
    uncertain: frozenset[UUID]
    """Those of them that were sent before and not answered."""
    took_over: bool
    """The holder before did not settle."""
    full: bool = False
    """The agent has no room for more: there may be more that waits."""


class Settlement(msgspec.Struct, frozen=True):
    """The end of a lease."""

    agent_id: AgentId
    fence: int
    unknown: frozenset[UUID]
    """Commands of which it is still not known whether the agent has them."""


class Leases:
    """Takes and settles leases for one gateway.

    Args:
        pool: to the database.
        gateway: who takes them.
        clock: judges ``not_before`` and expiry. The leases' own deadlines go by the database's clock alone.
        lease_s: how long one lasts if it is not settled; longer than any wait for an agent's answer.
        window: how many commands an agent may have at once.
    """

    def __init__(
        self, pool: AsyncPool, gateway: str, clock: Clock, *, lease_s: float = 30.0, window: int = wire.DELIVERY_WINDOW
    ) -> None:
        self._pool = pool
        self._gateway = gateway
        self._clock = clock
        self.lease_s = lease_s
        self._window = window
        self.hours = OpenHours()

    async def take(self, agent_ids: Sequence[UUID], *, again: bool = False) -> list[Handover]:
        """Lease agents and read what is to be sent to them.

        Args:
            agent_ids: whose; those that another gateway holds are left out.
            again: also take what this gateway holds already: the peer has shown that it does not wait for an answer.

        Returns:
            One for each agent that was free. Those with nothing to send are released already.
        """
        handovers, _ = await self._take(agent_ids, again=again, only_wanted=False)
        return handovers

    async def take_wanted(self, agent_ids: Sequence[UUID]) -> tuple[list[Handover], list[AgentId]]:
        """Lease those of these agents that there is anything for: most looks find nothing.

        Returns:
            As `take`, and the agents that there is something for and that another holds.
        """
        return await self._take(agent_ids, again=False, only_wanted=True)

    async def wanting(self, agent_ids: Sequence[AgentId]) -> list[AgentId]:
        """Those of these agents for which there is anything to be sent."""
        now = self._clock()
        async with self._pool.connection() as connection:
            arguments = [uuids(agent_ids), now, await self.hours.open(connection, now)]
            cursor = await connection.execute(_WANTING, arguments)
            return [AgentId(row[0]) for row in await cursor.fetchall()]

    async def _take(
        self, agent_ids: Sequence[UUID], *, again: bool, only_wanted: bool
    ) -> tuple[list[Handover], list[AgentId]]:
        if not agent_ids:
            return [], []
        now = self._clock()
        async with self._pool.connection() as connection:
            arguments = {
                "agent_ids": uuids(agent_ids),
                "gateway": self._gateway,
                "lease_s": self.lease_s,
                "longest_s": LONGEST_LEASE_S,
                "again": again,
                "only_wanted": only_wanted,
                "now": now,
                "window": self._window,
                "open_hours": await self.hours.open(connection, now),
            }
            cursor = connection.cursor(binary=True, row_factory=tuple_row)
            await cursor.execute(_TAKE, arguments)
            return _handovers(await cursor.fetchall(), self._window)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """End leases; those that were overtaken are left alone."""
        arguments = {
            "agent_ids": uuids(one.agent_id for one in settlements),
            "fences": [one.fence for one in settlements],
            "unknown": [uuids(one.unknown) for one in settlements],
        }
        async with self._pool.connection() as connection:
            await connection.execute(_SETTLE, arguments)

    async def answered(self, agent_id: UUID, known: Sequence[UUID]) -> None:
        """End this gateway's lease on an agent, whichever it is, now that the agent has spoken of these commands."""
        arguments = {"agent_id": agent_id, "known": list(known), "gateway": self._gateway}
        async with self._pool.connection() as connection:
            await connection.execute(_ANSWERED, arguments)

    async def left_behind(self, limit: int = 500) -> list[AgentId]:
        """Agents whose lease ran out with commands of unknown fate."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_LEFT_BEHIND, {"limit": limit, "longest_s": LONGEST_LEASE_S})
            return [AgentId(row[0]) for row in await cursor.fetchall()]


def _handovers(rows: Iterable[tuple[Any, ...]], window: int) -> tuple[list[Handover], list[AgentId]]:
    """From rows of `_TAKE`; see there."""
    handovers: list[Handover] = []
    busy: list[AgentId] = []
    for (agent_id, fence, took_over, uncertain, cancels, there), several in itertools.groupby(
        rows, operator.itemgetter(slice(_OF_LEASE))
    ):
        if fence is None:
            busy.append(AgentId(agent_id))
            continue
        orders = [PendingRow.from_row(row[_OF_LEASE:]) for row in several if row[_OF_LEASE] is not None]
        unknown = frozenset(uncertain)
        command_ids = unknown.union(row.command_id for row in orders)
        full = there + len(orders) >= window
        handovers.append(Handover(AgentId(agent_id), fence, orders, cancels, command_ids, unknown, took_over, full))
    return handovers, busy


_ENSURE = """
INSERT INTO fleetlog.leases (agent_id, gateway, fence, expires_at, command_ids) VALUES (%s, '', 0, '-infinity', '{}')
ON CONFLICT DO NOTHING
"""


class Holds:
    """Implements `command_bus.context.InFlight`."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def hold(self, agent_id: AgentId) -> AsyncIterator[frozenset[UUID]]:
        """Keep every gateway from leasing this agent's commands while the context is open.

        The row stays locked while the caller appends over another connection. Should this connection break meanwhile,
        a gateway may hand the command over before the append is committed: then it left before its cancellation was
        acknowledged, which invariant 5 allows, and its result is recorded as a late one.
        """
        async with self._pool.connection() as connection:
            # Committed by itself, so that no gateway's own insert of the row waits for the caller.
            await connection.execute(_ENSURE, [agent_id])
            await connection.execute("BEGIN")
            try:
                cursor = await connection.execute(
                    "SELECT command_ids FROM fleetlog.leases WHERE agent_id = %s FOR UPDATE", [agent_id]
                )
                row = await cursor.fetchone()
                yield frozenset(row[0] if row is not None else ())
            finally:
                try:
                    await connection.execute("ROLLBACK")
                except psycopg.OperationalError as error:
                    # The server lets go of the lock with the connection; what the caller appended stands.
                    _log.info("hold_lost", agent_id=str(agent_id), error=str(error).strip())
