"""The OpenAPI 3.1 document, made from the very declarations that dispatch and validate."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from openapi_pydantic import (
    Components,
    Header,
    Info,
    License,
    MediaType,
    OpenAPI,
    Operation,
    Parameter,
    PathItem,
    RequestBody,
    Response,
    Responses,
    Schema,
    SecurityScheme,
    Server,
    Tag,
)
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from command_bus.errors import (
    BusyStreamError,
    ForbiddenError,
    FreshProofNeededError,
    LoginIncompleteError,
    UnauthenticatedError,
)
from command_bus.intents.sessions import Own
from domain.errors import (
    ApprovalAwaitedError,
    DomainError,
    IdempotencyMismatchError,
    InvalidValueError,
    NotFoundError,
    StaleVersionError,
)
from gateways.rest import errors as http
from gateways.rest.cookies import CSRF_HEADER, SECURE_NAME
from gateways.rest.problems import MEDIA_TYPE, Problem
from gateways.rest.route import API, AS_OF, FORM, JSON, MAX_POSITION, NUMBERS, PageQuery, ReadQuery, Route
from projections.errors import InvalidCursorError, NoReplayError, UnknownReplayError

API_VERSION = "1.0"
"""Of what the document describes; it grows by additions, and a break would be /api/v2."""
_REF = "#/components/schemas/{model}"
_ANY: tuple[type[DomainError], ...] = (
    http.MalformedHeaderError,
    http.NotOfPastError,
    UnauthenticatedError,
    ForbiddenError,
    StaleVersionError,
    http.InvalidRequestError,
    http.TooManyFailuresError,
    http.TooManyRequestsError,
    http.OverloadedError,
    http.InternalError,
    http.UndecodableError,
    http.StartingError,
    http.UnavailableError,
)
_READS: tuple[type[DomainError], ...] = (http.PositionAheadError, http.BehindError)
_OF_PAST: tuple[type[DomainError], ...] = (http.PositionAheadError, UnknownReplayError, NoReplayError)
_WRITES: tuple[type[DomainError], ...] = (
    http.MalformedJsonError,
    http.BodyTooLargeError,
    http.BodyTimeoutError,
    http.UnsupportedMediaTypeError,
    InvalidValueError,
    IdempotencyMismatchError,
    ApprovalAwaitedError,
    http.UncertainError,
    BusyStreamError,
)
_BY_COOKIE: tuple[type[DomainError], ...] = (http.CrossSiteError, http.NoCsrfTokenError)
_PATH: tuple[type[DomainError], ...] = (NotFoundError,)
_EVERYWHERE: tuple[type[DomainError], ...] = (http.NoSuchRouteError, http.MethodNotAllowedError)
_TAGS = {
    "Commands": "Work for agents: queued at once, run when its turn comes, never lost.",
    "Rollouts": "One intent for many agents: in waves, within limits, with a guard.",
    "Checks": "What agents measure again and again, and what is wrong where.",
    "Agents": "Managed machines, their pending queues and their stories.",
    "Events": "The log itself: replay it, export it, follow it live.",
    "Audit chain": "What makes any later change of the log evident: signed checkpoints, and proofs of single events.",
    "Scripts": "Code in immutable revisions.",
    "Clients": "Customers and their sites.",
    "Enrollment": "Tokens that let machines in, and machines that wait for approval.",
    "Secrets": "Values that commands use and no answer shows.",
    "Forwarding": "Where events are sent to as they are recorded: webhooks, syslog, NATS.",
    "Views": "Ways to look at the fleet that somebody saved: a search, an order, columns.",
    "Custom fields": "What you want to know of clients, sites and agents.",
    "People": "Users, service accounts and roles: who may do what, and over what.",
    "Approvals": "What waits for another person, where a role asks for one.",
    "API keys": "What programs call with.",
    "Platform": "How Fleetlog itself fares.",
    "Session": "People who log in: with a password and a second factor, and a session that ends.",
}
_ABOUT = """\
Every write is an event, on disk before its answer. A write's answer names its place in the log (`Fleetlog-Position`);
a read that repeats it (`Fleetlog-Wait-Position`) sees that write. Send `Authorization: Bearer flk_...`, or log in as
a person (`POST /session`): a browser gets a cookie, and sends its changes with `X-CSRF-Token`.

