"""Which agents each check is for, as what keeps their lists asks for it."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from domain.checks import CheckTerms
from domain.ids import AgentId, ClientId, SiteId
from domain.rollout_candidates import is_meant
from domain.rollout_terms import Target
from domain.scopes import EVERYTHING, Place, Scope
from projections import sql
from projections.rollout_reads import RolloutReader, candidates_of, matching_of, scope_of, wanted_of
from projections.rollouts import read_all

_SQL = sql.load("checks")
_decode_terms = msgspec.json.Decoder(CheckTerms).decode


class Targeted(msgspec.Struct, frozen=True):
    """A check that is to be measured, and on whom it may be."""

    check_id: UUID
    revision: int
    terms: CheckTerms
    scope: Scope
    actor: str
    """Who defined it as it is."""


class Orphan(msgspec.Struct, frozen=True):
    """What a check found on an agent where it is not measured any more."""

    finding_id: UUID
    agent_id: AgentId
    check_id: UUID
    name: str
    state: str


class CheckReader(RolloutReader):
    """What the keeper of check lists asks of the read models."""

    async def targeted(self) -> list[Targeted]:
        """All checks that are to be measured."""
        async with self._connect() as connection:
            rows = await (await connection.execute(_SQL["given"])).fetchall()
        return [_targeted(row) for row in rows]

    async def position(self) -> int:
        """How far the read model of agents is."""
        ((position,),) = await self._rows("agents_position")
        return int(position)

    async def meant(self, target: Target, scope: Scope) -> set[UUID]:
        """All active agents that a target means now; none where it names what is not there any more."""
        candidates, unknown, _ = await self.candidates(target, scope)
        if unknown:
            return set()
        return await asyncio.to_thread(lambda: {one.agent_id for one in candidates if is_meant(target, one)})

    async def changed(self, after: int, upto: int, limit: int) -> tuple[list[UUID], int]:
        """Agents to whom something happened in a part of the log, the first of them; and up to where that are all."""
        async with self._connect() as connection:
            found = {"after": after, "upto": upto, "limit": limit}
            rows = await (await connection.execute(_SQL["changed_agents"], found)).fetchall()
        return [row[0] for row in rows], rows[-1][1] if len(rows) == limit else upto

    async def meant_among(self, target: Target, scope: Scope, after: int, upto: int) -> set[UUID]:
        """Of the agents to whom something happened in a part of the log, those that a target means."""
        async with self._snapshot() as connection:
            found = (
                wanted_of(target, timezone=False)
                | await matching_of(connection, target, scope, (after, upto))
                | scope_of(scope)
                | {"after": after, "upto": upto, "limit": None}
            )
            rows = await read_all(connection, "joined", found)
        return {one.agent_id for one in candidates_of(rows) if is_meant(target, one)}

    async def orphans(self, limit: int) -> Sequence[Orphan]:
        """What is found where it is not measured any more."""
        async with self._connect() as connection:
            rows = await (await connection.execute(_SQL["orphans"], {"limit": limit})).fetchall()
        return [Orphan(row[0], AgentId(row[1]), *row[2:]) for row in rows]


def _targeted(row: tuple[Any, ...]) -> Targeted:
    check_id, revision, terms, everywhere, clients, sites, site_clients, actor = row
    places = [
        Place(SiteId(UUID(site)), ClientId(UUID(client))) for site, client in zip(sites, site_clients, strict=True)
    ]
    scope = EVERYTHING if everywhere else Scope.of((UUID(one) for one in clients), places)
    return Targeted(check_id, revision, _decode_terms(terms), scope, actor)
