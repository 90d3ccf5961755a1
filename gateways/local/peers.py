"""Whom a listener hears: from which addresses, and whether somebody on this very machine asks."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateways.local.addresses import Peers, is_loopback

FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""What a proxy adds: who is behind it may be anywhere."""
_NOT_THE_PROXY = (
    "This listener speaks plain text (FLEETLOG_TLS=proxy), so it answers its proxy alone: "
    "FLEETLOG_TRUSTED_PROXIES names the addresses or networks that may come."
)


def comes_from_here(scope: Scope) -> bool:
    """Whether a request came over the loopback, and by no proxy that says that it is one."""
    client = scope.get("client")
    headers = Headers(scope=scope)
    return client is not None and is_loopback(str(client[0])) and not any(name in headers for name in FORWARDED)


class ProxyAlone:
    """An application that hears those peers and nobody else: others could read along, or speak in a proxy's name.

    Args:
        app: what they reach. It sees who the connection is from, whatever a header says.
        peers: who may come.
    """

    def __init__(self, app: ASGIApp, peers: Peers) -> None:
        self._app = app
        self._peers = peers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or _host(scope.get("client") or ()) in self._peers:
            await self._app(scope, receive, send)
            return
        await PlainTextResponse(_NOT_THE_PROXY, 403, {"Connection": "close"})(scope, receive, send)


def _host(client: Iterable[object]) -> str:
    return str(next(iter(client), ""))
