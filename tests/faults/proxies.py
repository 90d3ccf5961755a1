"""A TCP proxy between two parts, which does to their bytes what networks do.

All proxies of a topology run on one event loop in a thread of their own; a test sets a proxy's `mode` from outside.

    open     bytes pass
    cut      whoever is connected is cut off, and whoever comes is turned away
    stalled  bytes are taken and held back, on both ways, until the mode changes
    slow     each piece waits a while
    halved   of the next piece one half passes, and then the connection is reset
    lossy    some of the messages are lost                            (NATS alone: its messages can be told apart)
    doubled  some of the messages come twice, some later than others  (NATS alone)
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

SLOW_S = 0.04
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of nothing: closing resets."""
MESSAGES = (b"PUB ", b"HPUB ", b"MSG ", b"HMSG ")
ODDS = 0.25
"""Of a message to be lost, to be doubled, or to be late."""
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have it done there, and wait for what comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop(self) -> None:
        """End what is under way there, and the thread."""
        self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @staticmethod
    async def _end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Proxy:
    """One way between two parts.

    Args:
        loop: where it runs.
        connect: opens a connection to the part behind it.
        nats: the bytes are NATS' protocol, so its messages can be told apart.
        seed: of what happens to single messages.
    """

    def __init__(self, loop: Loop, connect: Connect, *, nats: bool = False, seed: int = 0) -> None:
        self._loop = loop
        self._connect = connect
        self._nats = nats
        self._random = random.Random(seed)
        self._mode = "open"
        self._news = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server = loop.call(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.done = 0
        """Pieces and connections that something was done to."""

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def mode(self) -> str:
        return self._mode

    @property
    def connections(self) -> int:
        """How many there are just now."""
        return len(self._writers) // 2

    def use(self, mode: str) -> None:
        """From now on do this."""
        self._loop.call(self._use(mode))

    def reset(self) -> None:
        """Reset every connection there is; new ones may come."""
        self._loop.call(self._reset_all())

    async def _use(self, mode: str) -> None:
        self._mode = mode
        self._news.set()
        self._news = asyncio.Event()
        if mode == "cut":
            await self._reset_all()

    async def _reset_all(self) -> None:
        self.done += len(self._writers)
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "cut":
            self.done += 1
            _reset(writer)
            return
        try:
            there_reader, there_writer = await self._connect()
        except OSError:
            _reset(writer)
            return
        pair = {writer, there_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, there_writer))
                pumps.create_task(self._pump(there_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            # Whatever ended one way ends both, as the end of either part does; each finds out by itself.
            for one in pair:
                _reset(one)
        finally:
            self._writers -= pair
            for one in pair:
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces = _nats_pieces(reader) if self._nats else _pieces(reader)
        async for piece in pieces:
            while self._mode == "stalled":
                self.done += 1
                await self._news.wait()
            if self._mode == "slow":
                self.done += 1
                await asyncio.sleep(SLOW_S)
            if self._mode == "halved":
                self.done += 1
                self._mode = "open"
                writer.write(piece[: len(piece) // 2])
                await writer.drain()
                raise ConnectionResetError("halved")
            if self._nats and piece.startswith(MESSAGES):
                self._message(piece, writer)
            else:
                writer.write(piece)
            await writer.drain()
        # The other part has nothing more to say; what it said is with the kernel.
        raise ConnectionResetError("over")

    def _message(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        lot = self._random.random()
        if self._mode == "lossy" and lot < ODDS:
            self.done += 1
            return
        if self._mode != "doubled" or lot >= 2 * ODDS:
            writer.write(piece)
            return
        self.done += 1
        if lot < ODDS:
            writer.write(piece)
        late = asyncio.get_running_loop().create_task(_later(piece, writer, self._random.uniform(0.01, 0.4)))
        self._late.add(late)
        late.add_done_callback(self._late.discard)

    def close(self) -> None:
        self._loop.call(self._close())

    async def _close(self) -> None:
        self._server.close()
        await self._reset_all()


async def _later(piece: bytes, writer: asyncio.StreamWriter, wait_s: float) -> None:
    await asyncio.sleep(wait_s)
    if not writer.is_closing():
        writer.write(piece)


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(65536):
        yield piece


async def _nats_pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines, and whole messages."""
    while line := await reader.readline():
        if line.startswith(MESSAGES):
            yield line + await reader.readexactly(int(line.split()[-1]) + 2)
        else:
            yield line


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        plain = writer.get_extra_info("socket")
        if plain is not None and plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def tcp(port: Callable[[], int]) -> Connect:
    """Connects to a port of this machine, which may change."""

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port(), limit=2**22)

    return connect


def unix(path: Callable[[], str]) -> Connect:
    """Connects to a Unix socket."""

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(path(), limit=2**22)

    return connect
