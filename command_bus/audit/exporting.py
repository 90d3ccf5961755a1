"""Carries checkpoints out of the database, where whoever rewrites it cannot reach them.

Each destination has a cursor of its own and gets every checkpoint in order, at least once. What cannot be delivered is
tried again for ever, and holds up nobody else.
"""

import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, LiteralString, Protocol

import httpx2
import structlog
from prometheus_client import Counter, Gauge

from command_bus.audit.leading import Connection, Leading
from schema.audit.checkpoints import AuditError, Checkpoint, encode_checkpoint, file_name
from schema.audit.database import SIGNATURES, checkpoint_of

LOCK_KEY = 7380948517104312302
LOOK_S = 1.0
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
COMMAND_TIMEOUT_S = 60.0
WEBHOOK_TIMEOUT_S = 10.0

EXPORTED = Counter("fleetlog_checkpoints_exported_total", "Checkpoints carried out of the database.", ["kind"])
FAILED = Counter(
    "fleetlog_checkpoint_exports_failed_total", "Exports of checkpoints that will be tried again.", ["kind"]
)
BEHIND = Gauge("fleetlog_checkpoint_exports_behind", "Checkpoints that a destination has not got yet.", ["kind"])

_NEXT: LiteralString = (
    f"SELECT c.number, c.statement, {SIGNATURES} FROM fleetlog.chain_checkpoints AS c"  # noqa: S608 - our own
    " WHERE c.number > (SELECT coalesce(max(checkpoint), 0) FROM fleetlog.chain_exports WHERE destination = %s)"
    " ORDER BY c.number LIMIT 1"
)
_BEHIND: LiteralString = """
    SELECT (SELECT coalesce(max(number), 0) FROM fleetlog.chain_checkpoints)
        - (SELECT coalesce(max(checkpoint), 0) FROM fleetlog.chain_exports WHERE destination = %s)
"""
_DONE: LiteralString = (
    "INSERT INTO fleetlog.chain_exports (destination, checkpoint) VALUES (%s, %s) ON CONFLICT DO NOTHING"
)
_ENTRIES: LiteralString = (
    "SELECT entries FROM fleetlog.chain_pages WHERE last_position > %s AND last_position <= %s ORDER BY last_position"
)
_log = structlog.get_logger(__name__)


class ExportFailedError(AuditError):
    """A checkpoint could not be carried out of the database."""

    code = "export_failed"


class Destination(Protocol):
    """Where checkpoints go."""

    kind: str
    where: str
    """In full; never shown, since it may hold a secret."""

    def deliver(self, checkpoint: Checkpoint, entries: bytes) -> None:
        """Hand one over; returns once it is safe there.

        Args:
            checkpoint: with the signatures that it has by now.
            entries: positions and leaves of its events.

        Raises:
            ExportFailedError, OSError: it is not.
        """


class Folder:
    """Two files for each checkpoint, flushed to the disk: what was signed, and the leaves that it was made over.

    Args:
        folder: made when it is not there.
    """

    kind = "folder"

    def __init__(self, folder: Path) -> None:
        self.where = str(folder.absolute())

    def deliver(self, checkpoint: Checkpoint, entries: bytes) -> None:
        folder = Path(self.where)
        folder.mkdir(parents=True, exist_ok=True)
        name = file_name(checkpoint.read(), checkpoint.sha256)
        _write(folder / f"{name}.leaves", entries)
        _write(folder / f"{name}.json", encode_checkpoint(checkpoint))


class Webhook:
    """A POST of each checkpoint. Any status but 2xx is a failure; redirects are not followed.

    Args:
        url: where to.
    """

    kind = "webhook"

    def __init__(self, url: str) -> None:
        self.where = url

    def deliver(self, checkpoint: Checkpoint, entries: bytes) -> None:
        del entries
        headers = {"Content-Type": "application/json", "Idempotency-Key": checkpoint.sha256}
        try:
            with httpx2.Client(timeout=WEBHOOK_TIMEOUT_S, trust_env=False, follow_redirects=False) as client:
                answer = client.post(self.where, content=encode_checkpoint(checkpoint), headers=headers)
        except httpx2.HTTPError as error:
            raise ExportFailedError(f"The webhook cannot be reached: {error}") from error
        if not answer.is_success:
            raise ExportFailedError(f"The webhook answered {answer.status_code}.")


