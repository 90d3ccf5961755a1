"""Syslog: RFC 5424 messages over TLS (RFC 5425), TCP with counted octets (RFC 6587) or UDP (RFC 5426).

Syslog acknowledges nothing. What is on its way when a receiver dies is lost to whoever takes "written" for "arrived",
so the cursor stays behind: what was written counts once the receiver's machine has acknowledged all of it (TCP) and the
connection has gone on for a while after that, without having been closed or reset. Until then a break has it
sent again. What a receiver loses after it has read it, no sender can know.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from domain.destinations import Syslog, SyslogTransport
from gateways.forward.envelope import Outgoing, ascii_only
from gateways.forward.errors import NotTakenError, UnreachableError
from gateways.forward.guard import Guard
from schema.authorities import trusting

CONNECT_S = 5.0
WRITE_S = 30.0
"""A receiver that takes nothing for so long is away."""
SETTLE_S = 1.0
ACKNOWLEDGED_LOOK_S = 0.002
MAX_UNSETTLED = 20_000
"""Events that are written and do not count yet; then the next ones wait."""
AT_ONCE = 200
MAX_DATAGRAM = 60_000
"""Bytes. A datagram cannot be longer than 65,507, and no message may be cut in the middle of its JSON."""
INFORMATIONAL = 6
_MAX_TYPE, _MAX_HOST = 32, 255
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")
_SIOCOUTQ = 0x5411
"""How many bytes of a TCP connection its other end has not acknowledged (tcp(7))."""


def message(event: Outgoing, facility: int, hostname: str, body: bytes) -> bytes:
    """One message of RFC 5424; its text is the CloudEvent, in ASCII, so it needs no mark that it is UTF-8.

    Args:
        event: what it is about.
        facility: 0 to 23.
        hostname: of whoever sends it.
        body: the CloudEvent, in JSON.
    """
    at = event.recorded_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    host = _NOT_PRINTABLE.sub("-", hostname)[:_MAX_HOST] or "-"
    kind = _NOT_PRINTABLE.sub("-", event.type)[:_MAX_TYPE] or "-"
    head = f"<{facility * 8 + INFORMATIONAL}>1 {at} {host} fleetlog - {kind} - "
    return head.encode() + ascii_only(body)


class _Unsettled:
    """What was written and does not count yet, in order.

    Args:
        monotonic: a clock.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._written: deque[tuple[float, int, int]] = deque()
        self._events = 0
        self._settled: int | None = None

    def wrote(self, events: Sequence[Outgoing]) -> None:
        self._written.append((self._monotonic(), events[-1].position, len(events)))
        self._events += len(events)

    def settled(self, *, quiet: bool = True) -> int | None:
        """Up to where it counts; None: all of it. While something is on its way (not quiet), no more than before."""
        now = self._monotonic()
        while quiet and self._written and now - self._written[0][0] >= SETTLE_S:
            _, self._settled, count = self._written.popleft()
            self._events -= count
        return None if not self._written else self._settled or 0

    @property
    def full(self) -> bool:
        return self._events >= MAX_UNSETTLED


