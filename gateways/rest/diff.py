"""What changed between two positions of the log, thing by thing."""

from collections.abc import Callable
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import Field, WithJsonSchema
from starlette.responses import Response

from command_bus.event_log import Selection
from domain.event import Recorded
from domain.permissions import Permission
from gateways.rest.errors import FieldError, InvalidRequestError, PositionAheadError
from gateways.rest.events import visible_to
from gateways.rest.past import SAID, parsed, resolved
from gateways.rest.route import AS_OF, MAX_POSITION, Call, Model, Query, Route, json_response
from projections.changes import KINDS, Changed, Kind, changed
from projections.errors import InvalidCursorError, UnknownReplayError
from projections.projection import Cells

PAGE = 1000
MOST_PAGES = 10
"""So many pages of the log are looked through for one page of things, which may then be a short one."""
TAG = "Events"
AsOf = Annotated[str | None, WithJsonSchema(AS_OF)]


class DiffQuery(Query):
    earlier: AsOf = Field(
        default=None, description="From then: a position, a time, or the name of a replay. By default the beginning."
    )
    later: AsOf = Field(default=None, description="Up to then; by default, now.")
    what: list[Literal[tuple(KINDS)]] = Field(  # type: ignore[valid-type]
        default=[], max_length=len(KINDS), description="Only such things; may be repeated."
    )
    agent_id: UUID | None = Field(default=None, description="Only what concerns this agent.")
    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = Field(default=None, max_length=20, description="`next` of the page before.")


class DifferenceModel(Model):
    """A side of a thing that is not what it was."""

    field: str
    before: Any = Field(description="Null: nothing.")
    after: Any


class ChangedModel(Model):
    """A thing that is not what it was."""

    what: Literal[tuple(KINDS)]  # type: ignore[valid-type]
    id: UUID
    name: str
    change: Literal["new", "gone", "changed"] = Field(description="`gone`, too, where you may no longer see it.")
    text: str = Field(description="What changed, in one line.")
    fields: list[DifferenceModel]
    events: int = Field(description="How many were about it in between.")
    first_position: int
    last_position: int


class DiffModel(Model):
    """One page of what changed, in the order in which it began to."""

    earlier: int = Field(description="The position.")
    later: int
    items: list[ChangedModel] = Field(description="May be fewer than asked for, though more follow.")
    next: str | None = Field(description="`cursor` of the next page; null if this is the last.")


async def diff(call: Call) -> Response:
    query: DiffQuery = call.query
    later = await _position(call, "later", query.later)
    later = await call.parts.log.head() if later is None else later
    earlier = await _position(call, "earlier", query.earlier) or 0
    earlier, later = sorted((earlier, later))
    after = earlier
    if query.cursor is not None:
        if not query.cursor.isascii() or not query.cursor.isdecimal() or int(query.cursor) > MAX_POSITION:
            raise InvalidCursorError
        after = max(earlier, int(query.cursor))
    search = Search(call, await visible_to(call), [KINDS[name] for name in query.what] or list(KINDS.values()))
    items, end = await search.page(earlier, later, after, query.limit, query.agent_id)
    following = str(end) if end is not None else None
    return json_response({"earlier": earlier, "later": later, "items": items, "next": following})


async def _position(call: Call, name: str, text: str | None) -> int | None:
    if text is None:
        return None
    wanted = parsed(text)
    if wanted is None:
        raise InvalidRequestError(errors=[FieldError(f"?{name}", f"It is {SAID}", "at")])
    return await resolved(call.parts, wanted)


class Search:
    """Looks through the log for what began to change.

    Args:
        call: whose.
        visible: the events that the caller may see.
        kinds: of things.
    """

    def __init__(self, call: Call, visible: Selection, kinds: list[Kind]) -> None:
        self._log = call.parts.log
        self._visible = visible
        self._within = _judge(call, visible)
        self._kinds: dict[str, list[Kind]] = {}
        for kind in kinds:
            for event_type in kind.event_types:
                self._kinds.setdefault(event_type, []).append(kind)

    async def page(
        self, earlier: int, later: int, after: int, limit: int, agent_id: UUID | None
    ) -> tuple[list[Changed], int | None]:
        """Things that changed, and the position to go on from; None if there are no more."""
        selection = msgspec.structs.replace(self._visible, types=tuple(sorted(self._kinds)), agent_id=agent_id)
        found: list[Changed] = []
        for _ in range(MOST_PAGES):
            events = await self._log.read(selection, after=after, upto=later, limit=PAGE, tolerant=True)
            things = self._things(events)
            streams = {stream for kind, key in things for stream in kind.streams_of(key)}
            stories = await self._log.read_streams(list(streams), tolerant=True)
            for (kind, key), first in things.items():
                story = [one for stream in kind.streams_of(key) for one in stories.get(stream, [])]
                one = changed(kind, key, story, earlier, later, self._within, self._visible_event)
                # What began before was told of there.
                if one is not None and one.first_position == first:
                    found.append(one)
                    if len(found) == limit:
                        return found, first
            if len(events) < PAGE:
                return found, None
            after = events[-1].position
        return found, after

    def _visible_event(self, one: Recorded) -> bool:
        clients, places = self._visible.client_ids, self._visible.places
        if clients is not None and one.client_id not in clients:
            return False
        return places is None or places.hold(one.originator_id, one.agent_id, one.client_id)

    def _things(self, events: list[Recorded]) -> dict[tuple[Kind, UUID], int]:
        """What they are about, and where each is met first."""
        found: dict[tuple[Kind, UUID], int] = {}
        for recorded in events:
            for kind in self._kinds.get(recorded.topic.partition("/")[0], ()):
                found.setdefault((kind, kind.key_of(recorded)), recorded.position)
        return found


def _judge(call: Call, visible: Selection) -> Callable[[Cells], bool]:
    """Whether a row may be seen, as its lists judge it, as of now (invariant 8)."""
    scope, places = call.caller.scope, visible.places

    def within(row: Cells) -> bool:
        if scope.everything:
            return True
        if "client_ids" in row:
            return bool(row["client_ids"]) and {UUID(str(one)) for one in row["client_ids"]} <= scope.clients
        client_id = row.get("client_id")
        if client_id in scope.clients:
            return True
        if places is None or client_id not in scope.known_clients:
            return False
        agent_id = row.get("agent_id")
        return agent_id in places.agents if agent_id is not None else row.get("site_id") in places.sites

    return within


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/diff",
        needs=Permission.EVENTS_SEE,
        summary="What changed between two positions or times, thing by thing.",
        description="What went to and fro in between is no change, and it is the same whichever of the two is named "
        "first. What you may see is judged as of now.",
        tag=TAG,
        handler=diff,
        query=DiffQuery,
        response=DiffModel,
        errors=(PositionAheadError, UnknownReplayError, InvalidCursorError),
    ),
)
