"""``/login/sso``: the page that a login through a provider begins at and comes back to; static, no script inline."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from gateways.rest.sessions import PAGE

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def login_page() -> list[StarletteRoute]:
    """The page and its script."""
    # What is in the address is a secret until it is used: it goes to no other page, and into no cache.
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    html, script = (files("gateways.rest").joinpath(name).read_bytes() for name in ("login.html", "login.js"))

    async def page(_request: Request) -> Response:
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    async def page_script(_request: Request) -> Response:
        return Response(script, media_type="text/javascript; charset=utf-8", headers=headers)

    return [StarletteRoute(PAGE, page), StarletteRoute(f"{PAGE}.js", page_script)]