Repeating a `POST`, `PUT` or `PATCH` with the same `Idempotency-Key` does the thing once and gives the first answer
again. A single thing carries its version as `ETag`; send it back as `If-Match` to change it only if it is still so.
Lists come in pages: pass `next` as `cursor` until it is null. Whatever goes wrong is a problem document (RFC 9457);
match on its `code`, which never changes.
"""


def problem_types(routes: Sequence[Route]) -> dict[str, type[DomainError]]:
    """Every code that an answer may carry."""
    found = {error.code: error for route in routes for error in errors_of(route)}
    return dict(sorted((found | {error.code: error for error in _EVERYWHERE}).items()))


def errors_of(route: Route) -> Iterator[type[DomainError]]:
    """What an answer of this route may be in place of what was asked for."""
    yield from _ANY
    if route.reads:
        yield from _READS
    if route.of_past:
        yield from _OF_PAST
    if issubclass(route.query, PageQuery):
        yield InvalidCursorError
    if route.intent is not None:
        yield from _WRITES
        yield from _BY_COOKIE
        if route.intent.grave or route.bulk:
            yield FreshProofNeededError
    yield LoginIncompleteError
    if route.path_names:
        yield from _PATH
    yield from route.errors


def build_document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document, as JSON-ready data.

    Args:
        routes: what is served.
    """
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Operation]] = {}
    for route in routes:
        paths.setdefault(API + route.path, {})[route.method.lower()] = _operation(route, schemas)
    document = OpenAPI(
        openapi="3.1.1",
        info=Info(
            title="Fleetlog",
            version=API_VERSION,
            summary="The order book of a fleet of machines.",
            description=_ABOUT,
            license=License(name="Apache-2.0", identifier="Apache-2.0"),
        ),
        servers=[Server(url="/")],
        tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
        # A key or a session's token, by header, opens every route. The cookie is for browsers, which see to it.
        security=[{"api_key": []}],
        paths={path: PathItem.model_validate(operations) for path, operations in paths.items()},
        components=Components(
            schemas={name: Schema.model_validate(schema) for name, schema in schemas.components.items()},
            securitySchemes={
                "api_key": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An API key, `flk_...`, or the token of a session, `fls_...`.",
                ),
                "session": SecurityScheme.model_validate(
                    {
                        "type": "apiKey",
                        "in": "cookie",
                        "name": SECURE_NAME,
                        "description": "Of a person in a browser; a change also needs the header "
                        f"`{CSRF_HEADER}`, with `csrf_token` of `GET /session`.",
                    }
                ),
            },
        ),
    )
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)


class _Schemas:
    """The JSON Schema of each model, shared parts under ``components``."""

    def __init__(self, routes: Sequence[Route]) -> None:
        models: dict[type[BaseModel], None] = {Problem: None}
        self._queries = {route.query for route in routes}
        for route in routes:
            for model in (route.body, route.response, route.query):
                if model is not None:
                    models[model] = None
        refs, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
        self._refs: dict[type[BaseModel], dict[str, Any]] = {model: refs[model, "validation"] for model in models}
        self.components: dict[str, Any] = dict(definitions["$defs"])
        _require_tags(definitions, self.components)
        self._fields = {query: self.components.pop(self._name(query))["properties"] for query in self._with_fields()}
        for query in self._queries:
            self.components.pop(self._name(query), None)

    def _with_fields(self) -> list[type[BaseModel]]:
        return [query for query in self._queries if query.model_fields]

    def _name(self, model: type[BaseModel]) -> str:
        return str(self._refs[model]["$ref"]).rpartition("/")[2]

    def body(self, model: type[BaseModel]) -> Schema:
        return Schema.model_validate(self._refs[model])

    def parameters(self, query: type[BaseModel]) -> list[Parameter]:
        shown: list[Parameter] = []
        for name, schema in self._fields.get(query, {}).items():
            plain = {key: value for key, value in schema.items() if key not in {"title", "description", "default"}}
            # A parameter is left out rather than sent as null.
            choices = [choice for choice in plain.get("anyOf", []) if choice != {"type": "null"}]
            if len(choices) == 1:
                plain = choices[0]
            if schema.get("default") is not None:
                plain["default"] = schema["default"]
            shown.append(
                Parameter.model_validate(
                    {
                        "name": name,
                        "in": "query",
                        "required": query.model_fields[name].is_required(),
                        "description": schema.get("description"),
                        "schema": plain,
                    }
                )
            )
        return shown


