"""One output stream of a running process: to a spool file, hashed on the way, its beginning sent out live.

Memory is bounded whatever a script prints: the spool is on disk (readable by the agent alone), and in memory are only
the first `INLINE_OUTPUT_BYTES` and the last `TAIL_BYTES`.
"""

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.journal import Key
from agent.platforms import PLATFORM
from schema import wire
from schema.masking import Hidden, Mask

_READ_BYTES = 64 * 1024
_POLL_S = 0.25
_DRAIN_S = 2.0
"""How long a pipe is read on after its process has ended, if something else keeps writing to it."""

OnOutput = Callable[[str, int, bytes], None]
"""Told of each piece as it appears: stream, offset, bytes. Called from a thread."""


def spool_path(spool_dir: Path, key: Key, stream: str) -> Path:
    return spool_dir / f"{key}.{stream}"


class Digest:
    """What a report says of a stream, computed piece by piece."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._head = bytearray()
        self._tail = b""

    def update(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        if self.inline:
            self._head += data
        self._tail = (self._tail + data)[-wire.TAIL_BYTES :]

    @property
    def inline(self) -> bool:
        """Whether the whole stream fits into its report."""
        return self.size <= wire.INLINE_OUTPUT_BYTES

    def report(self) -> wire.StreamReport:
        if not self.size:
            return wire.StreamReport()
        return wire.StreamReport(
            size=self.size,
            sha256=self._hash.hexdigest(),
            tail=self._tail,
            inline=zlib.compress(bytes(self._head), 1) if self.inline else None,
        )


class Sink:
    """Takes the bytes of one stream. What must not be seen is masked before it is written or sent anywhere."""

    def __init__(
        self, spool_dir: Path, key: Key, stream: str, on_output: OnOutput, *, limit: int, hidden: Hidden
    ) -> None:
        self._mask = Mask(hidden)
        self.stream = stream
        self.path = spool_path(spool_dir, key, stream)
        self.cut = ""
        """Why bytes were left out; empty if none were."""
        self._on_output = on_output
        self._limit = limit
        self._fd: int | None = None
        self._digest = Digest()

    def write(self, data: bytes) -> None:
        """Keep what fits under the limit; the rest is read and dropped, so that the process does not block on it."""
        self._keep(self._mask.feed(data))

    def _keep(self, data: bytes) -> None:
        room = self._limit - self._digest.size
        if len(data) > room:
            self.cut = self.cut or f"{self.stream} was cut at {self._limit} bytes"
            data = data[:room]
        if data and self._spooled(data):
            self._on_output(self.stream, self._digest.size, data)
            self._digest.update(data)

    def _spooled(self, data: bytes) -> bool:
        try:
            if self._fd is None:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            # A full disk must not take the process down with it, nor the report that it ended. What was spooled
            # so far is whole up to the digest's size; a partly written piece is cut off by `close`.
            self._limit = self._digest.size
            self.cut = f"{self.stream} was cut at {self._limit} bytes: {error.strerror}"
            return False
        return True

    def close(self) -> tuple[wire.StreamReport, bool]:
        """Put the stream on disk for good.

        Returns:
            Its report, and whether it stays in the spool file (else it travels inside the report).
        """
        self._keep(self._mask.finish())
        spooled = not self._digest.inline
        if self._fd is not None:
            if spooled:
                os.ftruncate(self._fd, self._digest.size)
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None
        return self._digest.report(), spooled


def pump(fd: int, sink: Sink, *, gone: Callable[[], bool]) -> None:
    """Read a pipe until its end; once ``gone()``, only what is there, and that not for long.

    A background process may hold the pipe open, or write to it, long after the process that we wait for has ended: the
    result must not wait for it. Runs in a thread of its own.
    """
    give_up_at = float("inf")
    try:
        while time.monotonic() < give_up_at:
            if gone() and give_up_at == float("inf"):
                give_up_at = time.monotonic() + _DRAIN_S
            if PLATFORM.readable(fd, _POLL_S):
                data = os.read(fd, _READ_BYTES)
                if not data:
                    return
                sink.write(data)
            elif give_up_at != float("inf"):
                return
    finally:
        os.close(fd)


def recovered(spool_dir: Path, key: Key, stream: str) -> tuple[wire.StreamReport, bool]:
    """What a spool file holds of an attempt that the agent did not see to its end; as `Sink.close` returns it."""
    path = spool_path(spool_dir, key, stream)
    digest = Digest()
    if path.exists():
        with path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                digest.update(data)
    return digest.report(), not digest.inline


def chunks(path: Path, from_chunk: int) -> Iterator[tuple[int, bytes]]:
    """The spool file's chunks from one on: index and zlib-compressed bytes."""
    with path.open("rb") as file:
        file.seek(from_chunk * wire.CHUNK_BYTES)
        index = from_chunk
        while data := file.read(wire.CHUNK_BYTES):
            yield index, zlib.compress(data, 1)
            index += 1
