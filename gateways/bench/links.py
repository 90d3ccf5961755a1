"""Simulated agents over connections that cost little.

A thousand full clients in one process would spend more of the two cores than the gateway that they are to measure. So
this is the NATS protocol on a bare transport, with no more of it than an agent needs: connect with a signed nonce,
subscribe, request, answer. What is said over it is said by `SimulatedAgent`, and the server lets it in like any other.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from gateways.bench.simulated import SimulatedAgent, SimulatedIdentity
from schema import wire

CONNECT_S = 60.0
_INBOX = b"1"
_COMMANDS = b"2"


class LinkLostError(ConnectionError):
    """The NATS server did not let it in, or closed the connection."""


class Link(asyncio.Protocol):
    """One agent's connection.

    Args:
        agent_id: whose.
        sign: proves it, by the server's nonce.
        answer: what to say to a request on the agent's command subject; None says nothing.
        on_lost: told when the connection has ended, whoever ended it.
        lag_s: for how long what it says is on its way, each time anew.
    """

    def __init__(
        self,
        agent_id: UUID,
        sign: Callable[[str], bytes],
        answer: Callable[[bytes], bytes | None],
        on_lost: Callable[["Link"], None],
        lag_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._agent_id = agent_id
        self._sign = sign
        self._answer = answer
        self._on_lost = on_lost
        self._lag_s = lag_s
        self._arrives_at = 0.0
        self._inbox = wire.inbox_prefix(agent_id)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._asked: dict[bytes, asyncio.Future[bytes]] = {}
        self._number = 0
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when the server has let it in and knows what it listens to."""
        self.lost: Exception | None = None

    async def request(self, subject: str, data: bytes, timeout_s: float = 10.0) -> bytes:
        """Ask, and hear the answer.

        Raises:
            LinkLostError, TimeoutError: there is none.
        """
        if self.lost is not None or self._transport is None:
            raise LinkLostError from self.lost
        self._number += 1
        token = b"%d" % self._number
        self._send(b"PUB %b %b.%b %d\r\n%b\r\n" % (subject.encode(), self._inbox.encode(), token, len(data), data))
        answered: asyncio.Future[bytes] = self._loop.create_future()
        self._asked[token] = answered
        try:
            async with asyncio.timeout(timeout_s):
                return await answered
        finally:
            del self._asked[token]

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.lost or exc or LinkLostError("closed")
        waiting: list[asyncio.Future[Any]] = [self.ready, *self._asked.values()]
        for one in waiting:
            if not one.done():
                one.set_exception(LinkLostError(str(self.lost)))
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            if buffer.startswith(b"MSG ", at):
                _, sid, *reply, size = buffer[at + 4 : end].split(b" ")
                begin, at_end = end + 2, end + 2 + int(size)
                if len(buffer) < at_end + 2:
                    break
                self._on_message(buffer[at + 4 : buffer.index(b" ", at + 4)], sid, reply, buffer[begin:at_end])
                at = at_end + 2
            else:
                self._on_line(buffer[at:end])
                at = end + 2
        self._buffer = buffer[at:]

    def _on_message(self, subject: bytes, sid: bytes, reply: list[bytes], body: bytes) -> None:
        if sid == _INBOX:
            waiting = self._asked.get(subject[len(self._inbox) + 1 :])
            if waiting is not None and not waiting.done():
                waiting.set_result(body)
            return
        said = self._answer(body)
        if said is not None and reply:
            self._send(b"PUB %b %d\r\n%b\r\n" % (reply[0], len(said), said))

    def _send(self, line: bytes) -> None:
        """Say something; what is on its way arrives in the order in which it was said."""
        lag_s, now = self._lag_s(), self._loop.time()
        if lag_s <= 0:
            self._write(line)
            return
        self._arrives_at = max(now + lag_s, self._arrives_at + 1e-6)
        self._loop.call_at(self._arrives_at, self._write, line)

    def _write(self, line: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(line)

    def _on_line(self, line: bytes) -> None:
        if self._transport is None:
            return
        if line == b"PING":
            self._transport.write(b"PONG\r\n")
        elif line == b"PONG":
            if not self.ready.done():
                self.ready.set_result(None)
        elif line.startswith(b"INFO ") and not self.ready.done():
            self._introduce(json.loads(line[5:]))
        elif line.startswith(b"-ERR"):
            self.lost = LinkLostError(line.decode())

    def _introduce(self, info: dict[str, Any]) -> None:
        options = {
            "verbose": False,
            "pedantic": False,
            "headers": False,
            "lang": "fleetlog-bench",
            "version": "1",
            "protocol": 1,
            "name": str(self._agent_id),
            "auth_token": str(self._agent_id),
            "sig": self._sign(info["nonce"]).decode(),
        }
        subject = wire.command_subject(self._agent_id)
        lines = (
            f"CONNECT {json.dumps(options)}",
            f"SUB {self._inbox}.* {_INBOX.decode()}",
            f"SUB {subject} {_COMMANDS.decode()}",
            "PING",
        )
        if self._transport is not None:
            self._transport.write("\r\n".join((*lines, "")).encode())


class LightAgent(SimulatedAgent):
    """A simulated agent on a `Link`: the same journal and the same words."""

    def __init__(self, identity: SimulatedIdentity, server_key: bytes) -> None:
        super().__init__(identity, server_key)
        self._telling: set[asyncio.Task[None]] = set()
        self._link: Link | None = None

    async def connect(self, urls: Sequence[str], *, reconnect: bool = False) -> None:
        """Connect to the first of these servers and listen; it never comes back by itself.

        Raises:
            LinkLostError: it was not let in.
        """
        if reconnect:
            raise ValueError("A link does not reconnect.")
        parts = urlsplit(urls[0])
        _, self._link = await asyncio.get_running_loop().create_connection(
            lambda: Link(self.agent_id, self.sign_nonce, self.answer, self.on_lost, self.lag_s),
            parts.hostname or "",
            parts.port or 4222,
        )
        async with asyncio.timeout(CONNECT_S):
            await self._link.ready

    async def close(self) -> None:
        if self._link is not None:
            self._link.close()

    def lag_s(self) -> float:
        """How long what it says next is on its way; to be overridden by an agent that is far away."""
        return 0.0

    def on_lost(self, link: Link) -> None:
        """A connection has ended; to be overridden by an agent that comes back."""

    async def ask_raw(self, kind: str, data: bytes, timeout_s: float = 10.0) -> bytes:
        return await self.link.request(wire.uplink_subject(self.agent_id, kind), data, timeout_s)

    @property
    def link(self) -> Link:
        if self._link is None:
            raise LinkLostError("not connected")
        return self._link

    def answer(self, data: bytes) -> bytes:
        """To a request of the gateway."""
        said = self.reply_to(data)
        telling = asyncio.create_task(self.tell())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        return said
