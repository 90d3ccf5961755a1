"""The dashboard as the API serves it: a page, its hashed files, and a policy that lets in nothing else.

The page knows nothing and may do nothing: what it shows it asks of the REST API, which judges each request. So it is
served to whoever asks.
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

FOLDER = Path(__file__).with_name("static")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
_IMMUTABLE = "public, max-age=31536000, immutable"
_ASKED_EACH_TIME = "no-cache"
_OURS = ("api", "docs", "docs.css", "openapi.json", "metrics", "healthz", "readyz")
"""First parts of paths that are never a page of the dashboard."""
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".md": "text/plain; charset=utf-8",
}
"""Of all that a bundle holds: what the machine's own list says differs from one to the next."""
_UNBUILT = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Fleetlog</title><h1>The dashboard was not built</h1>"
    b"<p>This Fleetlog runs from its sources. Build it with <code>make dashboard</code>, and start it again. "
    b"The API is there: <a href=/docs>its reference</a>.</html>"
)


class File(msgspec.Struct, frozen=True):
    """One file, as it is and packed."""

    content: bytes
    packed: bytes | None
    media_type: str
    etag: str
    cache: str


class Dashboard:
    """All files of the bundle, and its page at every path that is nobody else's: an ASGI application.

    Args:
        folder: the bundle.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = _read(folder)
        page = self._files.get("index.html")
        self._page = page or File(_UNBUILT, None, "text/html; charset=utf-8", '"unbuilt"', "no-store")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await self._answer(request)(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix("/")
        file = self._files.get(path) if path != "index.html" else self._page
        if file is None:
            file = self._page_at(path)
        if request.method not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        headers = _HEADERS | {"Cache-Control": file.cache, "ETag": file.etag, "Vary": "Accept-Encoding"}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        body = file.content
        if file.packed is not None and _takes_gzip(request):
            body = file.packed
            headers["Content-Encoding"] = "gzip"
        return Response(body, media_type=file.media_type, headers=headers)

    def _page_at(self, path: str) -> File:
        """The page, which finds its way by the path; not for what looks like a file, or like somebody else's.

        Raises:
            HTTPException: 404.
        """
        first, _, rest = path.partition("/")
        if first in _OURS or first == "assets" or "." in (rest.rpartition("/")[2] or first):
            raise HTTPException(404)
        return self._page


def _takes_gzip(request: Request) -> bool:
    wanted = [part.strip() for part in request.headers.get("accept-encoding", "").lower().split(",")]
    return any(part.partition(";")[0] == "gzip" and not part.replace(" ", "").endswith(";q=0") for part in wanted)


@functools.cache
def _read(folder: Path) -> Mapping[str, File]:
    """Each file by its path below the folder, read once; those that begin with a dot are for us alone."""
    found: dict[str, File] = {}
    for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
        name = file.relative_to(folder).as_posix()
        if not file.is_file() or file.suffix == ".gz" or any(part.startswith(".") for part in name.split("/")):
            continue
        packed = file.with_name(file.name + ".gz")
        content = file.read_bytes()
        found[name] = File(
            content,
            packed.read_bytes() if packed.is_file() else None,
            _MEDIA_TYPES.get(file.suffix, "application/octet-stream"),
            f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            _IMMUTABLE if name.startswith("assets/") else _ASKED_EACH_TIME,
        )
    return MappingProxyType(found)
