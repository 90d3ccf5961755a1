"""The log itself: replay it, export it, follow it."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import AwareDatetime, Field
from starlette.responses import Response, StreamingResponse

from command_bus.errors import ForbiddenError
from command_bus.event_log import Places, Selection
from command_bus.intents.extracts import EventType
from command_bus.intents.times import Moment
from domain.event import Recorded, Undecodable
from domain.output_reads import NOT_SHOWN, Sought, without_output
from domain.permissions import Permission
from gateways.rest.errors import BehindError
from gateways.rest.output_reads import holds_output, read_of_events
from gateways.rest.route import (
    EVENT_STREAM,
    MAX_POSITION,
    At,
    Call,
    Model,
    PageOf,
    PageQuery,
    Position,
    Query,
    Route,
    json_response,
)
from gateways.rest.sse import UNDECODABLE, follow, last_event_id, stream
from projections.agents import agents_at
from projections.enrollments import not_agents_at
from projections.errors import InvalidCursorError, PositionTimeoutError
from projections.timeline import describe

PAGE = 1000
MOST_PAGES = 5
"""So many pages of the log are looked through for one page of what says something."""
NDJSON = "application/x-ndjson"
_VERSION = re.compile(r"[0-9]{1,9}")
TAG = "Events"
_encode = msgspec.json.Encoder().encode
Outputs = Annotated[
    bool,
    Field(
        default=False,
        description="Show what `data` holds of outputs, too: then it is on record that you read them. Otherwise "
        f"`{NOT_SHOWN}` stands for the end of an output.",
    ),
]


class Filter(Query):
    """Which events."""

    agent_id: UUID | None = None
    stream_id: UUID | None = Field(default=None, description="The thing that they are of: a command, an agent, ...")
    type: list[EventType] = Field(default=[], description="May be repeated.", max_length=100)
    actor: str | None = Field(
        default=None, max_length=200, description="As `key:<id>`, `agent:<id>`, `scheduler` or `host:root`."
    )
    correlation_id: UUID | None = Field(default=None, description="One for the whole story of a request.")
    client_id: UUID | None = Field(default=None, description="Only what concerns this client.")
    outputs: Outputs


class Window(Filter):
    """Which events, of which time."""

    at: At = None
    since: Moment | None = None
    until: Moment | None = Field(default=None, description="Up to and including this moment.")
    after: Position | None = Field(
        default=None, description="Only later ones than this position; backwards, only earlier ones."
    )


class ExportQuery(Window):
    q: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Words of its sentence or its type, whatever their case.",
    )


class EventsQuery(Window, PageQuery):
    backwards: bool = Field(default=False, description="Newest first.")
    q: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Words of its sentence or its type, whatever their case. A page looks through some thousands of "
        "events, and may then be a short or an empty one though more follow.",
    )


class StoryQuery(PageQuery):
    outputs: Outputs


class StreamQuery(Filter):
    after: Position | None = Field(
        default=None, description="Begin after this position; without it (and `Last-Event-ID`), with what comes next."
    )


class UndecodableModel(Model):
    """Why this server cannot read an event's body: it is newer than the server, or damaged."""

    error: str
    body: str = Field(description="As recorded; bytes that are no UTF-8 are shown as `\\xNN`.")


class EventModel(Model):
    """A fact, as the log holds it."""

    position: int = Field(description="Its place in the whole log.")
    type: str
    schema_version: int
    recorded_at: AwareDatetime
    text: str = Field(description="What happened, in one line.")
    stream_id: UUID = Field(description="The thing that it happened to.")
    version: int = Field(description="Of that thing, afterwards.")
    actor: str
    correlation_id: UUID
    causation_id: UUID | None
    agent_id: UUID | None
    client_id: UUID | None
    data: dict[str, Any] = Field(description="As schema/events/ describes the type; what is left out is the default.")
    undecodable: UndecodableModel | None = Field(
        description="Null, unless this server cannot read the event; `data` is then empty."
    )