class Command:
    """A program that is given each checkpoint as a file, and on standard input: for an object store, or a printer.

    Args:
        words: the program and its arguments; the file's path comes after them. Exit code 0: it is safe there.
    """

    kind = "command"

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self.where = "\0".join(words)

    def deliver(self, checkpoint: Checkpoint, entries: bytes) -> None:
        del entries
        data = encode_checkpoint(checkpoint)
        with tempfile.TemporaryDirectory(prefix="fleetlog-checkpoint-") as folder:
            file = Path(folder) / f"{file_name(checkpoint.read(), checkpoint.sha256)}.json"
            file.write_bytes(data)
            try:
                done = subprocess.run(  # noqa: S603 - the administrator's own words, and no shell
                    [*self._words, str(file)], input=data, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise ExportFailedError(f"The command took longer than {COMMAND_TIMEOUT_S:g} s.") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-200:]
            raise ExportFailedError(f"The command ended with {done.returncode}: {said}")


def name_of(destination: Destination) -> str:
    """Under which its cursor is kept: a changed one is another, and gets all from the first on."""
    return f"{destination.kind}:{hashlib.sha256(destination.where.encode()).hexdigest()[:16]}"


class CheckpointExporter(Leading):
    """Carries each checkpoint to each destination.

    Args:
        conninfo: as the application connects.
        destinations: where to.
        look_s: between two looks.
        monotonic: a clock.
    """

    def __init__(
        self,
        conninfo: str,
        destinations: Sequence[Destination],
        *,
        look_s: float = LOOK_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(conninfo, "checkpoint-export", LOCK_KEY)
        self._destinations = list(destinations)
        self._look_s = look_s
        self._monotonic = monotonic
        self._retry: dict[str, tuple[float, float]] = {}
        """When to try again, and how long to wait after that."""

    def lead(self, connection: Connection) -> None:
        connection.execute("SET enable_seqscan = off")

    def step(self, connection: Connection) -> float:
        more = [self._one(connection, destination) for destination in self._destinations]
        return 0 if any(more) else self._look_s

    def _one(self, connection: Connection, destination: Destination) -> bool:
        """Deliver the next one; whether there may be more at once."""
        name = name_of(destination)
        at, wait_s = self._retry.get(name, (0.0, FIRST_RETRY_S))
        if self._monotonic() < at:
            return False
        row = connection.execute(_NEXT, [name]).fetchone()
        if row is None:
            BEHIND.labels(destination.kind).set(0)
            return False
        number, statement, signatures = row
        checkpoint = checkpoint_of(statement, signatures)
        try:
            destination.deliver(checkpoint, _entries(connection, checkpoint))
        except (ExportFailedError, OSError) as error:
            FAILED.labels(destination.kind).inc()
            _log.warning("checkpoint_not_exported", kind=destination.kind, number=number, error=str(error))
            self._retry[name] = (self._monotonic() + wait_s, min(wait_s * 2, LONGEST_RETRY_S))
            self._tell_behind(connection, destination)
            return False
        self._retry.pop(name, None)
        connection.execute(_DONE, [name, number])
        EXPORTED.labels(destination.kind).inc()
        return True

    def _tell_behind(self, connection: Connection, destination: Destination) -> None:
        row: Any = connection.execute(_BEHIND, [name_of(destination)]).fetchone()
        BEHIND.labels(destination.kind).set(row[0])


def _entries(connection: Connection, checkpoint: Checkpoint) -> bytes:
    said = checkpoint.read()
    rows = connection.execute(_ENTRIES, [said.first_position - 1, said.last_position]).fetchall()
    return b"".join(bytes(entries) for (entries,) in rows)


def _write(file: Path, content: bytes) -> None:
    """Have a file whole, and on the disk."""
    beside = file.with_name(f"{file.name}.part")
    with beside.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
