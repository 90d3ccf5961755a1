"""Logging in through a provider, from a terminal: a browser goes there, and what it comes back with is handed in here.

The page that it comes back to (`/login/sso` of the server) sends the answer on to a port of this machine's loopback
(RFC 8252, section 7.3), or shows it, to be copied, where the browser is on another machine. It is worth nothing without
the ticket that never leaves this process.
"""

import secrets
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec

from gateways.cli.api import Api
from gateways.cli.asking import asked
from gateways.cli.errors import BadValueError
from gateways.cli.output import Output

PATIENCE_S = 300.0
"""For somebody who logs in at the provider."""
_READ_S = 5.0
_MAX_COPIED = 16_384
_DONE = b"<!doctype html><title>Fleetlog</title><p>That was all here: go back to your terminal."
_WRONG = b"<!doctype html><title>Fleetlog</title><p>This is of no login that goes on here."


class Returned(msgspec.Struct, frozen=True):
    """What came back, for the request that began it."""

    state: str
    ticket: str
    answer: dict[str, str]

    @property
    def handed_in(self) -> dict[str, Any]:
        told = {name: self.answer[name] for name in ("code", "error", "iss") if name in self.answer}
        return {"state": self.state, "ticket": self.ticket} | told


def through_provider(api: Api, out: Output, path: str, *, browser: bool) -> Returned:
    """Have somebody log in at the provider.

    Args:
        api: the server.
        out: the terminal.
        path: of the offer.
        browser: whether there is one on this machine.

    Raises:
        BadValueError: nothing came back in time, or what was copied is no answer.
    """
    if browser:
        with Listener() as listener:
            offered = api.post(path, {"terminal": True, "port": listener.port})
            if webbrowser.open(str(offered["url"])):
                out.plain(f"Log in in your browser. If none has opened: {offered['url']}")
                answer = listener.wait(str(offered["state"]), PATIENCE_S)
                return Returned(str(offered["state"]), str(offered["ticket"]), answer)
    offered = api.post(path, {"terminal": True})
    out.plain(f"Log in here, with any browser: {offered['url']}")
    answer = copied(asked("Then copy what the page shows: "), str(offered["state"]))
    return Returned(str(offered["state"]), str(offered["ticket"]), answer)


def copied(text: str, state: str) -> dict[str, str]:
    """What somebody copied from the page: what it shows, or the page's whole address.

    Raises:
        BadValueError: it is neither, or of another login.
    """
    text = text.strip()
    try:
        query = urlsplit(text).query if text.startswith(("http://", "https://")) else text
        found = dict(parse_qsl(query[:_MAX_COPIED], max_num_fields=20))
    except ValueError:
        found = {}
    if not secrets.compare_digest(found.get("state", "").encode(), state.encode()):
        raise BadValueError("That is not what the page shows for this login; begin anew, and copy all of it.")
    return found


class Listener:
    """A port of the loopback that the page sends one answer to."""

    def __init__(self) -> None:
        self._found: dict[str, str] | None = None
        self._state = ""
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.server_close()

    def wait(self, state: str, patience_s: float) -> dict[str, str]:
        """The answer to this login; whatever else comes to the port is none.

        Raises:
            BadValueError: none came.
        """
        self._state, end = state, time.monotonic() + patience_s
        while self._found is None:
            self._server.timeout = end - time.monotonic()
            if self._server.timeout <= 0:
                raise BadValueError(f"Nobody logged in within {patience_s / 60:.0f} minutes; begin anew.")
            self._server.handle_request()
        return self._found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _READ_S

            def do_GET(self) -> None:
                try:
                    answer = copied(urlsplit(self.path).query, listener._state)
                except BadValueError:
                    self._say(400, _WRONG)
                    return
                listener._found = answer
                self._say(200, _DONE)

            def _say(self, status: int, page: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- of the library
                """What is in the address belongs in no log."""

        return Handler
