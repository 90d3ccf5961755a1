"""Live output: as it appears, throttled, lost without regret where the link is slow; the result brings the whole.

Who begins to watch while a script runs is sent what it printed before, as far back as memory goes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from agent.journal import Key
from schema import wire

_EVERY_S = 0.1
_MOST_BYTES = 64 * 1024
"""Kept of one stream: unsent between two messages, and of what was sent for those who come later. Older bytes are
dropped, and the offset tells that they were."""

Send = Callable[[UUID, bytes], Awaitable[None]]


class LiveOutput:
    """The live output of one attempt."""

    def __init__(self, key: Key, send: Send) -> None:
        self._key = key
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._buffers: dict[str, tuple[int, bytes]] = {}
        self._latest: dict[str, tuple[int, bytes]] = {}
        self._news = asyncio.Event()

    def on_output(self, stream: str, offset: int, data: bytes) -> None:
        """Take a piece; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._take, stream, offset, data[-_MOST_BYTES:], offset + len(data))

    def _take(self, stream: str, offset: int, data: bytes, end: int) -> None:
        for kept in (self._buffers, self._latest):
            start, held = kept.get(stream, (end - len(data), b""))
            held = (held + data)[-_MOST_BYTES:] if start + len(held) == offset else data
            kept[stream] = (end - len(held), held)
        self._news.set()

    def watched(self) -> None:
        """Somebody watches from now on: send again what is still held."""
        self._buffers |= self._latest
        self._news.set()

    async def run(self) -> None:
        """Send what comes, at most every 100 ms, until cancelled."""
        while True:
            await self._news.wait()
            await self.flush()
            await asyncio.sleep(_EVERY_S)

    async def flush(self) -> None:
        """Send what is held now."""
        self._news.clear()
        buffers, self._buffers = self._buffers, {}
        for stream, (offset, data) in buffers.items():
            message = wire.OutputLive(
                command_id=self._key.command_id,
                attempt=self._key.attempt,
                stream=stream,
                offset=offset,
                data=data,
            )
            await self._send(self._key.command_id, wire.encode(message))