def event_document(recorded: Recorded, *, outputs: bool = False) -> dict[str, Any]:
    """One event, as `EventModel` describes it.

    Args:
        recorded: the event.
        outputs: show what it holds of outputs; that they are read has to be on record by then.
    """
    name, _, schema_version = recorded.topic.partition("/")
    kept = recorded.event if isinstance(recorded.event, Undecodable) else None
    hidden = not outputs and holds_output(recorded)
    return {
        "position": recorded.position,
        "type": name,
        # Of an event that cannot be read, not even the topic is sure to be whole.
        "schema_version": int(schema_version) if _VERSION.fullmatch(schema_version) else 0,
        "recorded_at": recorded.recorded_at,
        "text": describe(recorded),
        "stream_id": recorded.originator_id,
        "version": recorded.originator_version,
        "actor": recorded.actor,
        "correlation_id": recorded.correlation_id,
        "causation_id": recorded.causation_id,
        "agent_id": recorded.agent_id,
        "client_id": recorded.client_id,
        "data": {} if kept is not None else without_output(recorded.event) if hidden else recorded.event,
        "undecodable": None
        if kept is None
        else {"error": kept.error, "body": NOT_SHOWN if hidden else kept.body.decode(errors="backslashreplace")},
    }


async def event_documents(
    call: Call, events: Sequence[Recorded], sought: Sought, rollout_id: UUID | None = None
) -> list[dict[str, Any]]:
    """Events as the caller asked to see them; where that is with outputs, it is on record by then.

    Args:
        call: whose query may ask for outputs.
        events: to be shown.
        sought: what was asked for.
        rollout_id: they are of this rollout, and of its commands.
    """
    if call.query.outputs:
        await read_of_events(call, events, sought, rollout_id=rollout_id)
    return [event_document(one, outputs=call.query.outputs) for one in events]


def sought_by(selection: Selection) -> Sought:
    """What a selection asks for, without the time."""
    return Sought(
        agent_id=selection.agent_id,
        stream_id=selection.stream_id,
        actor=selection.actor,
        correlation_id=selection.correlation_id,
    )


async def visible_to(call: Call) -> Selection:
    """All that the caller may see (invariant 8).

    Of single sites, that is all about the machines that are there or wait to be, so who they are is asked first: as of
    the feed's position, or later.
    """
    scope = call.caller.scope
    places = None
    if scope.sites:
        try:
            await call.parts.waiter.wait(call.feed.position, ("agents", "enrollments"), call.parts.wait_position_s)
        except PositionTimeoutError:
            raise BehindError from None
        async with call.connection_now() as connection:
            agents = await agents_at(connection, scope.site_ids)
            agents |= await not_agents_at(connection, scope.site_ids)
        places = Places(whole_clients=scope.clients, sites=scope.site_ids, agents=agents)
    return Selection(client_ids=None if scope.everything else tuple(scope.known_clients), places=places)


async def selection_of(call: Call) -> Selection:
    """What the query asks for, of what the caller may see."""
    query: Filter = call.query
    visible = await visible_to(call)
    clients = visible.client_ids
    if query.client_id is not None:
        clients = (query.client_id,) if clients is None or query.client_id in clients else ()
    return msgspec.structs.replace(
        visible,
        client_ids=clients,
        agent_id=query.agent_id,
        stream_id=query.stream_id,
        types=tuple(query.type) or None,
        actor=query.actor,
        correlation_id=query.correlation_id,
        since=getattr(query, "since", None),
        until=getattr(query, "until", None),
    )


def position_of(cursor: str) -> int:
    """The position that a page of the log ended with."""
    if not cursor.isascii() or not cursor.isdecimal() or not 0 < int(cursor) <= MAX_POSITION:
        raise InvalidCursorError
    return int(cursor)


async def event_page(
    call: Call, selection: Selection, *, after: int = 0, limit: int, cursor: str | None, backwards: bool
) -> Response:
    """One page of events; its cursor is the last position in it."""
    if cursor is not None:
        after = position_of(cursor)
    found = await call.parts.log.read(
        selection, after=after, upto=call.at, limit=limit + 1, backwards=backwards, tolerant=True
    )
    more = len(found) > limit
    found = found[:limit]
    items = await event_documents(call, found, sought_by(selection))
    return json_response({"items": items, "next": str(found[-1].position) if more else None})


async def list_events(call: Call) -> Response:
    query: EventsQuery = call.query
    selection = await selection_of(call)
    if query.q is not None:
        return await _said_page(call, selection, query, query.q.lower())
    return await event_page(
        call,
        selection,
        after=query.after or 0,
        limit=query.limit,
        cursor=query.cursor,
        backwards=query.backwards,
    )


