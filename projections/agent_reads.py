"""Whom an action on many agents is about, for the command bus."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from psycopg.types.json import Jsonb

from domain.ids import AgentId, ClientId, SiteId
from domain.matching import Matching, ToTag
from domain.scopes import Place, Scope
from projections.agent_filters import filters_of, narrow_by
from projections.pages import Connection, Query
from schema.arrays import uuids


class AgentReader:
    """What the command bus asks of the read model of agents.

    Args:
        connect: lends a connection.
        catch_up: returns once these projections are where the log was when it was called. Without it they are read as
            they are.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Connection]],
        catch_up: Callable[[Collection[str]], Awaitable[None]] | None = None,
    ) -> None:
        self._connect = connect
        self._catch_up = catch_up

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
        """Agents whose tags are not yet as they are wanted.

        Args:
            named: these, if they are not retired,
            matching: and those that match.
            scope: what the caller sees.
            without: none of these.
            add: the tags that they are to have.
            remove: the tags that they are not to have.
        """
        await self._seen("agents")
        agents: dict[AgentId, Place] = {}
        async with self._connect() as connection:
            known = Query("SELECT agent_id FROM agents")
            known.tenants("client_id", scope, site="site_id", agent="agent_id")
            known.where("agent_id = ANY(%s::uuid[])", uuids(named))
            seen = set(await known.all(connection, lambda row: row[0])) if named else set()
            if unknown := sorted(set(named) - seen):
                return ToTag([], [AgentId(one) for one in unknown])
            if named:
                query = _to_change(scope, without, add, remove)
                query.where("agent_id = ANY(%s::uuid[])", uuids(named))
                agents |= dict(await query.all(connection, _where))
            if matching is not None:
                query = _to_change(scope, without, add, remove)
                narrow_by(query, filters_of(matching))
                agents |= dict(await query.all(connection, _where))
        return ToTag(sorted(agents.items(), key=lambda one: one[0]))

    async def _seen(self, *names: str) -> None:
        """A machine that was enrolled, tagged or moved a moment ago is meant as it is now."""
        if self._catch_up is not None:
            await self._catch_up(names)


def _to_change(scope: Scope, without: Collection[UUID], add: Collection[str], remove: Collection[str]) -> Query:
    query = Query("SELECT agent_id, site_id, client_id FROM agents")
    query.tenants("client_id", scope, site="site_id", agent="agent_id")
    query.where("state <> 'retired'")
    query.where("(NOT (tags @> %s) OR tags ?| %s::text[])", Jsonb(list(add)), list(remove))
    if without:
        query.where("agent_id <> ALL(%s::uuid[])", uuids(without))
    return query


def _where(row: tuple[UUID, UUID, UUID]) -> tuple[AgentId, Place]:
    return AgentId(row[0]), Place(SiteId(row[1]), ClientId(row[2]))
