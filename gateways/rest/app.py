"""The HTTP API as one Starlette application."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp

from command_bus.handlers.output_reads import OutputReadRecords
from command_bus.refusals import RefusalRecords
from domain.codec import UndecodableEventError
from domain.errors import DomainError
from gateways.cancelling import end
from gateways.dashboard.serving import Dashboard
from gateways.rest import problems
from gateways.rest.admission import ApiAdmission
from gateways.rest.auth import Gate
from gateways.rest.dispatch import Endpoint
from gateways.rest.documentation import documentation
from gateways.rest.errors import InternalError
from gateways.rest.feed import LogFeed
from gateways.rest.health import Health
from gateways.rest.login_page import login_page
from gateways.rest.observe import Observed
from gateways.rest.parts import ApiParts, Readiness
from gateways.rest.route import API, Route
from gateways.rest.routes import ROUTES
from gateways.rest.startup import Startup

__all__ = ["ApiParts", "Readiness", "create_app"]


def create_app(parts: ApiParts) -> Starlette:
    """Put the API together.

    Args:
        parts: everything it talks to.

    Returns:
        An application whose lifespan starts and stops ``parts.services`` and the process's one log follower. Before
        it is stopped, ``app.state.leave()`` ends the answers that are held back.
    """
    feed = LogFeed(parts.log, parts.authenticator)
    refusals = parts.refusals or RefusalRecords(parts.log, parts.clock, parts.new_id)
    startup = Startup([*parts.services, *([] if parts.refusals else [refusals]), feed])
    gate = Gate(parts, time.monotonic, refusals)
    admission = ApiAdmission(parts.limits, parts.rates)
    outputs = OutputReadRecords(parts.log, parts.clock)
    templates: dict[int, str] = {}
    routes: list[BaseRoute] = []
    for path, by_method in _by_path(ROUTES).items():
        endpoint = Endpoint(path, by_method, parts, feed, gate, admission, outputs, refusals)
        endpoint.ready = startup.is_done
        templates[id(endpoint)] = API + path
        routes.append(StarletteRoute(API + path, endpoint))
    extra = [
        *Health(parts, feed, startup, gate, refusals).routes(),
        *documentation(ROUTES),
        *login_page(),
    ]
    for route in [*extra, *parts.agent_routes]:
        if isinstance(route, StarletteRoute):
            templates[id(route.endpoint)] = route.path if route in extra else API + route.path
    dashboard = Dashboard()
    templates[id(dashboard)] = "/{dashboard}"
    # Last: it has a page for every path that is nobody else's.
    routes += [*extra, Mount(API, routes=parts.agent_routes), StarletteRoute("/{path:path}", dashboard)]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        starting = asyncio.create_task(startup.run(), name="api-start")
        try:
            await asyncio.wait([starting], timeout=parts.start_grace_s)
            yield
        finally:
            await end((starting,))
            await startup.stop()

    def on_crash(request: Request) -> ASGIApp:
        return problems.problem_response(request, InternalError())

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(
                Observed,
                new_id=parts.new_id,
                templates=templates,
                on_crash=on_crash,
                access_log=parts.access_log,
            )
        ],
        exception_handlers={
            DomainError: problems.on_domain_error,
            HTTPException: problems.on_http_exception,
            UndecodableEventError: problems.on_undecodable,
            **dict.fromkeys(problems.OUTAGES, problems.on_outage),
        },
    )
    app.router.redirect_slashes = False

    def leave() -> None:
        for let_go in (feed.leave, *parts.on_leave):
            let_go()

    app.state.leave = leave
    return app


def _by_path(routes: Sequence[Route]) -> dict[str, dict[str, Route]]:
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        found.setdefault(route.path, {})[route.method] = route
    return found
