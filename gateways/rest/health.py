"""Is it alive, is it ready, and how does it fare: for load balancers, ``fleetlog status`` and Prometheus."""

import asyncio
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from gateways.rest.feed import LogFeed
from gateways.rest.parts import ApiParts, Readiness
from gateways.rest.route import json_response
from gateways.rest.startup import Startup

PROBE_S = 3.0


class Health:
    """``/healthz``, ``/readyz`` and ``/metrics``, which ask for no key and show no tenant's data."""

    def __init__(self, parts: ApiParts, feed: LogFeed, startup: Startup) -> None:
        self._checks = dict(parts.readiness)
        self._feed = feed
        self._startup = startup

    def routes(self) -> list[StarletteRoute]:
        return [
            StarletteRoute("/healthz", self.healthz),
            StarletteRoute("/readyz", self.readyz),
            StarletteRoute("/metrics", self.metrics),
        ]

    async def healthz(self, _request: Request) -> Response:
        """The process answers; it says nothing of what it depends on."""
        return json_response({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """Each dependency's state; 503 when one that the API needs is away."""
        checks = dict(zip(self._checks, await asyncio.gather(*map(_look, self._checks.values())), strict=True))
        checks["api"] = self._own()
        checks["log"] = self._log()
        ready = all(check["ok"] or not check["needed"] for check in checks.values())
        document = {"status": "ready" if ready else "unready", "checks": checks}
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

    async def metrics(self, _request: Request) -> Response:
        return Response(await asyncio.to_thread(generate_latest), media_type=CONTENT_TYPE_LATEST)


async def _look(check: Readiness) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PROBE_S):
            shown = await check.probe()
    except TimeoutError:
        return {"ok": False, "needed": check.needed, "error": f"no answer within {PROBE_S:g} s"}
    except Exception as error:  # noqa: BLE001 - whatever a dependency dies of is what this page is there to show
        return {"ok": False, "needed": check.needed, "error": str(error) or type(error).__name__}
    return {"ok": True, "needed": check.needed, **(shown or {})}
