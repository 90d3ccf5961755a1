"""Log and chain in one file, NDJSON, that is verified without any database.

Four kinds of lines: where it begins, a page of the chain, an event (after the page that it belongs to), a checkpoint.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import msgspec

from schema.archive import Row
from schema.audit.canonical import Canonical, of_row
from schema.audit.checkpoints import AuditError, Checkpoint
from schema.audit.verifying import Page, Source, Start


class BadExportError(AuditError):
    """That is no export of the log."""

    code = "bad_export"


class _Begin(msgspec.Struct, frozen=True, tag="start", tag_field="line"):
    start: Start
    checkpoint: Checkpoint | None
    """The one that it begins after."""


class _Page(msgspec.Struct, frozen=True, tag="page", tag_field="line"):
    page: Page


class _Event(msgspec.Struct, frozen=True, tag="event", tag_field="line"):
    event: Canonical
    body: str | None
    """As stored; none where it is no text."""
    body_base64: bytes | None = None


class _Checkpoint(msgspec.Struct, frozen=True, tag="checkpoint", tag_field="line"):
    checkpoint: Checkpoint


class _End(msgspec.Struct, frozen=True, tag="end", tag_field="line"):
    unchained: int
    """Events that the log had and the chain not yet; they are not in the export."""


_Line = _Begin | _Page | _Event | _Checkpoint | _End
_CHECKPOINT = b'{"line":"checkpoint"'


def write_export(source: Source, stream: BinaryIO, since: int = 0) -> int:
    """Write all that is chained.

    Args:
        source: where it is read from.
        stream: where it goes.
        since: begin after the last checkpoint at or before this position.

    Returns:
        How many events were written.
    """
    encoder = msgspec.json.Encoder()
    start, begins_with = source.start(since)
    stream.write(encoder.encode(_Begin(start, begins_with)) + b"\n")
    checkpoints = iter(source.checkpoints(start.checkpoint))
    waiting = next(checkpoints, None)
    after, events = start.position, 0
    for page in source.pages(start.page):
        stream.write(encoder.encode(_Page(page)) + b"\n")
        rows = source.events(after, page.last_position)
        stream.writelines(encoder.encode(_line_of(row)) + b"\n" for row in rows)
        after, events = page.last_position, events + len(rows)
        if waiting is not None and waiting.read().last_position <= after:
            stream.write(encoder.encode(_Checkpoint(waiting)) + b"\n")
            waiting = next(checkpoints, None)
    stream.write(encoder.encode(_End(source.beyond(after))) + b"\n")
    return events


def _line_of(row: Row) -> _Event:
    try:
        return _Event(of_row(row), bytes(row[4]).decode())
    except UnicodeDecodeError:
        return _Event(of_row(row), None, bytes(row[4]))


def _row_of(line: _Event) -> Row:
    event = line.event
    body = line.body.encode() if line.body is not None else line.body_base64 or b""
    return (
        event.position,
        event.stream_id,
        event.version,
        event.type,
        body,
        event.recorded_at,
        event.actor,
        event.correlation_id,
        event.causation_id,
        event.agent_id,
        event.client_id,
    )


class ExportSource:
    """Reads an export from its beginning to its end, once or many times.

    Args:
        file: the export.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._decode = msgspec.json.Decoder(_Line).decode
        self._rows: list[Row] = []
        self._of = 0
        """Last position of the page that they stand with."""
        self._end: _End | None = None

    def start(self, since: int) -> tuple[Start, Checkpoint | None]:
        """An export begins where it begins."""
        del since
        first = next(self._lines(), None)
        if not isinstance(first, _Begin):
            raise BadExportError(f"{self._file} is no export of the log.")
        return first.start, first.checkpoint

    def pages(self, after: int) -> Iterator[Page]:
        page: Page | None = None
        for line in self._lines():
            if isinstance(line, _Event):
                if page is None:
                    raise BadExportError(f"{self._file} has an event before its first page.")
                self._rows.append(_row_of(line))
            elif isinstance(line, _End):
                self._end = line
            elif isinstance(line, _Page):
                if page is not None and page.number > after:
                    self._of = page.last_position
                    yield page
                page, self._rows = line.page, []
        if self._end is None:
            raise BadExportError(f"{self._file} was cut: it has no last line.")
        if page is not None and page.number > after:
            self._of = page.last_position
            yield page

    def checkpoints(self, after: int) -> Sequence[Checkpoint]:
        found = [line.checkpoint for line in self._lines(_CHECKPOINT) if isinstance(line, _Checkpoint)]
        return [one for one in found if one.read().number > after]

    def events(self, after: int, upto: int) -> list[Row]:
        """All that stand with the page that was read last, wherever they say they belong; else by reading again."""
        if upto == self._of:
            return sorted(self._rows, key=itemgetter(0))
        found = (_row_of(line) for line in self._lines() if isinstance(line, _Event))
        return sorted((row for row in found if after < row[0] <= upto), key=itemgetter(0))

    def beyond(self, position: int) -> int:
        del position
        return self._end.unchained if self._end is not None else 0

    def _lines(self, prefix: bytes = b"") -> Iterator[_Line]:
        with self._file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.startswith(prefix):
                    try:
                        yield self._decode(line)
                    except msgspec.DecodeError as error:
                        raise BadExportError(f"{self._file}, line {number}: {error}") from error
