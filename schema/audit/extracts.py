"""A part of the history, each event with the proof that it is in the log: for a file that is verified by itself.

One JSON document a line: what was asked for, then the events in the order of position, each checkpoint before the first
event under it, and an end that counts them, so that a file that was cut is known. An event that no checkpoint reaches
yet has no proof and is counted as such. What is *not* in the file is not vouched for: proofs show that each event is in
the log as it stands there, and the whole export of `fleetlog audit export` shows that none is missing.

A CSV of the same events is held against such a file, row by row.
"""

import base64
import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schema.archive import Row
from schema.audit import merkle
from schema.audit.canonical import Canonical, of_row
from schema.audit.checkpoints import AuditError, Checkpoint, Statement
from schema.audit.proofs import BadProofError, Proof, check_under, trusted

FORMAT = 1
CSV_COLUMNS = (
    "position",
    "recorded_at",
    "type",
    "stream_id",
    "version",
    "actor",
    "agent_id",
    "client_id",
    "correlation_id",
    "causation_id",
    "body_sha256",
)
"""Held against the proofs. `text` and `body` follow: the one is made anew from the other, which has its hash there."""
TEXT_COLUMNS = ("text", "body")
SEALED = "[sealed]"
_SEALED_VALUE = "sealed:1:"
_CSV_LIMIT = 64 * 1024 * 1024


class BadExtractError(AuditError):
    """The file is not what it says that it is, or was changed; the text says where."""

    code = "bad_extract"


class Begin(msgspec.Struct, frozen=True, tag="extract", tag_field="kind"):
    """What was asked for, by whom, and up to where the log went."""

    asked: dict[str, Any]
    actor: str
    position: int
    format: int = FORMAT


class Signed(msgspec.Struct, frozen=True, tag="checkpoint", tag_field="kind"):
    """A checkpoint that the next events are under."""

    checkpoint: Checkpoint


class Way(msgspec.Struct, frozen=True):
    """An event's way up to the root of its checkpoint."""

    checkpoint: int
    index: int
    size: int
    path: list[str]


class Event(msgspec.Struct, frozen=True, tag="event", tag_field="kind"):
    """One event."""

    event: Canonical
    body: str | None
    body_base64: str | None
    proof: Way | None
    """None: no checkpoint reaches it yet."""


class End(msgspec.Struct, frozen=True, tag="end", tag_field="kind"):
    """The last line."""

    events: int
    proven: int


Line = Begin | Signed | Event | End


class Tree:
    """A checkpoint's Merkle tree in memory (a megabyte for 16,384 events), which gives each leaf its way up.

    Args:
        checkpoint: that it is the tree of.
        entries: position and leaf of each of its events.
    """

    def __init__(self, checkpoint: Checkpoint, entries: Sequence[tuple[int, bytes]]) -> None:
        statement = checkpoint.read()
        self.checkpoint = checkpoint
        self.number = statement.number
        self.first_position, self.last_position = statement.first_position, statement.last_position
        self._index = {position: at for at, (position, _) in enumerate(entries)}
        self._levels = merkle.levels([leaf for _, leaf in entries])

    def way(self, position: int) -> Way | None:
        """The way of the event at a position; None if there was none when it was chained."""
        index = self._index.get(position)
        if index is None:
            return None
        path = [node.hex() for node in merkle.path_within(self._levels, index)]
        return Way(self.number, index, len(self._index), path)


def event_line(row: Row, way: Way | None) -> Event:
    """One event's line.

    Args:
        row: as stored.
        way: None where no checkpoint reaches it.
    """
    try:
        return Event(of_row(row), bytes(row[4]).decode(), None, way)
    except UnicodeDecodeError:
        return Event(of_row(row), None, base64.b64encode(row[4]).decode(), way)


class Verified(msgspec.Struct, frozen=True):
    """What a file came to."""

    events: int
    proven: int
    checkpoints: int
    keys: list[str]
    """That signed them."""


def verify_extract(file: Path, keys: Collection[str] = ()) -> Verified:
    """Show that each event of a file is in the log as it stands there; asks nobody.

    Args:
        file: of lines, as above.
        keys: public keys that are trusted. None: the file's own word is taken.

    Raises:
        BadExtractError: it was cut or is none.
        BadProofError, BadCheckpointError: an event or a checkpoint is not what was signed.
    """
    reading = _Reading(file, keys)
    for number, line in enumerate(_lines(file), 1):
        reading.take(number, line)
    return reading.end()


