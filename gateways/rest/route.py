"""A route as one declaration: what it takes, what it gives, who may. The document and the dispatcher both read it."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
import psycopg
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model
from starlette.requests import Request
from starlette.responses import Response

from command_bus.access import Standing
from command_bus.authenticating import LiveSession
from command_bus.bus import Done, Intent
from command_bus.context import Caller
from command_bus.handlers.output_reads import OutputReadRecords
from domain.errors import DomainError, NotFoundError
from domain.permissions import Permission
from domain.scopes import Scope
from gateways.rest.admission import Kind
from gateways.rest.feed import LogFeed
from gateways.rest.parts import ApiParts
from projections.pages import OfPast, Page
from projections.replays import reading

API = "/api/v1"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
EVENT_STREAM = "text/event-stream"
MAX_POSITION = 2**53 - 1
"""What every JSON reader holds exactly; the log will not get there."""
NUMBERS = {"revision": 999_999_999, "checkpoint": 999_999_999, "position": MAX_POSITION}
"""Path parameters that are whole numbers from 1, and the largest of each; all others are ids."""
CONNECTION_S = 10.0
_encode = msgspec.json.Encoder().encode

Position = Annotated[int, Field(ge=0, le=MAX_POSITION)]
Row = TypeVar("Row")


class Query(BaseModel):
    """Query parameters. Unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AS_OF = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": MAX_POSITION},
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9._-]{0,63}$"},
    ]
}
"""A position, a time, or the name of a replay."""
At = Annotated[
    str | None,
    Field(
        default=None,
        description="Answer as of then: a position of the log, a time, or the name of a replay. The header "
        "`Fleetlog-At` says the same where this is left out. Lists and single things need a replay that stands there "
        "(`fleetlog replay`). What you may see is judged as of now.",
    ),
    WithJsonSchema(AS_OF),
]


class ReadQuery(Query):
    """Of reads that a projection answers."""

    at: At = None
    wait_position: Position | None = Field(
        default=None,
        description="Answer only once the read model has seen this log position (the `Fleetlog-Position` of a write); "
        "the header `Fleetlog-Wait-Position` says the same.",
    )


class OfLogQuery(Query):
    """Of reads that the log itself answers."""

    at: At = None


class PageQuery(ReadQuery):
    """Of lists."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: str | None = Field(default=None, max_length=2000, description="`next` of the page before.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request: authenticated and validated."""

    parts: ApiParts
    feed: LogFeed
    request: Request
    caller: Caller
    session: LiveSession | None
    """Of a person who is logged in; None of a key."""
    standing: Standing
    """Over, once the caller may no longer do what they might when they called."""
    path: dict[str, Any]
    """Path parameters, parsed."""
    query: Any
    """An instance of the route's query model."""
    intent: Any
    """An instance of the route's intent; None on reads."""
    outputs: OutputReadRecords
    """Puts on record that outputs are read."""
    at: int | None = None
    """The position as of which it asks; None asks for what is now."""

    @property
    def tenants(self) -> Scope | None:
        """The clients and sites that the caller sees by this route (invariant 8), as of now; None sees all."""
        scope = self.caller.scope
        if scope.everything:
            return None
        return scope if self.at is None else OfPast.like(scope)

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """A connection to read with, as of the position asked for; waits for one, but not for ever.

        Raises:
            NoReplayError: no replay stands there.
        """
        return self.connection_now() if self.at is None else self._connection_at(self.at)

    def connection_now(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """A connection that reads what is now, whatever was asked for: for what the caller may see."""
        return self.parts.pool.connection(timeout=CONNECTION_S)

    @asynccontextmanager
    async def _connection_at(self, position: int) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with self.connection_now() as connection, reading(connection, position) as reader:
            yield reader


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    """Below `API`."""
    summary: str
    tag: str
    handler: Handler
    response: type[BaseModel] | None = None
    """Of its JSON body; None where the answer is something else."""
    media_type: str = JSON
    status: int = 200
    intent: type[Intent] | None = None
    form: bool = False
    """Its body comes as a form, whose fields of other names are passed over; for what others' standards have so."""
    query: type[Query] = Query
    reads: tuple[str, ...] = ()
    """The projections that answer it, for those who wait for a position."""
    past: bool = True
    """Projections answer it as of an earlier position, too: False where it is about now alone."""
    of_log: bool = False
    """The log itself answers it, which needs no replay for that."""
    needs: Permission | None
    """What the caller must be permitted; None where every key may. What is answered lies within its scope."""
    anonymous: bool = False
    """Whoever comes, with a key, a session or nothing, is nobody here."""
    unfinished: bool = False
    """A session may call it before its person's login is in order."""
    everywhere: bool = False
    """It shows what belongs to no tenant, so that it needs its permission over everything."""
    etag: bool = False
    """It shows one thing, whose stream version is its ETag."""
    location: bool = False
    streams: bool = False
    bulk: bool = False
    """One request of it may concern thousands of agents."""
    errors: tuple[type[DomainError], ...] = ()
    """Of the domain, beyond those that any request may meet."""
    description: str = ""

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        return tuple(re.findall(r"{(\w+)}", self.path))

    @cached_property
    def of_past(self) -> bool:
        """It can be asked as of an earlier position."""
        follows = self.media_type == EVENT_STREAM
        return self.of_log or (bool(self.reads) and self.past and self.intent is None and not follows)

    @cached_property
    def kind(self) -> Kind:
        if self.streams:
            return Kind.STREAM
        if self.intent is None:
            return Kind.READ
        return Kind.BULK if self.bulk else Kind.WRITE

    @cached_property
    def operation_id(self) -> str:
        words = [word for word in re.split(r"[/{}_-]+", self.path) if word]
        return "_".join([self.method.lower(), *words])

    @cached_property
    def body(self) -> type[BaseModel] | None:
        """The intent without the fields that the path gives."""
        intent = self.intent
        if intent is None:
            return None
        fields: dict[str, Any] = {
            name: (info.annotation, info) for name, info in intent.model_fields.items() if name not in self.path_names
        }
        if len(fields) == len(intent.model_fields):
            return intent
        model: type[BaseModel] = create_model(
            f"{intent.__name__}Body",
            __config__=ConfigDict(extra="forbid", frozen=True),
            __doc__=intent.__doc__,
            **fields,
        )
        return model

    @cached_property
    def body_optional(self) -> bool:
        """Nothing in the body is required, so it may be left out."""
        return self.body is not None and not any(info.is_required() for info in self.body.model_fields.values())


class Model(BaseModel):
    """Of answers. Nothing is left out of an answer, so that its shape does not depend on its content."""

    model_config = ConfigDict(extra="forbid")


class Answer(Model):
    """An accepted change: it is on disk."""

    id: UUID
    position: int = Field(description="Of its last event in the log; a read that waits for it sees the change.")
    version: int | None = Field(default=None, description="Of the thing now; its next ETag.")


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(document), status, headers, JSON)