async def _said_page(call: Call, selection: Selection, query: EventsQuery, words: str) -> Response:
    """The same of those that say something: sentences are made as they are read, so the log is looked through."""
    after = query.after or 0
    if query.cursor is not None:
        after = position_of(query.cursor)
    found: list[Recorded] = []
    following = None
    for _ in range(MOST_PAGES):
        page = await call.parts.log.read(
            selection, after=after, upto=call.at, limit=PAGE, backwards=query.backwards, tolerant=True
        )
        for one in page:
            after = one.position
            if _says(one, words):
                found.append(one)
                if len(found) == query.limit:
                    break
        more = len(page) == PAGE or (bool(page) and page[-1].position != after)
        following = str(after) if more else None
        if not more or len(found) == query.limit:
            break
    items = await event_documents(call, found, sought_by(selection))
    return json_response({"items": items, "next": following})


def _says(recorded: Recorded, words: str) -> bool:
    return words in recorded.topic.partition("/")[0].lower() or words in describe(recorded).lower()


async def export(call: Call) -> Response:
    query: ExportQuery = call.query
    upto = call.at if call.at is not None else await call.parts.log.head()
    lines = _lines(call, await selection_of(call), query.after or 0, upto)
    # The first page is read before the status goes out, so that a log that is away is a 503 and no empty export.
    first = await anext(lines, b"")
    return StreamingResponse(_then(first, lines), media_type=NDJSON, headers={"Fleetlog-Position": str(upto)})


async def _lines(call: Call, selection: Selection, after: int, upto: int) -> AsyncIterator[bytes]:
    words = None if call.query.q is None else call.query.q.lower()
    while True:
        page = await call.parts.log.read(selection, after=after, upto=upto, limit=PAGE, tolerant=True)
        if page:
            # Of what is looked through, that alone is shown, and read, which says it.
            wanted = page if words is None else [one for one in page if _says(one, words)]
            documents = await event_documents(call, wanted, sought_by(selection))
            yield b"".join(_encode(one) + b"\n" for one in documents)
            after = page[-1].position
        if len(page) < PAGE:
            return
        if call.standing.over:
            # Half of it is out: that it breaks off tells that this is not all.
            raise ForbiddenError


async def _then(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part


async def live(call: Call) -> Response:
    query: StreamQuery = call.query
    # A reconnecting client repeats its first address and adds where it came to: the latter is the later word.
    told = last_event_id(call)
    after = query.after if told is None else told
    asked_at, selection = call.feed.position, await selection_of(call)

    async def events() -> AsyncGenerator[tuple[int | None, str, Any]]:
        nonlocal asked_at, selection
        # From its beginning on the subscription follows machines by itself; up to there, none may have moved.
        while selection.places is not None and call.feed.moved_at > asked_at:
            asked_at, selection = call.feed.position, await selection_of(call)
        async with aclosing(follow(call, selection, after)) as story:
            async for recorded in story:
                (document,) = await event_documents(call, [recorded], sought_by(selection))
                yield recorded.position, UNDECODABLE if document["undecodable"] else document["type"], document

    return stream(call, events())


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/events",
        needs=Permission.EVENTS_SEE,
        summary="Replay the log.",
        tag=TAG,
        handler=list_events,
        of_log=True,
        query=EventsQuery,
        response=PageOf[EventModel],
    ),
    Route(
        method="GET",
        path="/events/export",
        needs=Permission.EVENTS_SEE,
        summary="All of the selected events, one JSON document per line.",
        description="Up to the position that the header `Fleetlog-Position` names; any size, in the order of position.",
        tag=TAG,
        handler=export,
        of_log=True,
        query=ExportQuery,
        response=EventModel,
        media_type=NDJSON,
        streams=True,
    ),
    Route(
        method="GET",
        path="/events/stream",
        needs=Permission.EVENTS_SEE,
        summary="Follow the log by server-sent events.",
        description="Each event's `id` is its position, `event` its type (`undecodable` where this server cannot "
        "read it), `data` its document. A client that comes back with `Last-Event-ID` misses nothing and sees nothing "
        "twice.",
        tag=TAG,
        handler=live,
        query=StreamQuery,
        response=EventModel,
        media_type=EVENT_STREAM,
        streams=True,
    ),
)
