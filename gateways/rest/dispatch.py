"""From a request to a route's handler: method, key, parameters, body, position; each refusal in its own words."""

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import parse_qsl
from uuid import UUID

import pydantic_core
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from command_bus.access import Standing
from command_bus.authenticating import Authenticated
from command_bus.bus import Intent
from command_bus.context import Caller, Freshness
from command_bus.errors import ForbiddenError, LoginIncompleteError
from command_bus.handlers.output_reads import OutputReadRecords
from command_bus.refusals import RefusalRecords
from domain.access import Access
from domain.errors import DomainError, NotFoundError, StaleVersionError
from domain.permissions import Permission
from gateways.rest.admission import ApiAdmission, Kind
from gateways.rest.auth import Gate, address_of
from gateways.rest.bodies import receive_body
from gateways.rest.cookies import must_not_be_cross_site
from gateways.rest.errors import (
    BehindError,
    FieldError,
    InvalidRequestError,
    MalformedHeaderError,
    MalformedJsonError,
    MethodNotAllowedError,
    PositionAheadError,
    StartingError,
    UnsupportedMediaTypeError,
)
from gateways.rest.feed import LogFeed
from gateways.rest.observe import correlation_id
from gateways.rest.parts import ApiParts, Identity
from gateways.rest.past import HEADER, position_asked_for
from gateways.rest.refusals import keep_identity, note_refused
from gateways.rest.route import FORM, JSON, MAX_POSITION, NUMBERS, Call, Query, ReadQuery, Route
from projections.errors import PositionTimeoutError

