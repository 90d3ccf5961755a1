"""The file of a backup: a tar of compressed parts, and at its end a manifest that names the hash of each.

The manifest comes last since only then are the hashes known; so a file that was cut short has none, and is no backup.
"""

import contextlib
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from gateways.backup.errors import DamagedBackupError, FileExistsAlreadyError, NotABackupError

FORMAT = 1
PART_BYTES = 16 * 1024 * 1024
"""Raw bytes of one part: what a backup and a restore hold in memory."""
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MANIFEST, MANIFEST_HASH = "manifest.json", "manifest.sha256"


class Part(msgspec.Struct, frozen=True):
    """A piece of a table, as `COPY ... (FORMAT binary)` gives it; the pieces in their order are the whole."""

    name: str
    sha256: str
    """Of the stored (compressed) bytes."""


class StoredTable(msgspec.Struct, frozen=True):
    """One table."""

    name: str
    columns: list[str]
    rows: int
    parts: list[Part]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a backup."""

    format: int
    version: str
    """Of the Fleetlog that made it."""
    made_at: datetime
    head: int
    """The last position of the log."""
    migrations: list[str]
    tables: list[StoredTable]

    @property
    def events(self) -> int:
        return self.rows_of("events")

    def rows_of(self, table: str) -> int:
        return next((stored.rows for stored in self.tables if stored.name == table), 0)


class ArchiveWriter:
    """Writes a backup; a context manager that leaves no file unless it was finished.

    Args:
        file: where it goes; no other is replaced.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tables: list[StoredTable] = []
        self._finished = False

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            FileExistsAlreadyError: something is there.
        """
        try:
            # The keys of the fleet are in it: nobody but its owner may read it, from its first byte on.
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise FileExistsAlreadyError(f"{self._file} exists; name another, or remove it first.") from error
        self._stream = os.fdopen(descriptor, "wb")
        self._tar = tarfile.open(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if not self._finished:
            self._file.unlink()

    def table(self, name: str, columns: list[str], pieces: Iterator[bytes], rows: "RowCount") -> None:
        """Write a table.

        Args:
            name: what it is called.
            columns: of each row, in order.
            pieces: its rows, cut anywhere.
            rows: asked when all pieces were read.
        """
        parts = []
        for number, raw in enumerate(_gathered(pieces)):
            stored = zlib.compress(raw, 1)
            part = Part(f"{name}/{number:06}", hashlib.sha256(stored).hexdigest())
            self._add(part.name, stored)
            parts.append(part)
        self._tables.append(StoredTable(name, columns, rows(), parts))

    def finish(self, *, version: str, made_at: datetime, head: int, migrations: list[str]) -> Manifest:
        """Write the manifest, and return once all of it is on disk."""
        manifest = Manifest(
            format=FORMAT, version=version, made_at=made_at, head=head, migrations=migrations, tables=self._tables
        )
        data = msgspec.json.format(msgspec.json.encode(manifest))
        self._add(MANIFEST, data)
        self._add(MANIFEST_HASH, hashlib.sha256(data).hexdigest().encode())
        self._tar.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        folder = os.open(self._file.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._finished = True
        return manifest

    def _add(self, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        entry.mode = 0o600
        self._tar.addfile(entry, io.BytesIO(data))


class RowCount:
    """How many rows there were; known when the last was read."""

    def __init__(self) -> None:
        self.value = 0

    def __call__(self) -> int:
        return self.value


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of a good size."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= PART_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


class Archive:
    """A backup that is read.

    Args:
        tar: the open file.
        entries: its members by name.
    """

    def __init__(self, tar: tarfile.TarFile, entries: dict[str, tarfile.TarInfo]) -> None:
        self._tar = tar
        self._entries = entries
        self.manifest = self._manifest()

    def pieces(self, table: StoredTable) -> Iterator[bytes]:
        """The rows of a table, part by part.

        Raises:
            DamagedBackupError: a part is not what was written.
        """
        for part in table.parts:
            stored = self._read(part.name)
            if hashlib.sha256(stored).hexdigest() != part.sha256:
                raise DamagedBackupError(f"{part.name}: {DamagedBackupError.__doc__}")
            try:
                yield zlib.decompress(stored)
            except zlib.error as error:
                raise DamagedBackupError(f"{part.name}: {error}") from error

    def check(self) -> None:
        """Read all of it.

        Raises:
            DamagedBackupError: some of it is not what was written.
        """
        for table in self.manifest.tables:
            for _ in self.pieces(table):
                pass

    def _manifest(self) -> Manifest:
        if MANIFEST not in self._entries or MANIFEST_HASH not in self._entries:
            raise NotABackupError
        if self._entries[MANIFEST].size > MAX_MANIFEST_BYTES:
            raise NotABackupError
        data = self._read(MANIFEST)
        if hashlib.sha256(data).hexdigest().encode() != self._read(MANIFEST_HASH):
            raise DamagedBackupError(f"{MANIFEST}: {DamagedBackupError.__doc__}")
        try:
            manifest = msgspec.json.decode(data, type=Manifest)
        except msgspec.MsgspecError as error:
            raise NotABackupError(f"Its manifest cannot be read: {error}") from error
        if manifest.format != FORMAT:
            raise NotABackupError(f"It is of format {manifest.format}; this Fleetlog reads format {FORMAT}.")
        return manifest

    def _read(self, name: str) -> bytes:
        entry = self._entries.get(name)
        stream = self._tar.extractfile(entry) if entry is not None and entry.isreg() else None
        if stream is None:
            raise DamagedBackupError(f"{name} is missing.")
        try:
            return stream.read()
        except tarfile.TarError as error:
            raise DamagedBackupError(f"{name}: {error}") from error


@contextlib.contextmanager
def open_archive(file: Path) -> Iterator[Archive]:
    """Open a backup.

    Raises:
        NotABackupError: it is none, or was cut short.
        DamagedBackupError: its manifest is not what was written.
    """
    with contextlib.ExitStack() as stack:
        try:
            tar = stack.enter_context(tarfile.open(file, mode="r:"))
            entries = {entry.name: entry for entry in tar}
        except tarfile.TarError as error:
            raise NotABackupError(f"{file}: {error}") from error
        yield Archive(tar, entries)
