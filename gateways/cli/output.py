"""How results are shown: tables on a terminal, tab-separated when piped, JSON when asked for."""

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]


class Column(msgspec.Struct, frozen=True):
    title: str
    cell: Callable[[Row], Any]
    """Takes an item to what its cell says; None shows as nothing."""


STATE_STYLES = {
    "succeeded": "green", "active": "green", "online": "green", "yes": "green",
    "failed": "red", "timed_out": "red", "interrupted": "red", "rejected": "red", "retired": "red",
    "cancelled": "yellow", "expired": "yellow", "suspended": "yellow",
    "completed": "green", "aborted": "red", "paused": "yellow",
    "queued": "cyan", "delivered": "cyan", "running": "cyan",
}  # fmt: skip


class Output:
    """Standard output for results, standard error for everything about them.

    Args:
        as_json: print what the API said, as JSON, instead of tables and sentences.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False)
        self.errors = Console(stderr=True, highlight=False)

    def json(self, value: Any) -> None:
        print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201 - rich would wrap and colour it

    def json_line(self, value: Any) -> None:
        print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201 - one document a line, as it comes

    def rows(self, columns: Sequence[Column], items: Iterable[Row], *, empty: str = "") -> None:
        """A list of things."""
        if self.as_json:
            self.json(list(items))
        elif self.console.is_terminal:
            self._table(columns, items, empty)
        else:
            # The first page is asked for before the header is written: a refusal leaves standard output empty.
            rows = iter(items)
            first = next(rows, None)
            self.plain("\t".join(column.title for column in columns))
            for item in () if first is None else itertools.chain((first,), rows):
                self.plain("\t".join(_plain(column.cell(item)) for column in columns))

    def fields(self, pairs: Sequence[tuple[str, Any]], item: Row) -> None:
        """One thing, a line for each of its sides that says something."""
        if self.as_json:
            self.json(item)
            return
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            text = _plain(value)
            if text:
                self.plain(f"{name:<{width}}  ", text)

    def plain(self, *parts: str) -> None:
        """One line, as it is; the first of two parts is a label."""
        if not self.console.is_terminal:
            print("".join(parts), flush=True)  # noqa: T201 - rich would turn tabs into spaces
            return
        text = Text(parts[0], style="dim" if len(parts) > 1 else "")
        for part in parts[1:]:
            text.append(part, style=STATE_STYLES.get(part, ""))
        self.console.print(text, soft_wrap=True)

    def done(self, sentence: str, answer: Row) -> None:
        """What a change came to."""
        if self.as_json:
            self.json(answer)
        else:
            self.plain(sentence)

    def note(self, sentence: str, style: str = "dim") -> None:
        """A remark beside the result."""
        self.errors.print(Text(sentence, style=style), soft_wrap=True)

    def error(self, code: str, detail: str) -> None:
        """One red line."""
        self.note(f"{code}: {' '.join(detail.split())}", style="red")

    def _table(self, columns: Sequence[Column], items: Iterable[Row], empty: str) -> None:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column.title.upper(), overflow="fold")
        for item in items:
            cells = [_plain(column.cell(item)) for column in columns]
            table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in cells))
        if table.row_count:
            self.console.print(table)
        elif empty:
            self.note(empty)


def _plain(value: Any) -> str:
    """One line of text that no terminal can take for an instruction."""
    match value:
        case None:
            text = ""
        case bool():
            text = "yes" if value else "no"
        case list() | tuple():
            text = ", ".join(str(part) for part in value)
        case dict():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    return "".join(c if c.isprintable() else " " for c in text)


def moment(value: str | None) -> str | None:
    """A time of the API in the reader's own zone, to the second."""
    if value is None:
        return None
    return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(value: str | None, now: datetime | None = None) -> str | None:
    """How long since a time of the API."""
    if value is None:
        return None
    seconds = int(((now or datetime.now(UTC)) - datetime.fromisoformat(value)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
"""What a terminal may take for an instruction: control characters but tab, line feed and carriage return, and those of
ISO 6429's second set, in UTF-8."""


def harmless(data: bytes) -> bytes:
    """A program's output as a terminal may show it: a machine must not steer an administrator's."""
    return _CONTROLS.sub(b"?", data)


def write_bytes(data: bytes, *, to_stderr: bool = False) -> None:
    """Pass a program's own output on: byte for byte into files and pipes, without control characters to a terminal."""
    stream = sys.stderr if to_stderr else sys.stdout
    stream.flush()
    stream.buffer.write(harmless(data) if stream.isatty() else data)
    stream.buffer.flush()