MAX_FIELDS = 50
"""Of a form."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
_VERSION = re.compile(r"[0-9]{1,18}")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,29})")
_NUMBER = re.compile(r"[1-9][0-9]{0,15}")


class Endpoint:
    """All methods of one path, as an ASGI application."""

    def __init__(
        self,
        path: str,
        routes: Mapping[str, Route],
        parts: ApiParts,
        feed: LogFeed,
        gate: Gate,
        admission: ApiAdmission,
        outputs: OutputReadRecords,
        refusals: RefusalRecords,
    ) -> None:
        self.path = path
        self._routes = dict(routes)
        self._parts = parts
        self._feed = feed
        self._gate = gate
        self._admission = admission
        self._outputs = outputs
        self._refusals = refusals
        allowed = {*routes, "OPTIONS"} | ({"HEAD"} if "GET" in routes else set())
        self._allow = {"Allow": ", ".join(sorted(allowed))}
        self.ready: Callable[[], bool] = lambda: True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        route = self._routes.get("GET" if method == "HEAD" else method)
        if route is None:
            if method != "OPTIONS":
                raise MethodNotAllowedError(headers=self._allow)
            await Response(status_code=204, headers=self._allow)(scope, receive, send)
            return
        if not self.ready():
            raise StartingError
        request = Request(scope, receive)
        try:
            with ExitStack() as held:
                response = await self._admitted(route, request, held, send)
        except DomainError as error:
            await note_refused(self._refusals, scope, f"{route.method} {route.path}", address_of(scope), error)
            raise
        if response is not None:
            # Who takes an answer slowly holds nothing but that answer.
            await response(scope, receive, send)

    async def _admitted(self, route: Route, request: Request, held: ExitStack, send: Send) -> Response | None:
        """The answer; None where it went out already, as one that goes on for long does while it holds its place."""
        call = await self._call(route, request, held)
        if request.method == "HEAD" and route.streams:
            return Response(media_type=route.media_type)
        async with self._admission.hold(_kind(route, call.query), call.caller.actor):
            response = await self._answer(route, call)
            if call.at is not None:
                response.headers[HEADER] = str(call.at)
            if not route.streams:
                return response
            await response(request.scope, request.receive, send)
            return None

    async def _answer(self, route: Route, call: Call) -> Response:
        try:
            return await route.handler(call)
        except NotFoundError:
            # What was made a moment ago may be in the log and not yet in the read model: "not found" would be untrue.
            # As of then, what is not there was not.
            if call.at is not None or not route.reads or not await self._caught_up(route, call):
                raise
        return await route.handler(call)

    async def _caught_up(self, route: Route, call: Call) -> bool:
        """Let the read model come to what the log says of the ids in the path; False if it says nothing of them."""
        wanted = [value for value in call.path.values() if isinstance(value, UUID)]
        heads = await self._parts.log.read_heads(wanted, tolerant=True)
        # Another tenant's things are as unknown here as what never was.
        known = call.caller.scope.known_clients
        seen = [head for head in heads.values() if call.tenants is None or head.client_id in known]
        if not seen:
            return False
        position = max(head.position for head in seen)
        try:
            await self._parts.waiter.wait(position, route.reads, self._parts.wait_position_s)
        except (TimeoutError, PositionTimeoutError):
            raise BehindError from None
        return True

    async def _call(self, route: Route, request: Request, held: ExitStack) -> Call:
        headers = request.headers
        identity = await self._identity(route, request.scope, headers)
        self._admission.count(identity.actor)
        caller = self._caller(identity, headers, request.scope)
        if route.needs is not None:
            # Of a write, what it is about may ask for more: the bus sees to that.
            caller = caller.asking(route.needs)
        if route.everywhere and not caller.scope.everything:
            raise ForbiddenError("This concerns all tenants, and your roles are limited to some.")
        path = {name: _path_value(name, request.path_params[name]) for name in route.path_names}
        query = parse_query(route.query, request.query_params)
        if getattr(query, "outputs", False):
            # What is shown with outputs lies where one may read them.
            caller = caller.asking(Permission.COMMANDS_OUTPUT)
        at = await position_asked_for(self._parts, route, query, headers)
        intent = None
        if route.intent is not None:
            intent = _intent(route, path, headers, await self._body(request, held))
        elif route.reads:
            await self._wait_position(route, query, headers)
        return Call(
            parts=self._parts,
            feed=self._feed,
            request=request,
            caller=caller,
            session=identity.session,
            standing=identity.standing,
            path=path,
            query=query,
            intent=intent,
            outputs=self._outputs,
            at=at,
        )

    async def _identity(self, route: Route, scope: Scope, headers: Headers) -> Identity:
        if route.anonymous:
            must_not_be_cross_site(scope, headers, self._parts.people.public_url)
            # Counted by address: whoever floods this stands in their own way alone.
            return Authenticated(f"address:{address_of(scope)}", Access(), None, (), Standing())
        identity = await self._gate.identify(scope, headers, using=not route.streams)
        keep_identity(scope, identity)
        if identity.session is not None and identity.session.pending and not route.unfinished:
            raise LoginIncompleteError
        return identity

    def _caller(self, identity: Identity, headers: Headers, scope: Scope) -> Caller:
        key = headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise MalformedHeaderError("Idempotency-Key: 1 to 255 visible ASCII characters without space.")
        freshness, people = None, self._parts.people
        if identity.session is not None:
            proved = self._parts.clock() - identity.session.proved_at < people.proof_life
            freshness = Freshness(proved, people.proof_agents)
        elif not identity.unattended:
            freshness = Freshness(proved=False, agents=people.proof_agents, of_person=False)
        return Caller(
            actor=identity.actor,
            access=identity.access,
            grants=identity.grants,
            user_id=identity.user_id,
            freshness=freshness,
            correlation_id=correlation_id(scope),
            idempotency_key=key,
            if_match=_if_match(headers.get("if-match")),
        )

    async def _body(self, request: Request, held: ExitStack) -> bytes:
        limit = self._parts.max_body_bytes
        try:
            return await receive_body(request, limit, self._admission.bodies, self._admission.limits.body_s, held)
        except ClientDisconnect:
            raise MalformedJsonError("The connection closed before the body was complete.") from None

    async def _wait_position(self, route: Route, query: Query, headers: Headers) -> None:
        position = (query.wait_position if isinstance(query, ReadQuery) else None) or 0
        told = headers.get("fleetlog-wait-position")
        if told is not None:
            if not told.isascii() or not told.isdecimal() or int(told) > MAX_POSITION:
                raise MalformedHeaderError("Fleetlog-Wait-Position: a log position is a whole number.")
            position = max(position, int(told))
        if not position:
            return
        if position > self._feed.position and position > await self._parts.log.head():
            raise PositionAheadError
        try:
            await self._parts.waiter.wait(position, route.reads, self._parts.wait_position_s)
        except (TimeoutError, PositionTimeoutError):
            raise BehindError from None


def _kind(route: Route, query: Query) -> Kind:
    """A read that waits for something to happen is one of those that do little for long."""
    return Kind.STREAM if getattr(query, "wait_s", 0) else route.kind


def _if_match(text: str | None) -> int | None:
    if text is None or text.strip() == "*":
        return None
    tag = _ETAG.fullmatch(text.strip())
    if tag is None:
        raise MalformedHeaderError('If-Match: one ETag as it was given, such as "7", or *.')
    if tag[1] or not _VERSION.fullmatch(tag[2]):
        raise StaleVersionError("That ETag is none of ours, so it can never match; read the thing again.")
    return int(tag[2])


def _path_value(name: str, text: str) -> UUID | int:
    """A path parameter; one that could never name anything names nothing."""
    if name in NUMBERS:
        if _NUMBER.fullmatch(text) and int(text) <= NUMBERS[name]:
            return int(text)
    elif _UUID.fullmatch(text):
        return UUID(text)
    raise NotFoundError(f"There is no {name.removesuffix('_id').replace('_', ' ')} {text[:80]!r}.")


def _intent(route: Route, path: Mapping[str, Any], headers: Headers, data: bytes) -> Intent:
    model, intent = route.body, route.intent
    if model is None or intent is None:
        raise AssertionError("a route without an intent takes no body")
    if not data and route.body_optional:
        data = b"{}"
    elif headers.get("content-type", "").partition(";")[0].strip().lower() != (FORM if route.form else JSON):
        raise UnsupportedMediaTypeError(f"Send the body as {FORM}.") if route.form else UnsupportedMediaTypeError()
    if route.form:
        data = _form(model, data)
    body = parse_body(model, data)
    if isinstance(body, intent):
        return body
    return intent(**{name: getattr(body, name) for name in type(body).model_fields}, **path)


def _form(model: type[BaseModel], data: bytes) -> bytes:
    """A form as the JSON that it stands for: its first value of each name that the model has, as text."""
    try:
        told = parse_qsl(data.decode("utf-8"), keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise MalformedJsonError(f"The form cannot be read: {error}.") from None
    values: dict[str, str] = {}
    for name, value in told:
        if name in values:
            raise InvalidRequestError(errors=[FieldError(f"/{name}", "It may be given once only.", "repeated")])
        if name in model.model_fields:
            values[name] = value
    return pydantic_core.to_json(values)


def parse_body(model: type[BaseModel], data: bytes) -> BaseModel:
    """Read a JSON body, without bending any value into the type that it should have.

    Raises:
        MalformedJsonError: it is not JSON.
        InvalidRequestError: it is not what the model says; one entry per wrong field.
    """
    try:
        body = model.model_validate_json(data, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        if any(detail["type"] == "json_invalid" for detail in details):
            raise MalformedJsonError(details[0]["msg"]) from None
        raise InvalidRequestError(errors=[_field_error(detail) for detail in details]) from None
    # Postgres holds no NUL in text, and no name, reason or script needs one.
    if b"\\u0000" in data and _holds_nul(pydantic_core.from_json(data)):
        raise InvalidRequestError(errors=[FieldError("", "The character NUL (\\u0000) is not allowed.", "nul")])
    return body


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in name or _holds_nul(item) for name, item in value.items())
    return isinstance(value, list) and any(_holds_nul(item) for item in value)


def _field_error(detail: Any) -> FieldError:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in detail["loc"]]
    return FieldError(
        "".join(f"/{part}" for part in parts), detail["msg"].removeprefix("Value error, "), detail["type"]
    )


def parse_query(model: type[Query], params: QueryParams) -> Query:
    """Read query parameters; lists repeat their name.

    Raises:
        InvalidRequestError: an unknown, repeated or wrong one.
    """
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name in params:
        given = params.getlist(name)
        info = model.model_fields.get(name)
        kinds = _kinds(info.annotation) if info is not None else set()
        if any("\x00" in text for text in given):
            errors.append(FieldError(f"?{name}", "The character NUL is not allowed.", "nul"))
        elif list in kinds:
            values[name] = given
        elif len(given) > 1:
            errors.append(FieldError(f"?{name}", "It may be given once only.", "repeated"))
        else:
            values[name] = _typed(given[0], kinds)
    try:
        query = model.model_validate_json(pydantic_core.to_json(values), strict=True)
    except ValidationError as error:
        query = None
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            place = f"?{detail['loc'][0]}" if detail["loc"] else "?"
            errors.append(FieldError(place, detail["msg"].removeprefix("Value error, "), detail["type"]))
    if errors or query is None:
        raise InvalidRequestError(errors=errors)
    return query


def _kinds(annotation: Any) -> set[Any]:
    """The types that a field may be of, apart from None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return {kind for choice in get_args(annotation) for kind in _kinds(choice)}
    return {origin or annotation}


def _typed(text: str, kinds: set[Any]) -> Any:
    """Text as the JSON value that it spells, if it spells one of the right type; otherwise the model refuses it."""
    if int in kinds and _INTEGER.fullmatch(text):
        return int(text)
    if bool in kinds and text in ("true", "false"):
        return text == "true"
    return text