class _Reading:
    """A file as far as it was read, and found to hold."""

    def __init__(self, file: Path, keys: Collection[str]) -> None:
        self._file = file
        self._keys = keys
        self._under: tuple[Checkpoint, Statement] | None = None
        self._signed = self._events = self._proven = self._last = 0
        self._signers: set[str] = set()
        self._end: End | None = None

    def take(self, number: int, line: Line) -> None:
        if self._end is not None or isinstance(line, Begin) != (number == 1):
            raise BadExtractError(f"{self._file}, line {number}: that does not belong there.")
        match line:
            case Begin(format=form):
                if form != FORMAT:
                    raise BadExtractError(f"{self._file} is of format {form}; this reads {FORMAT}.")
            case Signed(checkpoint=checkpoint):
                # Its signature is verified once, for all events until the next one: they are under this one alone.
                self._under = checkpoint, trusted(checkpoint, self._keys)
                self._signers.add(self._under[1].key)
                self._signed += 1
            case Event():
                self._take_event(number, line)
            case End():
                self._end = line

    def _take_event(self, number: int, line: Event) -> None:
        position = line.event.position
        if position <= self._last:
            raise BadExtractError(f"{self._file}, line {number}: position {position} is out of its order.")
        self._last, self._events = position, self._events + 1
        if line.proof is None:
            return
        if self._under is None or line.proof.checkpoint != self._under[1].number:
            raise BadExtractError(f"{self._file}, line {number}: its checkpoint does not stand before it.")
        proof = Proof(
            event=line.event,
            body=line.body,
            body_base64=line.body_base64,
            index=line.proof.index,
            size=line.proof.size,
            path=line.proof.path,
            checkpoint=self._under[0],
        )
        try:
            check_under(proof, self._under[1])
        except BadProofError as error:
            raise BadProofError(f"{self._file}, position {position}: {error}") from error
        self._proven += 1

    def end(self) -> Verified:
        if self._end is None or (self._end.events, self._end.proven) != (self._events, self._proven):
            raise BadExtractError(f"{self._file} was cut, or lines were taken out of it: its end counts others.")
        return Verified(self._events, self._proven, self._signed, sorted(self._signers))


def verify_csv(file: Path, proofs: Path, keys: Collection[str] = (), *, text_of: Callable[[Event], str]) -> Verified:
    """Show that a CSV says of the same events what a file of lines proves.

    Args:
        file: the table.
        proofs: the lines.
        keys: public keys that are trusted. None: the file's own word is taken.
        text_of: the sentence of an event, which is made from it anew. Where something personal is sealed it says
            `[sealed]`, and the table may say anything: that can be held against nothing without the key.

    Raises:
        BadExtractError: a row differs, is missing or was slipped in; and as `verify_extract`.
    """
    verified = verify_extract(proofs, keys)
    csv.field_size_limit(_CSV_LIMIT)
    with file.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if tuple(rows.fieldnames or ()) != (*CSV_COLUMNS, *TEXT_COLUMNS):
            raise BadExtractError(f"{file} has other columns.")
        for line in _lines(proofs):
            if isinstance(line, Event):
                row = next(rows, None)
                if row is None or not _fits(row, line, text_of(line)):
                    raise BadExtractError(f"{file}: the row of position {line.event.position} is not as it is proven.")
        if next(rows, None) is not None:
            raise BadExtractError(f"{file} has rows beyond those that are proven.")
    return verified


def _fits(row: dict[str, str], line: Event, text: str) -> bool:
    if row == csv_row(line, text):
        return True
    if line.body is None or _SEALED_VALUE not in line.body or row | {"text": text} != csv_row(line, text):
        return False
    return re.fullmatch(".*".join(map(re.escape, text.split(SEALED))), row["text"]) is not None


def csv_row(line: Event, text: str) -> dict[str, str]:
    """An event as a row of text."""
    told: dict[str, Any] = msgspec.to_builtins(line.event)
    row = {name: "" if told[name] is None else str(told[name]) for name in CSV_COLUMNS}
    return row | {"text": text, "body": line.body if line.body is not None else f"base64:{line.body_base64}"}


def _lines(file: Path) -> Iterator[Line]:
    decode = msgspec.json.Decoder(Line).decode
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield decode(line)
            except msgspec.DecodeError as error:
                raise BadExtractError(f"{file}, line {number}: {error}") from error
