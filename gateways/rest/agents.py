"""Agents, their pending queues and their stories."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.errors import FreshProofNeededError
from command_bus.event_log import Selection
from command_bus.intents.agents import (
    MoveAgent,
    RenameAgent,
    ResumeAgent,
    RetireAgent,
    SettleDuplicate,
    SuspendAgent,
    TagAgent,
    TagAgents,
)
from command_bus.intents.erasures import EraseAgent
from command_bus.intents.matching import Matching
from domain.agents import AgentState, Platform
from domain.errors import (
    AgentNotRetiredError,
    AgentNotSuspendedError,
    AgentRetiredError,
    AgentSuspendedError,
    ErasedError,
    NoDuplicateError,
    NotFoundError,
    TooManyAgentsError,
    TooManyTagsError,
)
from domain.permissions import Permission
from gateways.rest.agent_past import then
from gateways.rest.commands import QueuedModel, queued_document
from gateways.rest.erasures import ErasedAnswer
from gateways.rest.errors import NotOfPastError
from gateways.rest.events import EventModel, StoryQuery, event_page
from gateways.rest.presence import last_seen
from gateways.rest.route import Call, Model, PageOf, PageQuery, ReadQuery, Route, found, json_response, one, write
from projections.agent_filters import Filters
from projections.agent_filters import filters_of as narrowed_by
from projections.agents import AgentRow, count_agents, get_agent, get_agent_detail
from projections.agents import list_agents as read_agents
from projections.errors import NoReplayError
from projections.pending import QueueCounts, counts, cut_queue, list_pending

TAG = "Agents"
READS = ("agents", "clients")
OF_ONE = "As of an earlier time it needs no replay: where none stands there, this agent's own events are folded."
_GONE = (NotFoundError, AgentRetiredError)
_COUNTED = (TooManyAgentsError, FreshProofNeededError)
"""Of what counts against how many machines somebody may touch, or touches without showing that it is they."""


class AgentsFilter(ReadQuery, Matching):
    """Which agents."""


class AgentsQuery(AgentsFilter, PageQuery):
    sort: Annotated[str, Field(pattern="^-?(name|id|online|platform|client|seen|pending|failing)$")] = Field(
        default="name",
        description="`name`, `id` (in the order of enrollment), `online`, `platform`, `client` (by its name), "
        "`pending` (how much waits), `failing` (how many checks fail) or `seen` (longest ago first, those never heard "
        "of last; of now alone); with `-` in front, the other way round.",
    )


class SightingModel(Model):
    """A machine, as far as it shows itself."""

    address: str
    hostname: str
    machine: str = Field(description="Tells machines apart.")
    instance: str = Field(description="Tells two runs of the program apart.")


class DuplicateModel(Model):
    """Two machines with one identity: the newcomer is shut out until somebody says which stays."""

    present: SightingModel
    newcomer: SightingModel
    noticed_at: AwareDatetime


class AgentModel(Model):
    """A managed machine."""

    id: UUID
    name: str
    hostname: str
    client_id: UUID
    client_name: str | None
    site_id: UUID
    site_name: str | None
    platform: Platform
    arch: str
    os: str
    agent_version: str
    tags: list[str]
    state: AgentState
    erased: bool = Field(description="What it told of itself is erased for good.")
    online: bool
    connected_at: AwareDatetime | None
    disconnected_at: AwareDatetime | None
    last_seen_at: AwareDatetime | None = Field(
        description="Its last sign of life; telemetry, and not in the log: null as of an earlier time."
    )
    address: str
    transport: str
    gateway: str
    logged_in_user: str
    facts_at: AwareDatetime | None
    packages: int = Field(description="How much is installed; 0 where it has not told.")
    updates: int | None = Field(description="How much of it could be updated; null where the machine cannot say.")
    security_updates: int | None = Field(description="How many of these updates are said to be for security.")
    software_at: AwareDatetime | None = Field(description="When it told what is installed.")
    reboot_needed: bool | None = Field(
        description="Whether it waits to be restarted; null where it cannot say or has not told."
    )
    duplicate: DuplicateModel | None = Field(description="Null where there is none that nobody has settled.")
    failing: int = Field(description="How many checks fail on it.")
    warning: int = Field(description="How many checks warn on it.")
    pending: int = Field(description="How many commands wait for it, or are with it and have not ended.")
    enrolled_at: AwareDatetime
    version: int


class AgentCountsModel(Model):
    """How many agents fit."""

    total: int
    online: int
    suspended: int
    retired: int
    duplicates: int = Field(description="With another machine that was shut out, and nobody said which stays.")


class AgentDetailModel(AgentModel):
    """A managed machine, with all that it told of itself."""

    public_key: str = Field(description="Ed25519, in hex.")
    facts: dict[str, Any]


class TagAnswer(Model):
    """What was done of it, and what is left: the same request again goes on."""

    tagged: int = Field(description="Agents that have their new tags now.")
    left: int = Field(description="Agents for the next request: one changes 2,000 at the most.")
    position: int = Field(description="Of its last event in the log; a read that waits for it sees the change.")
    version: None = None


def agent_document(row: AgentRow, last_seen_at: Any, pending: int) -> dict[str, Any]:
    """One agent, as `AgentModel` describes it."""
    return {
        "id": row.agent_id,
        "name": row.name,
        "hostname": row.hostname,
        "client_id": row.client_id,
        "client_name": row.client,
        "site_id": row.site_id,
        "site_name": row.site,
        "platform": row.platform,
        "arch": row.arch,
        "os": row.os,
        "agent_version": row.agent_version,
        "tags": row.tags,
        "state": row.state,
        "erased": row.erased,
        "online": row.online,
        "connected_at": row.connected_at,
        "disconnected_at": row.disconnected_at,
        "last_seen_at": last_seen_at,
        "address": row.address,
        "transport": row.transport,
        "gateway": row.gateway,
        "logged_in_user": row.logged_in_user,
        "facts_at": row.facts_at,
        "packages": row.packages,
        "updates": row.updates,
        "security_updates": row.security_updates,
        "software_at": row.software_at,
        "reboot_needed": row.reboot_needed,
        "duplicate": row.duplicate,
        "failing": row.failing,
        "warning": row.warning,
        "pending": pending,
        "enrolled_at": row.enrolled_at,
        "version": row.version,
    }


def filters_of(call: Call) -> Filters:
    """What the query narrows the agents by.

    Raises:
        NotOfPastError: signs of life are kept for now alone.
    """
    query: AgentsFilter = call.query
    by_seen = getattr(query, "sort", "").endswith("seen")
    if call.at is not None and (by_seen or query.seen_after is not None or query.seen_before is not None):
        raise NotOfPastError("Signs of life are telemetry, and known of now alone.")
    return narrowed_by(query.to_domain())


async def list_agents(call: Call) -> Response:
    query: AgentsQuery = call.query
    filters = filters_of(call)
    async with call.connection() as connection:
        page = await read_agents(
            connection, client_ids=call.tenants, sort=query.sort, cursor=query.cursor, limit=query.limit, **filters
        )
        agent_ids = [row.agent_id for row in page.items]
        seen = await last_seen(call, connection, agent_ids)
        waiting = await counts(connection, agent_ids)
    items = [
        agent_document(row, seen.get(row.agent_id), waiting.get(row.agent_id, QueueCounts()).open) for row in page.items
    ]
    return json_response({"items": items, "next": page.next})


async def count(call: Call) -> Response:
    filters = filters_of(call)
    async with call.connection() as connection:
        counted = await count_agents(connection, client_ids=call.tenants, **filters)
    return json_response(counted)


async def show_agent(call: Call) -> Response:
    agent_id = call.path["agent_id"]
    try:
        async with call.connection() as connection:
            row = found(await get_agent_detail(connection, agent_id, client_ids=call.tenants), "agent", agent_id)
            seen = (await last_seen(call, connection, [agent_id])).get(agent_id)
            waiting = (await counts(connection, [agent_id])).get(agent_id, QueueCounts()).open
    except NoReplayError:
        past = found(await then(call, agent_id), "agent", agent_id)
        row, seen, waiting = past.agent, None, len(past.queue)
    detail = {"public_key": row.public_key, "facts": row.facts}
    return one(agent_document(row, seen, waiting) | detail, row.version)


async def queue(call: Call) -> Response:
    query: PageQuery = call.query
    agent_id = call.path["agent_id"]
    try:
        async with call.connection() as connection:
            found(await get_agent(connection, agent_id, client_ids=call.tenants), "agent", agent_id)
            page = await list_pending(
                connection, agent_id, client_ids=call.tenants, cursor=query.cursor, limit=query.limit
            )
    except NoReplayError:
        past = found(await then(call, agent_id), "agent", agent_id)
        page = cut_queue(past.pending(call), cursor=query.cursor, limit=query.limit)
    return json_response({"items": [queued_document(row) for row in page.items], "next": page.next})


async def timeline(call: Call) -> Response:
    query: StoryQuery = call.query
    agent_id = call.path["agent_id"]
    async with call.connection() as connection:
        found(await get_agent(connection, agent_id, client_ids=call.tenants), "agent", agent_id)
    scope = call.caller.scope
    selection = Selection(agent_id=agent_id, client_ids=None if scope.everything else tuple(scope.known_clients))
    return await event_page(call, selection, limit=query.limit, cursor=query.cursor, backwards=True)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/agents",
        needs=Permission.AGENTS_SEE,
        summary="Agents, by name or another order.",
        tag=TAG,
        handler=list_agents,
        query=AgentsQuery,
        response=PageOf[AgentModel],
        reads=READS,
    ),
    Route(
        method="GET",
        path="/agents/counts",
        needs=Permission.AGENTS_SEE,
        summary="How many agents fit, by state.",
        tag=TAG,
        handler=count,
        query=AgentsFilter,
        response=AgentCountsModel,
        reads=READS,
    ),
    write(
        "POST",
        "/agents/tags",
        TagAgents,
        tag=TAG,
        response=TagAnswer,
        errors=(NotFoundError, TooManyTagsError, *_COUNTED),
        bulk=True,
    ),
    Route(
        method="GET",
        path="/agents/{agent_id}",
        needs=Permission.AGENTS_SEE,
        summary="One agent, with its facts.",
        description=OF_ONE,
        tag=TAG,
        handler=show_agent,
        query=ReadQuery,
        response=AgentDetailModel,
        reads=READS,
        etag=True,
    ),
    Route(
        method="GET",
        path="/agents/{agent_id}/queue",
        needs=Permission.COMMANDS_SEE,
        summary="What waits for an agent, in the order of delivery.",
        description=OF_ONE,
        tag=TAG,
        handler=queue,
        query=PageQuery,
        response=PageOf[QueuedModel],
        reads=("agents",),
    ),
    Route(
        method="GET",
        path="/agents/{agent_id}/timeline",
        needs=Permission.EVENTS_SEE,
        summary="What happened to an agent, newest first.",
        tag=TAG,
        handler=timeline,
        query=StoryQuery,
        response=PageOf[EventModel],
        reads=("agents",),
    ),
    write("PUT", "/agents/{agent_id}/name", RenameAgent, tag=TAG, errors=_GONE),
    write("PUT", "/agents/{agent_id}/tags", TagAgent, tag=TAG, errors=_GONE),
    write("PUT", "/agents/{agent_id}/site", MoveAgent, tag=TAG, errors=(*_GONE, *_COUNTED)),
    write(
        "POST",
        "/agents/{agent_id}/suspend",
        SuspendAgent,
        tag=TAG,
        errors=(*_GONE, AgentSuspendedError, *_COUNTED),
    ),
    write("POST", "/agents/{agent_id}/resume", ResumeAgent, tag=TAG, errors=(*_GONE, AgentNotSuspendedError)),
    write("POST", "/agents/{agent_id}/duplicate", SettleDuplicate, tag=TAG, errors=(NotFoundError, NoDuplicateError)),
    write("POST", "/agents/{agent_id}/retire", RetireAgent, tag=TAG, errors=(*_GONE, *_COUNTED)),
    write(
        "POST",
        "/agents/{agent_id}/erase",
        EraseAgent,
        tag=TAG,
        response=ErasedAnswer,
        errors=(NotFoundError, AgentNotRetiredError, ErasedError),
    ),
)
