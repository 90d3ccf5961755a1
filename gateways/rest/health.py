"""Is it alive, is it ready, and how does it fare: for load balancers, ``fleetlog status`` and Prometheus."""

import asyncio
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from command_bus.errors import ForbiddenError, LoginIncompleteError
from command_bus.refusals import RefusalRecords
from domain.errors import DomainError
from domain.permissions import Permission
from gateways.local.peers import comes_from_here
from gateways.rest import problems
from gateways.rest.auth import Gate, address_of
from gateways.rest.feed import LogFeed
from gateways.rest.parts import ApiParts, Readiness
from gateways.rest.refusals import keep_identity, note_refused
from gateways.rest.route import json_response
from gateways.rest.startup import Startup

PROBE_S = 3.0


class Health:
    """``/healthz``, ``/readyz`` and ``/metrics``, which show no tenant's data.

    Whoever asks hears whether it is up and ready. What it depends on, and how that fares, is for who may see the
    platform, and for this machine itself.
    """

    def __init__(self, parts: ApiParts, feed: LogFeed, startup: Startup, gate: Gate, refusals: RefusalRecords) -> None:
        self._checks = dict(parts.readiness)
        self._feed = feed
        self._startup = startup
        self._gate = gate
        self._refusals = refusals
        self._watching = parts.watching

    def routes(self) -> list[StarletteRoute]:
        return [
            StarletteRoute("/healthz", self.healthz),
            StarletteRoute("/readyz", self.readyz),
            StarletteRoute("/metrics", self.metrics),
        ]

    async def healthz(self, _request: Request) -> Response:
        """The process answers; it says nothing of what it depends on."""
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Each dependency's state, for who may see it; 503 when one that the API needs is away."""
        checks = dict(zip(self._checks, await asyncio.gather(*map(_look, self._checks.values())), strict=True))
        checks["api"] = self._own()
        checks["log"] = self._log()
        ready = all(check["ok"] or not check["needed"] for check in checks.values())
        document: dict[str, Any] = {"status": "ready" if ready else "unready"}
        if await self._shown(request):
            document["checks"] = checks
        return json_response(document, 200 if ready else 503, None if ready else {"Retry-After": "1"})

    def _own(self) -> dict[str, Any]:
        fault = self._startup.fault or self._feed.fault
        if fault is None and not self._startup.done:
            fault = "starting"
        state: dict[str, Any] = {"ok": fault is None, "needed": True, "position": self._feed.position}
        return state if fault is None else state | {"error": fault}

    def _log(self) -> dict[str, Any]:
        """An event that this program cannot read is a fault to mend; all else is served meanwhile."""
        fault = self._feed.undecodable
        return {"ok": fault is None, "needed": False} | ({} if fault is None else {"error": fault})

    async def metrics(self, request: Request) -> Response:
        if not self._watching.open_metrics and not self._from_here(request):
            try:
                await self._must_see(request)
            except DomainError as error:
                await note_refused(self._refusals, request.scope, "GET /metrics", address_of(request.scope), error)
                raise
        return Response(await asyncio.to_thread(generate_latest), media_type=CONTENT_TYPE_LATEST)

    def _from_here(self, request: Request) -> bool:
        return self._watching.loopback and comes_from_here(request.scope)

    async def _shown(self, request: Request) -> bool:
        """Whether who asks for its state may see all of it. Whoever may not is told as little as a stranger."""
        if self._from_here(request):
            return True
        if not {"authorization", "cookie"} & set(request.headers):
            return False
        try:
            await self._must_see(request)
        except (
            DomainError,
            *problems.OUTAGES,
        ):  # one that cannot be checked now sees nothing
            return False
        return True

    async def _must_see(self, request: Request) -> None:
        """Refuse whoever may not see the platform.

        Raises:
            UnauthenticatedError, TooManyFailuresError: no key or session, or a wrong one.
            LoginIncompleteError: their login is not in order yet.
            ForbiddenError: they may not.
        """
        identity = await self._gate.identify(request.scope, request.headers, using=False)
        keep_identity(request.scope, identity)
        if identity.session is not None and identity.session.pending:
            raise LoginIncompleteError
        if not identity.access.scope(Permission.PLATFORM_SEE).everything:
            raise ForbiddenError(f"This needs the permission `{Permission.PLATFORM_SEE}` over everything.")


async def _look(check: Readiness) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PROBE_S):
            shown = await check.probe()
    except TimeoutError:
        return {"ok": False, "needed": check.needed, "error": f"no answer within {PROBE_S:g} s"}
    except Exception as error:  # noqa: BLE001 - whatever a dependency dies of is what this page is there to show
        return {"ok": False, "needed": check.needed, "error": str(error) or type(error).__name__}
    return {"ok": True, "needed": check.needed, **(shown or {})}
