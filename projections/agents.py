"""Agents as a list shows them: identity, place, presence and what the machine is."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, ClassVar, LiteralString, Self, Unpack
from uuid import UUID

import msgspec

from domain.agents import (
    AgentConnected,
    AgentDisconnected,
    AgentEnrolled,
    AgentFactsReported,
    AgentKeyOffered,
    AgentKeyRotated,
    AgentMoved,
    AgentRenamed,
    AgentResumed,
    AgentRetired,
    AgentServerKeyLearned,
    AgentState,
    AgentSuspended,
    AgentTagged,
    Platform,
)
from domain.checks import AgentCheckChanged, AgentCheckEnded
from domain.duplicates import AgentDuplicateNoticed, AgentDuplicateSettled
from domain.erasures import SubjectErased
from domain.event import Event, Recorded
from domain.personal import ERASED, SubjectKind
from domain.software import AgentSoftwareReported
from projections import agent_orders, sql
from projections.agent_filters import Filters, narrow_by
from projections.errors import FoldError
from projections.pages import DEFAULT_LIMIT, MAX_LIMIT, Connection, Order, Page, Query, Tenants
from projections.projection import Batch, Cells, Projection, TableBatch


class AgentRow(msgspec.Struct, frozen=True):
    agent_id: UUID
    client_id: UUID
    site_id: UUID
    name: str
    hostname: str
    platform: Platform
    arch: str
    agent_version: str
    public_key: str
    tags: tuple[str, ...]
    state: AgentState
    erased: bool
    online: bool
    connected_at: datetime | None
    disconnected_at: datetime | None
    address: str
    transport: str
    gateway: str
    os: str
    logged_in_user: str
    facts_at: datetime | None
    software: str
    """The hash of the list of what is installed; empty without one."""
    packages: int
    updates: int | None
    security_updates: int | None
    software_at: datetime | None
    reboot_needed: bool | None
    duplicate: dict[str, Any] | None
    failing: int
    """So many checks fail on it."""
    warning: int
    enrolled_at: datetime
    version: int
    sort_key: str
    client: str | None
    """The client's name; None while the clients projection is behind."""
    site: str | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[5], cells[9], cells[10] = Platform(row[5]), tuple(row[9]), AgentState(row[10])
        return cls(*cells)


class AgentDetail(AgentRow, frozen=True):
    """With all that it told of itself: kilobytes, so lists leave that where it is."""

    facts: dict[str, Any]


class AgentCounts(msgspec.Struct, frozen=True):
    total: int
    online: int
    suspended: int
    retired: int
    duplicates: int


def _summary(facts: dict[str, Any]) -> Cells:
    """What a list shows of the facts. They come from a machine, so nothing is taken for granted."""

    def text(*names: str) -> str | None:
        values = (facts.get(name) for name in names)
        return next((value for value in values if isinstance(value, str) and value), None)

    cells: Cells = {"os": text("os", "os_name") or "", "logged_in_user": text("logged_in_user") or ""}
    needed = facts.get("reboot_needed")
    cells["reboot_needed"] = needed if isinstance(needed, bool) else None
    agent_version, hostname = text("agent_version"), text("hostname")
    if agent_version is not None:
        cells["agent_version"] = agent_version
    if hostname is not None:
        cells |= {"hostname": hostname, "host_key": hostname.casefold()}
    return cells


_ERASED_CELLS: Cells = {
    "erased": True,
    "name": ERASED,
    "sort_key": ERASED,
    "hostname": ERASED,
    "host_key": ERASED,
    "agent_version": "",
    "address": "",
    "os": "",
    "logged_in_user": "",
    "facts": {ERASED: ERASED},
    "software": "",
    "packages": 0,
    "updates": None,
    "security_updates": None,
    "software_at": None,
    "reboot_needed": None,
    "duplicate": None,
}
"""Whatever comes of sealed fields, also that alone which a fact may have told: a table that saw them and one that is
made after the erasure, from fields that say that they are erased, are the same from there on (invariant 7)."""