def _require_tags(schema: Any, components: dict[str, Any]) -> None:
    """What tells the choices of a union apart is required, though each model of its own has it by default."""
    if isinstance(schema, list):
        for item in schema:
            _require_tags(item, components)
    elif isinstance(schema, dict):
        discriminator = schema.get("discriminator")
        if isinstance(discriminator, dict) and "mapping" in discriminator:
            for ref in discriminator["mapping"].values():
                choice = components[ref.rpartition("/")[2]]
                choice["required"] = sorted({*choice.get("required", []), discriminator["propertyName"]})
        for item in schema.values():
            _require_tags(item, components)


def _operation(route: Route, schemas: _Schemas) -> Operation:
    body = route.body
    return Operation(
        operationId=route.operation_id,
        summary=route.summary,
        description=route.description or None,
        tags=[route.tag],
        parameters=[*_path_parameters(route), *schemas.parameters(route.query), *_header_parameters(route)] or None,
        requestBody=None
        if body is None
        else RequestBody(
            required=not route.body_optional,
            content={FORM if route.form else JSON: MediaType.model_validate({"schema": schemas.body(body)})},
        ),
        responses=_responses(route, schemas),
        security=[] if route.anonymous else None,
    )


def _path_parameters(route: Route) -> list[Parameter]:
    kinds = {name: {"type": "integer", "minimum": 1, "maximum": most} for name, most in NUMBERS.items()}
    return [
        Parameter.model_validate(
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": kinds.get(name, {"type": "string", "format": "uuid"}),
            }
        )
        for name in route.path_names
    ]


def _header_parameters(route: Route) -> list[Parameter]:
    shown = []
    if route.intent is not None and issubclass(route.intent, Own):
        # What it shows is shown once, and a code counts once: there is nothing that could be repeated.
        return []
    if route.intent is not None:
        shown.append(
            _header("Idempotency-Key", "Does it once, however often it is sent.", r"^[\x21-\x7e]{1,255}$", "string")
        )
        if route.path_names:
            shown.append(
                _header("If-Match", "Change it only if its ETag is still this.", r'^(\*|"[0-9]{1,18}")$', "string")
            )
    elif issubclass(route.query, ReadQuery) and route.reads:
        shown.append(_header("Fleetlog-Wait-Position", "See the write that answered with this.", None, "integer"))
    if route.of_past:
        as_of = {"name": "Fleetlog-At", "in": "header", "description": "As the parameter `at`, where that is left out."}
        shown.append(Parameter.model_validate(as_of | {"schema": AS_OF}))
    return shown


def _header(name: str, text: str, pattern: str | None, kind: str) -> Parameter:
    schema: dict[str, Any] = {"type": kind}
    if pattern is not None:
        schema["pattern"] = pattern
    if kind == "integer":
        schema |= {"minimum": 0, "maximum": MAX_POSITION}
    return Parameter.model_validate({"name": name, "in": "header", "description": text, "schema": schema})


def _responses(route: Route, schemas: _Schemas) -> Responses:
    headers = {"X-Request-Id": _shown("The request's id, as logs and events name it.")}
    if route.intent is not None:
        headers["Fleetlog-Position"] = _shown("Of the change in the log.")
    if route.etag or route.intent is not None:
        headers["ETag"] = _shown("The version, for If-Match.")
    if route.of_past:
        headers["Fleetlog-At"] = _shown("The position as of which it answers, where one was asked for.")
    if route.location:
        headers["Location"] = _shown("Where to look next.")
    content = {"schema": schemas.body(route.response)} if route.response is not None else {}
    found: Responses = {
        str(route.status): Response(
            description=HTTPStatus(route.status).phrase,
            headers=dict(headers),
            content={route.media_type: MediaType.model_validate(content)},
        )
    }
    by_status: dict[int, list[type[DomainError]]] = {}
    for error in errors_of(route):
        if error not in by_status.setdefault(error.status, []):
            by_status[error.status].append(error)
    for status, errors in sorted(by_status.items()):
        text = "\n".join(f"- `{error.code}`: {(error.__doc__ or '').strip()}" for error in errors)
        found[str(status)] = Response(
            description=text, content={MEDIA_TYPE: MediaType.model_validate({"schema": schemas.body(Problem)})}
        )
    return found


def _shown(text: str) -> Header:
    return Header.model_validate({"description": text, "schema": {"type": "string"}})
