"""One id, one log line and two metrics for each request."""

import time
from collections.abc import Callable
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from command_bus.context import NewId

REQUESTS = Counter("fleetlog_http_requests", "Requests answered.", ["method", "route", "status"])
UNDER_WAY = Gauge("fleetlog_http_requests_under_way", "Requests being answered now; a stream counts until its end.")
LATENCY = Histogram(
    "fleetlog_http_request_seconds",
    "From the request's head to the end of its answer (to its first byte, where the answer is a stream).",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_KEY = "fleetlog.correlation_id"
_log = structlog.get_logger("fleetlog.access")


def correlation_id(scope: Scope) -> UUID:
    """The id under which this request is logged and its events are recorded."""
    found: UUID = scope[_KEY]
    return found


def _asked_id(scope: Scope) -> UUID | None:
    text = Headers(scope=scope).get("x-request-id")
    try:
        return UUID(text) if text is not None else None
    except ValueError:
        return None


class Observed:
    """Pure ASGI middleware around the whole application.

    Args:
        app: what it watches.
        new_id: for requests that bring no ``X-Request-Id`` of their own.
        templates: from an endpoint's `id` to its route template, so that metrics have a bounded number of labels.
        on_crash: makes the answer to a request that raised what nobody foresaw.
        access_log: one line for each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        new_id: NewId,
        templates: dict[int, str],
        on_crash: Callable[[Request], ASGIApp],
        access_log: bool,
    ) -> None:
        self._app = app
        self._new_id = new_id
        self._templates = templates
        self._on_crash = on_crash
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[_KEY] = _asked_id(scope) or self._new_id()
        began = time.perf_counter()
        status = 0
        header = (b"x-request-id", str(request_id).encode())

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        with UNDER_WAY.track_inprogress(), structlog.contextvars.bound_contextvars(correlation_id=str(request_id)):
            try:
                await self._app(scope, receive, watched)
            except Exception:
                _log.exception("request_crashed", method=scope["method"], path=scope["path"])
                if status:
                    raise  # half an answer is out: only a broken connection tells the caller
                await self._on_crash(Request(scope))(scope, receive, watched)
            finally:
                self._count(scope, status, time.perf_counter() - began)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = self._templates.get(id(scope.get("endpoint")), UNMATCHED)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        REQUESTS.labels(method, route, status).inc()
        LATENCY.labels(method, route).observe(seconds)
        if self._access_log:
            _log.info(
                "request", method=method, path=scope["path"], status=status, ms=round(seconds * 1000, 2), route=route
            )