class Agents(Projection):
    name: ClassVar[str] = "agents"
    folds: ClassVar[tuple[type[Event], ...]] = (
        AgentEnrolled,
        AgentMoved,
        AgentRenamed,
        AgentTagged,
        AgentKeyOffered,
        AgentKeyRotated,
        AgentServerKeyLearned,
        AgentSuspended,
        AgentResumed,
        AgentRetired,
        AgentConnected,
        AgentDisconnected,
        AgentFactsReported,
        AgentSoftwareReported,
        AgentCheckChanged,
        AgentCheckEnded,
        AgentDuplicateNoticed,
        AgentDuplicateSettled,
        SubjectErased,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        agents = batch["agents"]
        match recorded.event:
            case AgentConnected() | AgentDisconnected() | AgentFactsReported() | AgentSoftwareReported():
                self._fold_telling(agents, recorded)
            case AgentCheckChanged() | AgentCheckEnded():
                # Its row says nothing of checks, but those that match by them are looked for among what changed.
                if recorded.agent_id is None:
                    raise FoldError(f"{recorded.topic} at {recorded.position} names no agent.")
                agents.update(recorded.agent_id, position=recorded.position)
            case AgentDuplicateNoticed() | AgentDuplicateSettled():
                self._fold_duplicate(agents, recorded)
            case SubjectErased(kind=kind):
                # Of a machine that was not let in it stands in its enrollment's stream, and there is no row.
                if kind is SubjectKind.AGENT and recorded.originator_id == recorded.event.subject:
                    seen = {"version": recorded.originator_version, "position": recorded.position}
                    agents.update(recorded.originator_id, **_ERASED_CELLS, **seen)
            case AgentEnrolled() as enrolled:
                agents.insert(recorded.originator_id, **self._enrolled(enrolled, recorded))
            case event:
                keyed = isinstance(event, AgentKeyOffered | AgentKeyRotated | AgentServerKeyLearned)
                cells = self._keyed(event) if keyed else self._changed(event)
                agents.update(
                    recorded.originator_id,
                    **cells,
                    version=recorded.originator_version,
                    position=recorded.position,
                )

    @staticmethod
    def _fold_telling(agents: TableBatch, recorded: Recorded) -> None:
        """Presence and facts are streams of their own: the agent is named beside the event, and its version stays."""
        agent_id = recorded.agent_id
        if agent_id is None:
            raise FoldError(f"{recorded.topic} at {recorded.position} names no agent.")
        match recorded.event:
            case AgentConnected() as event:
                agents.update(
                    agent_id,
                    online=True,
                    connected_at=recorded.recorded_at,
                    gateway=event.gateway,
                    address=event.address,
                    transport=event.transport,
                    position=recorded.position,
                )
            case AgentDisconnected():
                at = recorded.recorded_at
                agents.update(agent_id, online=False, disconnected_at=at, position=recorded.position)
            case AgentFactsReported(facts=facts):
                told = _summary(facts)
                at = recorded.recorded_at
                agents.update(agent_id, facts=facts, facts_at=at, position=recorded.position, **told)
            case AgentSoftwareReported() as event:
                agents.update(
                    agent_id,
                    software=event.sha256,
                    packages=event.packages,
                    updates=event.updates,
                    security_updates=event.security_updates,
                    software_at=recorded.recorded_at,
                    position=recorded.position,
                )

    @staticmethod
    def _fold_duplicate(agents: TableBatch, recorded: Recorded) -> None:
        if recorded.agent_id is None:
            raise FoldError(f"{recorded.topic} at {recorded.position} names no agent.")
        duplicate: dict[str, Any] | None = None
        if isinstance(recorded.event, AgentDuplicateNoticed):
            noticed_at = recorded.recorded_at.isoformat()
            duplicate = msgspec.to_builtins(recorded.event) | {"noticed_at": noticed_at}
        agents.update(recorded.agent_id, duplicate=duplicate, position=recorded.position)

    @staticmethod
    def _enrolled(event: AgentEnrolled, recorded: Recorded) -> Cells:
        return {
            "client_id": event.client_id,
            "site_id": event.site_id,
            "name": event.hostname,
            "sort_key": event.hostname.casefold(),
            "hostname": event.hostname,
            "host_key": event.hostname.casefold(),
            "platform": event.platform,
            "arch": event.arch,
            "agent_version": event.agent_version,
            "public_key": event.public_key,
            "tags": (),
            "state": AgentState.ACTIVE,
            "erased": False,
            "online": False,
            "connected_at": None,
            "disconnected_at": None,
            "address": "",
            "transport": "",
            "gateway": "",
            "os": "",
            "logged_in_user": "",
            "facts": {},
            "facts_at": None,
            "software": "",
            "packages": 0,
            "updates": None,
            "security_updates": None,
            "software_at": None,
            "reboot_needed": None,
            "duplicate": None,
            "server_key": 1,
            "enrolled_at": recorded.recorded_at,
            "version": recorded.originator_version,
            "position": recorded.position,
        }

    @staticmethod
    def _keyed(event: Event) -> Cells:
        match event:
            case AgentKeyRotated():
                return {"public_key": event.public_key}
            case AgentServerKeyLearned():
                return {"server_key": event.number}
        return {}

    @staticmethod
    def _changed(event: Event) -> Cells:
        match event:
            case AgentMoved(site_id=site_id, client_id=client_id):
                return {"site_id": site_id, "client_id": client_id}
            case AgentRenamed(name=name):
                return {"name": name, "sort_key": name.casefold()}
            case AgentTagged(tags=tags):
                return {"tags": tags}
            case AgentSuspended():
                return {"state": AgentState.SUSPENDED}
            case AgentResumed():
                return {"state": AgentState.ACTIVE}
            case AgentRetired():
                return {"state": AgentState.RETIRED}
            case _:
                raise FoldError(f"{type(event).__name__} is not folded into agents.")


_SQL = sql.load("agents")
_ROW: LiteralString = f"{_SQL['columns']} FROM agents"
_DETAIL: LiteralString = f"{_SQL['columns']}, facts FROM agents"
Key = Callable[[AgentRow], Sequence[Any]]


def _both_ways(name: str, columns: LiteralString, types: tuple[type, ...], key: Key) -> dict[str, tuple[Order, Key]]:
    there, back = Order(f"agents.{name}", columns, types), Order(f"agents.-{name}", columns, types, descending=True)
    return {name: (there, key), f"-{name}": (back, key)}


SORTS: dict[str, tuple[Order, Key]] = (
    _both_ways("name", "sort_key, agent_id", (str, UUID), lambda row: (row.sort_key, row.agent_id))
    | _both_ways("id", "agent_id", (UUID,), lambda row: (row.agent_id,))
    | _both_ways(
        "online", "online, sort_key, agent_id", (bool, str, UUID), lambda row: (row.online, row.sort_key, row.agent_id)
    )
    | _both_ways(
        "platform",
        "platform, sort_key, agent_id",
        (str, str, UUID),
        lambda row: (row.platform, row.sort_key, row.agent_id),
    )
)
"""Each order of the list, and the one back; ids are in the order of enrollment."""


async def list_agents(
    connection: Connection,
    *,
    client_ids: Tenants,
    sort: str = "name",
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
    **filters: Unpack[Filters],
) -> Page[AgentRow]:
    """Agents that fit all that is given.

    Args:
        connection: to the database.
        client_ids: the tenants that the caller sees.
        sort: one of `SORTS` or of `agent_orders.STRETCHES`.
        cursor: of the page before, with the same sort.
        limit: at most so many.
        filters: see `Filters`.
    """

    def narrow(query: Query) -> None:
        query.tenants("client_id", client_ids, site="site_id", agent="agent_id")
        narrow_by(query, filters)

    query = Query(_ROW)
    if sort in agent_orders.STRETCHES:
        limit = max(1, min(limit, MAX_LIMIT))
        page = await agent_orders.walk(connection, sort, narrow, cursor=cursor, limit=limit)
        query.where("agent_id = ANY(%s::uuid[])", page.items)
        rows = {row.agent_id: row for row in await query.all(connection, AgentRow.from_row)}
        return Page([rows[agent_id] for agent_id in page.items if agent_id in rows], page.next)
    narrow(query)
    order, key = SORTS[sort]
    return await query.page(
        connection,
        AgentRow.from_row,
        order,
        cursor=cursor,
        limit=limit,
        key=key,
        # Names are read in their index alone: rows are wide, and text that is common may begin late in the alphabet.
        keys="agent_id FROM agents" if filters.get("text") else None,
    )


async def get_agent(connection: Connection, agent_id: UUID, *, client_ids: Tenants) -> AgentRow | None:
    """One agent, or None if there is none that the caller sees."""
    query = Query(_ROW)
    query.where("agent_id = %s", agent_id)
    query.tenants("client_id", client_ids, site="site_id", agent="agent_id")
    return await query.one(connection, AgentRow.from_row)


async def get_agent_detail(connection: Connection, agent_id: UUID, *, client_ids: Tenants) -> AgentDetail | None:
    """As `get_agent`, with its facts."""
    query = Query(_DETAIL)
    query.where("agent_id = %s", agent_id)
    query.tenants("client_id", client_ids, site="site_id", agent="agent_id")
    return await query.one(connection, AgentDetail.from_row)


async def agents_at(connection: Connection, site_ids: Collection[UUID]) -> frozenset[UUID]:
    """The agents that are at some sites now."""
    query = Query(_SQL["at_sites"])
    query.where("site_id = ANY(%s::uuid[])", list(site_ids))
    return frozenset(await query.all(connection, lambda row: row[0]))


async def agent_of_key(connection: Connection, public_key: str) -> AgentRow | None:
    """The newest agent that enrolled with this key: for gateways, which see all tenants."""
    query = Query(_ROW)
    query.where("public_key = %s", public_key)
    rows = await query.all(connection, AgentRow.from_row, "ORDER BY enrolled_at DESC, agent_id DESC LIMIT 1")
    return rows[0] if rows else None


class Unaware(msgspec.Struct, frozen=True):
    """Agents that have not said that they know a delivery key of the server."""

    total: int
    """Of all agents that are not retired."""
    count: int
    names: list[str]
    """Of some of them."""


async def unaware_of_key(connection: Connection, number: int, *, shown: int = 10) -> Unaware:
    """Who does not know a delivery key of the server, of all agents that are not retired.

    Args:
        connection: to the database.
        number: of the key.
        shown: so many are named.
    """
    cursor = await connection.execute(_SQL["unaware"], {"number": number, "shown": shown})
    total, count, names = await cursor.fetchone() or (0, 0, [])
    return Unaware(total, count, names)


async def count_agents(connection: Connection, *, client_ids: Tenants, **filters: Unpack[Filters]) -> AgentCounts:
    """How many there are that fit all that is given (see `Filters`)."""
    narrowing = {name for name, value in filters.items() if value not in (None, (), "")}
    everything = client_ids is None or client_ids.everything
    if everything and (not narrowing or (narrowing == {"retired"} and not filters.get("retired"))):
        query = Query(_SQL["counts_of_kept" if narrowing else "counts_of_all"])
    else:
        query = Query(_SQL["counts"])
        query.tenants("client_id", client_ids, site="site_id", agent="agent_id")
        narrow_by(query, filters)
    counts = await query.one(connection, lambda row: AgentCounts(*row))
    return counts or AgentCounts(0, 0, 0, 0, 0)


class PlaceCounts(msgspec.Struct, frozen=True):
    """Of a client or a site: how many agents it has that are not retired, and how many of them are online."""

    agents: int = 0
    online: int = 0


async def count_at_sites(
    connection: Connection, ids: Sequence[UUID], *, client_ids: Tenants
) -> dict[UUID, PlaceCounts]:
    """Of some sites, as far as the caller sees them; one without agents is absent."""
    query = Query(_SQL["counts_by_site"])
    return await _count_by(connection, query, client_ids, "site_id = ANY(%s)", "GROUP BY site_id", ids)


async def count_at_clients(
    connection: Connection, ids: Sequence[UUID], *, client_ids: Tenants
) -> dict[UUID, PlaceCounts]:
    """Of some clients, as far as the caller sees them; one without agents is absent."""
    query = Query(_SQL["counts_by_client"])
    return await _count_by(connection, query, client_ids, "client_id = ANY(%s)", "GROUP BY client_id", ids)


async def _count_by(
    connection: Connection,
    query: Query,
    client_ids: Tenants,
    of: LiteralString,
    group: LiteralString,
    ids: Sequence[UUID],
) -> dict[UUID, PlaceCounts]:
    query.tenants("client_id", client_ids, site="site_id", agent="agent_id")
    query.where("state <> 'retired'")
    query.where(of, list(ids))
    return dict(await query.all(connection, lambda row: (row[0], PlaceCounts(row[1], row[2])), group))
