"""NATS, by TCP or WebSocket: one nats-py client per connection.

nats-py's own reconnecting is switched off, since it has no jitter and no way out to HTTP: `agent.link` does it.
The agent proves who it is by its Ed25519 key, over the server's nonce and under a context of its own (`NATS_CONTEXT`);
the token says whose key to look up and is no secret.
"""

import asyncio
import base64
import contextlib
import functools
import importlib
import ssl
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

from agent.cancellation import heeding_cancellation
from agent.errors import LinkError
from agent.identity import AgentKey, Identity
from agent.link import OnRequest
from schema import authorities, wire

# nats-py imports aiohttp if it is there, for WebSockets alone; that is 8 MB of an endpoint's memory. So it is not let
# find it here; `_allow_websocket` gives it back where a ws:// address is really tried.
_hidden = "aiohttp" not in sys.modules
if _hidden:
    sys.modules["aiohttp"] = None  # type: ignore[assignment]  # how Python says "not importable"
try:
    import nats.aio.transport
    import nats.errors
    from nats.aio.client import Client
    from nats.aio.msg import Msg
finally:
    if _hidden:
        del sys.modules["aiohttp"]

_REACH_S = 5
"""Until the server says its first word; only a server that is there is worth more patience."""
_CLOSE_S = 2
_PING_EVERY_S = 30


_PING = b"PING\r\n"
_PONG = b"PONG\r\n"


