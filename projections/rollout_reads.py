"""What decisions about rollouts lean on: who is meant, how far each is, and what its commands came to.

For the command bus: it sees all tenants, or says whom it sees.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.agents import AgentState, Platform
from domain.commands import OUTCOMES
from domain.ids import AgentId, ClientId, SiteId
from domain.rollout_candidates import Candidate, Joined, wanted_facts
from domain.rollout_terms import Joins, Target
from domain.rollouts import FAILURES, Tally
from domain.scopes import EVERYTHING, Scope
from projections.agent_filters import filters_of, ids_matching
from projections.agent_reads import AgentReader
from projections.pages import Connection
from projections.pending import waiting
from projections.rollouts import read_all
from schema.arrays import uuids


class RolloutReader(AgentReader):
    """What the command bus asks of the read models about rollouts and queues, beside what it asks about agents."""

    async def candidates(
        self, target: Target, scope: Scope, *, timezone: bool = False
    ) -> tuple[list[Candidate], list[UUID], int]:
        """The agents that a target names, of those within a scope; the ids in it that name nothing; as of when."""
        include, exclude = target.include, target.exclude
        named = {
            "clients": [*include.clients, *exclude.clients],
            "sites": [*include.sites, *exclude.sites],
            "agents": [*include.agents, *exclude.agents],
        }
        within = scope_of(scope)
        await self._seen("clients", "agents")
        async with self._snapshot() as connection:
            ((position,),) = await read_all(connection, "agents_position", {})
            unknown = [row[0] for row in await read_all(connection, "unknown", named | within)]
            rows = []
            if not unknown:
                wanted = wanted_of(target, timezone=timezone) | await matching_of(connection, target, scope)
                rows = await read_all(connection, "candidates", wanted | within)
        return await asyncio.to_thread(candidates_of, rows), unknown, position

    async def waiting(self, agent_id: UUID, limit: int) -> int:
        """How many of an agent's commands are open, as of now; counted up to a limit and no further."""
        async with self._connect() as connection:
            return await waiting(connection, agent_id, limit)

    async def joined(
        self, target: Target, joins: Joins, *, after: int, until: datetime | None, limit: int, timezone: bool = False
    ) -> Joined:
        """Agents that a target names, and to whom something happened after a position.

        Args:
            target: of a rollout.
            joins: whose agents may be.
            after: the position.
            until: only what was recorded before this moment; None: all so far.
            limit: at most so many.
            timezone: read what they tell of it, too.
        """
        async with self._snapshot() as connection:
            ((upto,),) = await read_all(connection, "agents_position", {})
            last = upto
            if until is not None:
                ((last,),) = await read_all(connection, "position_before", {"until": until})
            scope = EVERYTHING if joins.clients is None else Scope.of(joins.clients)
            changed = (after, min(upto, last))
            found = (
                wanted_of(target, timezone=timezone)
                | await matching_of(connection, target, scope, changed)
                | scope_of(scope)
                | {"after": after, "upto": min(upto, last), "limit": limit}
            )
            rows = await read_all(connection, "joined", found)
        candidates = candidates_of(rows)
        if len(rows) == limit:
            return Joined(candidates, rows[-1][-1], False)
        return Joined(candidates, max(after, min(upto, last)), upto >= last)

    async def failed(self, rollout_id: UUID) -> list[tuple[AgentId, int]]:
        """Agents whose last command failed, and the round it was of."""
        await self._seen("rollouts")
        rows = await self._rows("failed", rollout_id=rollout_id, failed=_FAILED)
        return [(AgentId(row[0]), row[1]) for row in rows]

    async def others_run(self, script_id: UUID, actor: str, since: datetime) -> bool:
        """Whether others than somebody have run a script since then, or a rollout has, or is about to.

        Args:
            script_id: of the script.
            actor: whose own runs on single machines do not count.
            since: what was asked for before this moment does not count; of rollouts that go on it does.
        """
        await self._seen("commands", "rollouts")
        ((used,),) = await self._rows("others_run", script_id=script_id, actor=actor, since=since)
        return bool(used)

    async def running(self) -> list[UUID]:
        """Rollouts that run, oldest first."""
        return [row[0] for row in await self._rows("running")]

    async def tally(self, rollout_id: UUID, unanswered_since: datetime | None = None) -> Tally:
        """What became of a rollout's commands, those that were retried included.

        Args:
            rollout_id: of the rollout.
            unanswered_since: count the agents that have not answered since then; while the read models are behind,
                none.
        """
        unanswered = 0
        async with self._connect() as connection:
            arguments = {"rollout_id": rollout_id, "terminal": _TERMINAL, "failed": _FAILED}
            ((ended, failed, timed_out),) = await read_all(connection, "tally", arguments)
            if unanswered_since is not None:
                silent = {"rollout_id": rollout_id, "since": unanswered_since}
                ((unanswered,),) = await read_all(connection, "unanswered", silent)
        return Tally(ended=ended, failed=failed, timed_out=timed_out, unanswered=unanswered)

    async def to_take_back(self, limit: int) -> list[tuple[UUID, AgentId]]:
        """(command, agent) of aborted rollouts that are queued still."""
        return [(row[0], AgentId(row[1])) for row in await self._rows("to_take_back", limit=limit)]

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        """All that is read in it is of one moment."""
        async with self._connect() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    async def _rows(self, name: str, **arguments: Any) -> list[tuple[Any, ...]]:
        async with self._connect() as connection:
            return await read_all(connection, name, arguments)


_TERMINAL = sorted(state.value for state in OUTCOMES)
_FAILED = sorted(state.value for state in FAILURES)


def scope_of(scope: Scope) -> dict[str, Any]:
    return {
        "all": scope.everything,
        "tenants": list(scope.clients),
        "known": list(scope.known_clients),
        "places": list(scope.site_ids),
    }


def wanted_of(target: Target, *, timezone: bool) -> dict[str, Any]:
    include, exclude = target.include, target.exclude
    return {
        "everything": include.everything,
        "clients": list(include.clients),
        "sites": list(include.sites),
        "agents": list(include.agents),
        "tags": list(include.tags),
        "without_clients": list(exclude.clients),
        "without_sites": list(exclude.sites),
        "without_agents": list(exclude.agents),
        "without_tags": list(exclude.tags),
        "without_platforms": [platform.value for platform in exclude.platforms],
        "without_online": exclude.online,
        "facts": list(wanted_facts(target, timezone=timezone)),
    }


async def matching_of(
    connection: Connection, target: Target, scope: Scope, changed: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The agents that a target names and leaves out, those with them that match the fleet's own question."""
    found: dict[str, Any] = {}
    for name, selector in (("agents", target.include), ("without_agents", target.exclude)):
        if selector.matching is not None:
            matching = await ids_matching(connection, filters_of(selector.matching), scope, changed)
            found[name] = uuids([*selector.agents, *matching])
    return found


def candidates_of(rows: Sequence[tuple[Any, ...]]) -> list[Candidate]:
    return [
        Candidate(
            agent_id=AgentId(row[0]),
            client_id=ClientId(row[1]),
            site_id=SiteId(row[2]),
            platform=Platform(row[3]),
            state=AgentState(row[4]),
            online=row[5],
            excluded=row[6],
            facts=row[7] or {},
        )
        for row in rows
    ]