class StreamChannel:
    """Messages over TCP or TLS.

    Args:
        to: the destination.
        guard: says where may be sent to.
        hostname: of this machine.
        monotonic: a clock.
    """

    at_once = AT_ONCE

    def __init__(
        self, to: Syslog, guard: Guard, hostname: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._to = to
        self._guard = guard
        self._hostname = hostname
        self._unsettled = _Unsettled(monotonic)
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[bytes] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            AddressRefusedError: it would go where this server does not send to.
            UnreachableError: nobody is there, or its certificate is not the one expected.
        """
        to, plain = self._to, self._to.transport is SyslogTransport.TCP
        context = None if plain else await asyncio.to_thread(trusting, to.authority or None)
        failure: Exception | None = None
        for address in await self._guard.addresses(to.host, to.port, plain=plain):
            try:
                async with asyncio.timeout(CONNECT_S):
                    reader, self._writer = await asyncio.open_connection(
                        address, to.port, ssl=context, server_hostname=to.host if context is not None else None
                    )
            except (OSError, ssl.SSLError, TimeoutError) as error:
                failure = error
                continue
            # A receiver says nothing; so whatever ends this tells that it is gone.
            self._listening = asyncio.create_task(reader.read(1), name="syslog-listening")
            return
        raise UnreachableError(f"The syslog receiver cannot be reached: {_said(failure)}") from failure

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._listening
        if self._writer is not None:
            self._writer.transport.abort()

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Write, and wait until the other machine has acknowledged all of it.

        Raises:
            UnreachableError: the connection broke, or it takes nothing.
        """
        writer = self._writer
        if writer is None:
            raise RuntimeError("It is not open.")
        for event in events:
            text = message(event, self._to.facility, self._hostname, event.body)
            writer.write(b"%d %s" % (len(text), text))
        try:
            async with asyncio.timeout(WRITE_S):
                await writer.drain()
                while not _acknowledged(writer):
                    self._must_be_up()
                    await asyncio.sleep(ACKNOWLEDGED_LOOK_S)
                self._unsettled.wrote(events)
                while self._unsettled.full:
                    self._must_be_up()
                    self._unsettled.settled()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise UnreachableError(f"The syslog receiver has taken nothing for {WRITE_S:g} s.") from None
        except OSError as error:
            raise UnreachableError(f"The connection to the syslog receiver broke: {_said(error)}") from error
        self._must_be_up()

    async def settled(self) -> int | None:
        """See `Channel.settled`.

        Raises:
            UnreachableError: the connection broke: what did not count by then is sent again.
        """
        self._must_be_up()
        return self._unsettled.settled(quiet=self._writer is not None and _acknowledged(self._writer))

    def _must_be_up(self) -> None:
        listening = self._listening
        if listening is None or not listening.done():
            return
        failure = None if listening.cancelled() else listening.exception()
        if failure is not None:
            raise UnreachableError(f"The connection to the syslog receiver broke: {_said(failure)}") from failure
        if listening.result():
            raise NotTakenError("The syslog receiver answers, which none does: something else listens there.")
        raise UnreachableError("The syslog receiver closed the connection.")


def _acknowledged(writer: asyncio.StreamWriter) -> bool:
    """Whether nothing of what was written is on its way any more, so far as the system tells."""
    if writer.transport.get_write_buffer_size():
        return False
    connection: Any = writer.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or writer.transport.is_closing():
        return True  # whether it is up is asked besides
    import fcntl  # noqa: PLC0415 -- there is none for Windows

    (unacknowledged,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), _SIOCOUTQ, bytes(4)))
    return not unacknowledged


class DatagramChannel(asyncio.DatagramProtocol):
    """Messages over UDP, which promises nothing: only that nobody listens there is told at times.

    Args:
        to: the destination.
        guard: says where may be sent to.
        hostname: of this machine.
        monotonic: a clock.
    """

    at_once = 20

    def __init__(
        self, to: Syslog, guard: Guard, hostname: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._to = to
        self._guard = guard
        self._hostname = hostname
        self._unsettled = _Unsettled(monotonic)
        self._transport: asyncio.DatagramTransport | None = None
        self._failure: Exception | None = None

    def error_received(self, exc: Exception) -> None:
        self._failure = exc

    async def open(self) -> None:
        """Take a socket.

        Raises:
            AddressRefusedError: it would go where this server does not send to.
            UnreachableError: there is no way there.
        """
        address, *_ = await self._guard.addresses(self._to.host, self._to.port, plain=True)
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, remote_addr=(address, self._to.port)
            )
        except OSError as error:
            raise UnreachableError(f"The syslog receiver cannot be reached: {_said(error)}") from error

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Send a datagram for each event.

        Raises:
            UnreachableError: the system says that nobody listens there.
        """
        if self._transport is None:
            raise RuntimeError("It is not open.")
        for event in events:
            text = message(event, self._to.facility, self._hostname, event.body)
            if len(text) > MAX_DATAGRAM:
                text = message(event, self._to.facility, self._hostname, event.without_data())
            self._transport.sendto(text)
        self._unsettled.wrote(events)
        # What comes back comes at once; and who is sent more than a socket holds drops the rest.
        await asyncio.sleep(0.001)
        self._must_be_up()

    async def settled(self) -> int | None:
        """See `Channel.settled`.

        Raises:
            UnreachableError: the system says that nobody listens there.
        """
        self._must_be_up()
        return self._unsettled.settled()

    def _must_be_up(self) -> None:
        if self._failure is not None:
            raise UnreachableError(f"The syslog receiver cannot be reached: {_said(self._failure)}")


def own_name() -> str:
    """This machine's name, as messages carry it."""
    return socket.gethostname()


def _said(error: BaseException | None) -> str:
    return f"{str(error) or type(error).__name__}".rstrip(".") + "."
