"""nats-py's client, patient with a server that asks before it answers.

A NATS server sends its first PING two seconds after a connection came, also while whoever judges the newcomer takes
longer: when ten thousand agents come at once, or a gateway stands still. nats-py 2.16 takes the next line for the
answer to its own PING, whatever it is; the connection then looks alive, sends nothing, hears nothing, and never ends.

The agent has the same lines in `agent.link_nats`: neither may import the other, and `schema`, which both know, holds
what they say to each other and no client. One test holds both to it (`tests/gateway/test_patience.py`).
"""

from typing import Any

import nats.errors
from nats.aio.client import Client

_PING = b"PING\r\n"
_PONG = b"PONG\r\n"


class PatientClient(Client):
    """Answers the server's PING while it waits for the answer to its own, and takes no plain text for TLS."""

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
