"""The story of one thing: every event about it, each with its sentence."""

from uuid import UUID

import msgspec
from pydantic import Field
from starlette.responses import Response

from command_bus.event_log import Selection
from domain.event import Recorded
from domain.logins import login_stream
from domain.output_reads import Sought, reads_of
from domain.permissions import Permission
from domain.refused_orders import refused_orders_stream
from domain.secrets import reads_stream
from gateways.rest.events import EventModel, StoryQuery, event_documents, visible_to
from gateways.rest.route import MAX_POSITION, Call, PageOf, Route, json_response
from projections.api_keys import list_api_keys
from projections.errors import InvalidCursorError

TAG = "Events"
MOST_KEYS = 100
"""Of one user, the newest: what was done with others is found by their actor."""


class TimelineQuery(StoryQuery):
    """Of one thing, or of several together; of everything, where none is named."""

    agent_id: UUID | None = None
    command_id: UUID | None = None
    script_id: UUID | None = None
    user_id: UUID | None = Field(default=None, description="What happened to them, and all that they did.")
    rollout_id: UUID | None = Field(default=None, description="With all that its commands came to.")
    correlation_id: UUID | None = Field(default=None, description="All that one request brought about.")
    backwards: bool = Field(default=False, description="Newest first.")


async def timeline(call: Call) -> Response:
    query: TimelineQuery = call.query
    after = 0
    if query.cursor is not None:
        if not query.cursor.isascii() or not query.cursor.isdecimal() or not 0 < int(query.cursor) <= MAX_POSITION:
            raise InvalidCursorError
        after = int(query.cursor)
    visible = await visible_to(call)
    merged: dict[int, Recorded] = {}
    for selection in await _selections(call, query, visible):
        page = await call.parts.log.read(
            selection, after=after, upto=call.at, limit=query.limit + 1, backwards=query.backwards, tolerant=True
        )
        merged |= {one.position: one for one in page}
    found = [merged[position] for position in sorted(merged, reverse=query.backwards)]
    more, found = len(found) > query.limit, found[: query.limit]
    following = str(found[-1].position) if more else None
    items = await event_documents(call, found, _sought(query), query.rollout_id)
    return json_response({"items": items, "next": following})


def _sought(query: TimelineQuery) -> Sought:
    return Sought(
        agent_id=query.agent_id,
        stream_id=query.command_id,
        script_id=query.script_id,
        user_id=query.user_id,
        correlation_id=query.correlation_id,
    )


async def _selections(call: Call, query: TimelineQuery, visible: Selection) -> list[Selection]:
    """What the story is made of, each of it a range of an index, within what the caller may see."""
    whole: list[dict[str, UUID | str]] = [
        {"stream_id": one}
        for one in (query.command_id, query.script_id, query.rollout_id, query.user_id)
        if one is not None
    ]
    # Who read what it printed, which secrets it was given, and what was refused in its name, have streams of their own.
    whole += [{"stream_id": reads_of(one)} for one in (query.command_id, query.rollout_id) if one is not None]
    if query.command_id is not None:
        whole += [{"stream_id": reads_stream(query.command_id)}, {"stream_id": refused_orders_stream(query.command_id)}]
    if query.agent_id is not None:
        whole.append({"agent_id": query.agent_id})
    if query.correlation_id is not None:
        whole.append({"correlation_id": query.correlation_id})
    if query.rollout_id is not None:
        # Its commands are of the story that began it.
        first = await call.parts.log.read(Selection(stream_id=query.rollout_id), limit=1, tolerant=True)
        whole += [{"correlation_id": one.correlation_id} for one in first]
    if query.user_id is not None:
        whole += [{"stream_id": login_stream(query.user_id)}, {"actor": f"user:{query.user_id}"}]
        async with call.connection_now() as connection:
            keys = await list_api_keys(connection, client_ids=None, owner_id=query.user_id, limit=MOST_KEYS)
        whole += [{"actor": f"key:{row.api_key_id}"} for row in keys.items]
    return [msgspec.structs.replace(visible, **part) for part in whole or [{}]]


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/timeline",
        needs=Permission.EVENTS_SEE,
        summary="What happened to one thing, oldest first.",
        description="Name an agent, a command, a script, a user, a rollout, or a correlation id; of several, all.",
        tag=TAG,
        handler=timeline,
        of_log=True,
        query=TimelineQuery,
        response=PageOf[EventModel],
    ),
)