ItemModel = TypeVar("ItemModel", bound=Model)


class PageOf(Model, Generic[ItemModel]):
    """One page of a list."""

    items: list[ItemModel]
    next: str | None = Field(description="`cursor` of the next page; null if this is the last.")


def page_of(page: Page[Row], document: Callable[[Row], dict[str, Any]]) -> Response:
    return json_response({"items": [document(row) for row in page.items], "next": page.next})


def found(row: Row | None, what: str, wanted: object) -> Row:
    """A row that must be there.

    Raises:
        NotFoundError: there is none, or the caller does not see it.
    """
    if row is None:
        raise NotFoundError(f"There is no {what} {wanted}.")
    return row


def one(document: dict[str, Any] | msgspec.Struct, version: int) -> Response:
    """A single thing, with its version as ETag."""
    return json_response(document, headers={"ETag": f'"{version}"'})


def answered(done: Done, status: int, location: str | None = None) -> Response:
    """An accepted intent."""
    headers = {"Fleetlog-Position": str(done.position)}
    if done.version is not None:
        headers["ETag"] = f'"{done.version}"'
    if done.repeated:
        headers["Idempotency-Replayed"] = "true"
    if location is not None:
        headers["Location"] = API + location.format(**done.answer)
    document = done.answer | {"position": done.position, "version": done.version}
    return json_response(document, status, headers)


def write(
    method: str,
    path: str,
    intent: type[Intent],
    *,
    tag: str,
    status: int = 200,
    response: type[BaseModel] = Answer,
    location: str | None = None,
    errors: tuple[type[DomainError], ...] = (),
    bulk: bool = False,
) -> Route:
    """A route that has an intent decided by the bus.

    Args:
        method: of HTTP.
        path: below `API`; its parameters are fields of the intent.
        intent: what the body and the path make together.
        tag: the heading that it stands under.
        status: of success.
        response: the model of its answer.
        location: where to look next, with the answer's fields in braces.
        errors: rules of the domain that it may break.
        bulk: it may concern thousands of agents.
    """

    async def dispatch(call: Call) -> Response:
        return answered(await call.parts.bus.dispatch(call.intent, call.caller), status, location)

    return Route(
        method=method,
        path=path,
        summary=(intent.__doc__ or "").strip().splitlines()[0],
        tag=tag,
        handler=dispatch,
        response=response,
        status=status,
        intent=intent,
        needs=intent.needs,
        location=location is not None,
        errors=errors,
        bulk=bulk,
    )
