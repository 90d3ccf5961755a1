"""The cookie of a person's session, and what keeps other sites from using it.

A browser sends a cookie along whoever made it ask. So a change by cookie must come from a page of this very origin, by
what the browser itself says (``Sec-Fetch-Site``, ``Origin``), and carry a token that only such a page can read. A
session that is sent as ``Authorization: Bearer`` is no cookie, and nobody else can make a browser send it.

After the OWASP cheat sheet on cross-site request forgery: both checks, and ``SameSite=Strict`` besides.
"""

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import Scope

from gateways.rest.errors import CrossSiteError, HttpsNeededError, NoCsrfTokenError

SECURE_NAME = "__Host-fleetlog"
"""The prefix has browsers refuse it unless it is secure and of this very host."""
PLAIN_NAME = "fleetlog"
"""Without TLS, on the loopback alone, where browsers take no other."""
CSRF_HEADER = "X-CSRF-Token"
SSO_SUFFIX = "-sso"
"""Of the cookie that a login through a provider is known by until it has come back."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def cookie_name(scope: Scope, headers: Headers) -> str | None:
    """What the cookie is called here; None where there can be none: over plain HTTP to another machine."""
    if scope.get("scheme") == "https":
        return SECURE_NAME
    try:
        host = urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None
    return PLAIN_NAME if host in _LOOPBACK else None


def session_token(scope: Scope, headers: Headers, suffix: str = "") -> str | None:
    """The token that the request's cookie holds, if it has one."""
    name = cookie_name(scope, headers)
    return cookie_parser(headers.get("cookie", "")).get(name + suffix) or None if name is not None else None


def give_cookie(response: Response, scope: Scope, headers: Headers, token: str, life_s: int, suffix: str = "") -> None:
    """Have a browser keep a session.

    Args:
        response: that it comes with.
        scope: of the request.
        headers: of the request.
        token: of the session.
        life_s: how long it lasts, in seconds.
        suffix: of the cookie's name, for what is no session.
    """
    name = must_have_cookie(scope, headers)
    secure = name == SECURE_NAME
    response.set_cookie(name + suffix, token, max_age=life_s, path="/", secure=secure, httponly=True, samesite="strict")


def take_cookie(response: Response, scope: Scope, headers: Headers) -> None:
    """Have a browser forget it."""
    name = cookie_name(scope, headers)
    if name is not None:
        response.delete_cookie(name, path="/", secure=name == SECURE_NAME, httponly=True, samesite="strict")


def must_have_cookie(scope: Scope, headers: Headers) -> str:
    """What the cookie is called.

    Raises:
        HttpsNeededError: there can be none here.
    """
    name = cookie_name(scope, headers)
    if name is None:
        raise HttpsNeededError
    return name


def csrf_token(token: str) -> str:
    """What changes by this session's cookie have to carry. Who knows it does not know the session's token."""
    return hashlib.sha256(b"fleetlog-csrf-1\x00" + token.encode()).hexdigest()


def must_be_ours(scope: Scope, headers: Headers, token: str, public_url: str | None) -> None:
    """Refuse a change by cookie that a page of ours did not make.

    Args:
        scope: of the request.
        headers: of the request.
        token: that the cookie holds.
        public_url: where browsers reach the API, if that is not what they write as Host.

    Raises:
        CrossSiteError: it comes from elsewhere, or nothing says from where.
        NoCsrfTokenError: it does not carry the token.
    """
    if scope["method"] in _SAFE:
        return
    if "origin" not in headers and "sec-fetch-site" not in headers:
        raise CrossSiteError
    must_not_be_cross_site(scope, headers, public_url)
    if not hmac.compare_digest(headers.get(CSRF_HEADER, "").encode(), csrf_token(token).encode()):
        raise NoCsrfTokenError


def must_not_be_cross_site(scope: Scope, headers: Headers, public_url: str | None) -> None:
    """Refuse what a browser says that another site's page has made.

    Raises:
        CrossSiteError: it does.
    """
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise CrossSiteError
    origin = headers.get("origin")
    if origin is not None and origin not in origins(scope, headers, public_url):
        raise CrossSiteError


def origins(scope: Scope, headers: Headers, public_url: str | None) -> set[str]:
    """Of pages that are ours."""
    ours = {f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"}
    if public_url is not None:
        parts = urlsplit(public_url)
        ours.add(f"{parts.scheme}://{parts.netloc}")
    return ours
