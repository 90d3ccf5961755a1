"""HTTP/1.1 as uvicorn speaks it, with bounds where it has none: on connections, and on the head of a request.

Without them, whoever opens connections and says nothing, or says it letter by letter, uses up what there is of them.
"""

import asyncio
import resource
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""How long a request's head may take from the first byte; a connection that says nothing is given as long."""
HEAD_BYTES = 64 * 1024
MOST_CONNECTIONS = 10_000
SPARE_FILES = 256
"""For the database, NATS and the log, whoever comes."""
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 5\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)
_PROBLEM = (
    b'{"type":"/docs#overloaded","title":"Overloaded","status":503,"code":"overloaded","instance":"about:blank",'
    b'"detail":"The server has as many connections as it can take; nothing was done."}'
)
CLOSED = Counter("fleetlog_http_connections_closed", "Connections that were closed since they cost too much.", ["why"])


def allow_many_files() -> int:
    """Raise this process's limit of open files as far as it may; returns how many connections it leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(64, min(MOST_CONNECTIONS, soft - SPARE_FILES))


class PatientHttp(HttpToolsProtocol):
    """One connection."""

    most_connections = MOST_CONNECTIONS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its parent
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.write(_FULL % (len(_PROBLEM), _PROBLEM))
            self._close("too_many")
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES + len(data) or (self._head_bytes > HEAD_BYTES and b"\r\n\r\n" not in data):
                self._close("head_too_large")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._close, "head_too_slow")

    def _head_came(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self, why: str) -> None:
        CLOSED.labels(why).inc()
        self._head_came()
        self.transport.close()