class PatientClient(Client):
    """Answers the server's PING while it waits for the answer to its own.

    The server sends its first PING two seconds after a connection came, also while whoever judges the newcomer takes
    longer: when ten thousand agents come at once, or a gateway stands still. nats-py 2.16 takes the next line for the
    answer to its own PING, whatever it is; the agent would look connected, say nothing, hear nothing, and stay so.
    Gateways have the same lines of their own, since an endpoint has none of their code.
    """

    async def _process_connect_init(self) -> None:
        transport: Any = self._transport
        readline = transport.readline

        async def answer() -> bytes:
            while (line := await readline()) == _PING:
                transport.write(_PONG)
                await transport.drain()
            return bytes(line)

        transport.readline = answer
        try:
            await super()._process_connect_init()
        finally:
            transport.readline = readline

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Refuse a server that would go on in plain text where its address says ``tls://``: nats-py would."""
        server = self._current_server
        if initial_connection and server is not None and server.uri.scheme == "tls" and not info.get("tls_required"):
            raise nats.errors.SecureConnRequiredError
        await super()._process_info(info, initial_connection=initial_connection)

    def abort(self) -> None:
        """Let go of the connection, whatever is still to be sent."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


class _SessionClient(PatientClient):
    """Says first that the connection is over, and then ends it.

    nats-py 2.16 ends it first, and tries to send what waits: over a connection that was reset that fails and nobody is
    ever told, and over one that stands still it lasts for as long as the kernel has hope.

    Args:
        on_over: told, maybe more than once.
    """

    def __init__(self, on_over: Callable[[], None]) -> None:
        super().__init__()
        self._on_over = on_over

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._on_over()
        with contextlib.suppress(OSError):  # what waited cannot be sent, and whoever sent it is not answered
            await super()._close(status, do_cbs)


async def connect(
    identity: Identity,
    key: AgentKey,
    url: str,
    on_request: OnRequest,
    patience_s: int,
    who: wire.Instance | None = None,
) -> "NatsSession":
    """Connect to one address and listen for commands.

    Raises:
        LinkError: it cannot be reached, or does not let this agent in.
    """
    session = NatsSession(identity.agent_id)
    try:
        await heeding_cancellation(session.open(identity, key, url, on_request, patience_s, who))
    except asyncio.CancelledError:
        await session.close()
        raise
    return session


class NatsSession:
    """One connection to NATS."""

    transport = "nats"

    def __init__(self, agent_id: UUID) -> None:
        self._agent_id = agent_id
        self._client = _SessionClient(self._on_over)
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._error = ""

    async def open(
        self,
        identity: Identity,
        key: AgentKey,
        url: str,
        on_request: OnRequest,
        patience_s: int,
        who: wire.Instance | None = None,
    ) -> None:
        """Connect; see `connect`."""
        try:
            if identity.nats_ca is not None and not url.startswith(("tls://", "wss://")):
                raise LinkError(f"{url} is plain text, and this agent was told whom to trust at NATS.")
            if url.startswith(("ws://", "wss://")):
                _allow_websocket()
            async with asyncio.timeout(2 * min(patience_s, _REACH_S)) as patience:

                def prove(nonce: str) -> bytes:
                    # It is there, and asks a gateway about us; it may have a whole fleet to ask about.
                    patience.reschedule(asyncio.get_running_loop().time() + 2 * patience_s)
                    return base64.b64encode(key.sign(wire.NATS_CONTEXT + nonce.encode()))

                await self._client.connect(
                    url,
                    name=wire.connection_name(identity.agent_id, who) if who is not None else str(identity.agent_id),
                    token=str(identity.agent_id),
                    signature_cb=prove,
                    tls=_tls(identity) if url.startswith(("tls://", "wss://")) else None,
                    inbox_prefix=wire.inbox_prefix(identity.agent_id),
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=patience_s,
                    ping_interval=_PING_EVERY_S,
                    max_outstanding_pings=2,
                    error_cb=self._on_error,
                )
                await self._client.subscribe(
                    wire.command_subject(identity.agent_id), cb=functools.partial(_answer, on_request)
                )
                await self._client.flush(patience_s)
        except (nats.errors.Error, OSError, ImportError, ValueError, asyncio.IncompleteReadError) as error:
            await self.close()
            raise LinkError(self._error or str(error) or type(error).__name__) from error

    async def request(self, kind: str, data: bytes, timeout_s: float) -> bytes:
        """See `agent.link.Session`."""
        try:
            message = await heeding_cancellation(
                self._client.request(wire.uplink_subject(self._agent_id, kind), data, timeout=timeout_s)
            )
        except nats.errors.NoRespondersError as error:
            raise LinkError("No gateway listens.") from error
        except (nats.errors.Error, OSError) as error:
            raise LinkError(f"{kind}: {str(error) or type(error).__name__}") from error
        return bytes(message.data)

    async def live(self, command_id: UUID, data: bytes) -> None:
        """See `agent.link.Session`."""
        try:
            await self._client.publish(wire.live_subject(self._agent_id, command_id), data)
        except (nats.errors.Error, OSError) as error:
            raise LinkError(str(error)) from error

    async def lost(self) -> str:
        """See `agent.link.Session`."""
        return await asyncio.shield(self._lost)

    async def close(self) -> None:
        """See `agent.link.Session`."""
        # nats-py waits for the transport's end, however long; after a failed TLS handshake it never comes. A timeout is
        # an OSError, and there is nothing left to close then.
        if not self._lost.done():
            self._lost.set_result("closed")
        with contextlib.suppress(nats.errors.Error, OSError):
            async with asyncio.timeout(_CLOSE_S):
                await self._client.close()
        self._client.abort()

    async def _on_error(self, error: Exception) -> None:
        self._error = str(error) or type(error).__name__

    def _on_over(self) -> None:
        if not self._lost.done():
            self._lost.set_result(self._error or "closed by the server")


async def _answer(on_request: OnRequest, message: Msg) -> None:
    answer = await on_request(message.data)
    if message.reply:
        with contextlib.suppress(nats.errors.Error, OSError):  # the server asks again; the journal answers the same
            await message.respond(answer)


def _tls(identity: Identity) -> ssl.SSLContext:
    return authorities.trusting(identity.nats_ca)


def _allow_websocket() -> None:
    for module in ("aiohttp", "multidict"):
        setattr(nats.aio.transport, module, importlib.import_module(module))
