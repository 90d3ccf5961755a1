"""What a projection is: tables, the events that it folds, and how an event changes rows.

A fold never reads a row. Each event either makes a row whole, sets some of its columns, or removes it; what a page of
events does to one row is gathered in Python first, so that the database sees one COPY, a few set-based UPDATEs and one
DELETE per page, however many events there were. Because nothing is read, folding a history in pages of any size gives
the same rows (invariant 7), and so does a rebuild that gathers a hundred thousand events at a time.
"""

import abc
import functools
import hashlib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, LiteralString, NamedTuple, cast

import msgspec
import psycopg

from domain.catalog import topic_of
from domain.codec import TOPICS
from domain.event import Event, Recorded
from projections import sql
from projections.errors import FoldError
from schema.arrays import uuids

Cursor = psycopg.Cursor[Any]
Cells = dict[str, Any]
Values = Mapping[str, str]
"""Expressions, by the names of columns."""
Key = Any
"""A row's key: a UUID, or a tuple where the key has several columns."""
ALIKE = 32
"""Where so many rows, on the average, are set to the same, a statement for each such costs less than one for all."""
SMALL = 256
"""Up to so many new rows go in as one statement with one JSON argument (one round trip); more go by COPY."""

_TABLE = re.compile(r"^CREATE TABLE (\w+) \(\n(.*?)\n\);", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^    ([a-z]\w*) (uuid|text|bigint|integer|smallint|boolean|timestamptz|jsonb|bytea)\b")
_PRIMARY = re.compile(r"^    PRIMARY KEY \(([\w, ]+)\)", re.MULTILINE)
_JSONB_VERSION = b"\x01"
_encode = msgspec.json.Encoder().encode


def _ours(text: str) -> LiteralString:
    """Vouch for a statement that is made of names out of our own DDL, and of nothing that anybody typed."""
    return cast("Any", text)  # type: ignore[no-any-return]


def _without_nul(value: Any) -> Any:
    """Postgres' text and jsonb have no NUL; an agent's facts or output may. The log keeps the original."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case dict():
            return {_without_nul(key): _without_nul(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_nul(item) for item in value]
        case _:
            return value


def _argument(value: Any) -> Any:
    """As a statement's own argument; the driver would give an enum's member its name."""
    return _without_nul(str(value)) if isinstance(value, str) else value


def document(value: Any) -> bytes:
    """JSON as the tables hold it."""
    encoded = _encode(value)
    return _encode(_without_nul(msgspec.json.decode(encoded))) if b"\\u0000" in encoded else encoded


class Part(NamedTuple):
    """A statement that may stand in a WITH clause, with one placeholder."""

    statement: LiteralString
    argument: Any
    rows: int | None
    """So many it must find; None where it does not matter."""


class Table:
    """A table as its CREATE statement describes it, and the statements that write it."""

    def __init__(self, name: str, columns: Mapping[str, str], key: tuple[str, ...]) -> None:
        self.name = name
        self.columns = dict(columns)
        self.key = key
        self._updates: dict[tuple[str, ...], LiteralString] = {}
        self._sets: dict[tuple[str, ...], LiteralString] = {}
        self._parts: dict[tuple[str, tuple[str, ...]], LiteralString] = {}
        self.names = tuple(columns)
        self._values = operator.itemgetter(*self.names)
        self._binary = tuple(column for column, kind in columns.items() if kind == "bytea")
        self._text = tuple(i for i, kind in enumerate(columns.values()) if kind == "text")
        self._plain = frozenset(name for name, kind in columns.items() if kind not in ("jsonb", "bytea"))
        self._json = tuple(i for i, kind in enumerate(columns.values()) if kind == "jsonb")
        # What the server reads as jsonb is a version byte and text; the driver passes bytes on as they are.
        self._copy_types = ["bytea" if kind == "jsonb" else kind for kind in columns.values()]

    def insert(self, cursor: Cursor, rows: Sequence[Cells]) -> None:
        """Add rows that are not there yet."""
        if len(rows) <= SMALL:
            cursor.execute(self._insert_statement, (self._as_json(rows),))
            return
        with cursor.copy(self._copy_statement) as copy:
            copy.set_types(self._copy_types)
            for row in rows:
                copy.write_row(self._copied(row))

    def update(self, cursor: Cursor, patches: Iterable[Cells]) -> int:
        """Set some columns of some rows, named by their key's; those with the same columns go in one statement.

        Returns:
            How many rows there were to set.
        """
        found = 0
        for names, rows in self._alike(patches).items():
            same = self._same(names, rows)
            if same is None:
                cursor.execute(self._update_statement(names), (document(rows).decode(),))
                found += cursor.rowcount
                continue
            for values, keys in same.items():
                cursor.execute(self._set_statement(names), (*map(_argument, values), uuids(keys)))
                found += cursor.rowcount
        return found

    def _same(self, names: tuple[str, ...], rows: Sequence[Cells]) -> dict[tuple[Any, ...], list[Key]] | None:
        """The keys of rows that are set to the same, by what that is; None if too many differ."""
        if len(self.key) > 1 or len(rows) < ALIKE or not self._plain.issuperset(names):
            return None
        (key,) = self.key
        most = len(rows) // ALIKE
        same: dict[tuple[Any, ...], list[Key]] = {}
        for row in rows:
            same.setdefault(tuple([row[name] for name in names]), []).append(row[key])
            if len(same) > most:
                return None
        return same

    def _alike(self, patches: Iterable[Cells]) -> dict[tuple[str, ...], list[Cells]]:
        """Those that set the same columns."""
        alike: dict[tuple[str, ...], list[Cells]] = {}
        for cells in patches:
            alike.setdefault(tuple(sorted(cells.keys() - self.key)), []).append(cells)
        return alike

    def _as_json(self, rows: Sequence[Cells]) -> str:
        texts = [{**row, **{name: "\\x" + row[name].hex() for name in self._binary}} for row in rows]
        return document(texts).decode()

    def delete(self, cursor: Cursor, keys: Iterable[Key]) -> None:
        cursor.execute(self._delete_statement, (uuids(keys),))

    def parts(
        self, made: Sequence[Cells], patches: Sequence[Cells], gone: Sequence[Key], beside: str, values: Values
    ) -> list[Part]:
        """Statements that add, change and remove rows as parts of one: see `insert_from`."""
        parts: list[Part] = []
        if gone:
            parts.append(Part(self.delete_from(beside), uuids(gone), None))
        for names, rows in self._alike(patches).items():
            if (beside, names) not in self._parts:
                self._parts[beside, names] = self.update_from(names, beside, values)
            parts.append(Part(self._parts[beside, names], document(rows).decode(), len(rows)))
        if made:
            if (beside, self.names) not in self._parts:
                self._parts[beside, self.names] = self.insert_from(beside, values)
            parts.append(Part(self._parts[beside, self.names], self._as_json(made), None))
        return parts

    def _copied(self, row: Cells) -> Sequence[Any]:
        values = list(self._values(row))
        for i in self._text:
            text = values[i]
            if text and "\x00" in text:
                values[i] = _without_nul(text)
        for i in self._json:
            if values[i] is not None:
                values[i] = _JSONB_VERSION + document(values[i])
        return values

    @functools.cached_property
    def _copy_statement(self) -> LiteralString:
        return _ours(f"COPY {self.name} ({', '.join(self.names)}) FROM STDIN (FORMAT BINARY)")

    @functools.cached_property
    def _insert_statement(self) -> LiteralString:
        return self.insert_from(None, {})

    @functools.cached_property
    def _delete_statement(self) -> LiteralString:
        return self.delete_from(None)

    def _update_statement(self, names: tuple[str, ...]) -> LiteralString:
        if names not in self._updates:
            self._updates[names] = self.update_from(names, None, {})
        return self._updates[names]

    def _set_statement(self, names: tuple[str, ...]) -> LiteralString:
        if names not in self._sets:
            sets = ", ".join(f"{name} = %s::{self.columns[name]}" for name in names)
            (key,) = self.key
            self._sets[names] = _ours(f"UPDATE {self.name} SET {sets} WHERE {key} = ANY(%s::uuid[])")  # noqa: S608 - names out of our own DDL
        return self._sets[names]

    def insert_from(self, beside: str | None, values: Values) -> LiteralString:
        """The statement that adds rows out of one JSON argument.

        Args:
            beside: a table of one row that it joins, so that this is there before any of our rows is touched.
            values: of columns that are not just as the JSON has them (``new``), by their names.
        """
        names = ", ".join(self.names)
        chosen = ", ".join(values.get(name, f"new.{name}") for name in self.names)
        shape = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        joined = f", {beside}" if beside else ""
        return _ours(
            f"INSERT INTO {self.name} ({names}) SELECT {chosen} FROM json_to_recordset(%s) AS new ({shape}){joined}"  # noqa: S608 - names out of our own DDL
        )

    def update_from(self, names: tuple[str, ...], beside: str | None, values: Values) -> LiteralString:
        """The statement that sets these columns; see `insert_from`."""
        shape = ", ".join(f"{name} {self.columns[name]}" for name in (*self.key, *names))
        sets = ", ".join(f"{name} = {values.get(name, f'new.{name}')}" for name in names)
        match = " AND ".join(f"old.{name} = new.{name}" for name in self.key)
        joined = f", {beside}" if beside else ""
        return _ours(
            f"UPDATE {self.name} AS old SET {sets} FROM json_to_recordset(%s) AS new ({shape}){joined} WHERE {match}"  # noqa: S608 - as above
        )

    def delete_from(self, beside: str | None) -> LiteralString:
        """The statement that removes rows by their keys; see `insert_from`."""
        (column,) = self.key
        using = f" USING {beside}" if beside else ""
        return _ours(f"DELETE FROM {self.name}{using} WHERE {column} = ANY(%s::uuid[])")  # noqa: S608 - as above


def tables_of(ddl: str) -> tuple[Table, ...]:
    """Read the tables out of our own DDL, so that it alone says what they look like."""
    tables = []
    for name, body in _TABLE.findall(ddl):
        found = (_COLUMN.match(line) for line in body.split("\n"))
        columns = {match[1]: match[2] for match in found if match is not None}
        (key,) = _PRIMARY.findall(body)
        tables.append(Table(name, columns, tuple(key.split(", "))))
    return tuple(tables)


def _itself(key: Key) -> Any:
    return key


class TableBatch:
    """What some events do to one table.

    Rows are looked up several times for each event. A UUID is hashed and compared in Python, its number is not.
    """

    def __init__(self, table: Table, *, strict: bool) -> None:
        self._table = table
        self._strict = strict
        self._of: Callable[[Key], Any] = operator.attrgetter("int") if len(table.key) == 1 else _itself
        self._made: dict[Any, Cells] = {}
        self._set: dict[Any, Cells] = {}
        self._gone: dict[Any, Key] = {}

    def insert(self, key: Key, **cells: Any) -> None:
        """Make a row; ``cells`` are all of its columns but the key."""
        self.insert_row(key, cells)

    def insert_row(self, key: Key, cells: Cells) -> None:
        """As `insert`, of cells that are the batch's from then on: a fold that most events come to spares the copy."""
        row = self._of(key)
        if row in self._made:
            raise FoldError(f"{self._table.name} {key}: made twice.")
        self._made[row] = self._with_key(key, cells)

    def update(self, key: Key, **cells: Any) -> None:
        """Set columns of a row that an event before this one made."""
        self.update_row(key, cells)

    def update_row(self, key: Key, cells: Cells) -> None:
        """As `update`, of cells that are the batch's from then on."""
        row = self._of(key)
        there = self._made.get(row) or self._set.get(row)
        if there is not None:
            there.update(cells)
        elif row not in self._gone:
            self._set[row] = self._with_key(key, cells)
        elif self._strict:
            raise FoldError(f"{self._table.name} {key}: changed after it had gone.")

    def made(self, key: Key) -> Cells | None:
        """The row that these events have made, as it is after the last of them; None if there is none."""
        return self._made.get(self._of(key))

    def delete(self, key: Key) -> None:
        """Remove a row."""
        row = self._of(key)
        if self._made.pop(row, None) is None:
            self._set.pop(row, None)
            self._gone[row] = key

    def _with_key(self, key: Key, cells: Cells) -> Cells:
        names = self._table.key
        if len(names) == 1:
            cells[names[0]] = key
        else:
            cells.update(zip(names, key, strict=True))
        return cells

    def parts(self, beside: str, values: Values) -> list[Part] | None:
        """What `flush` would write, as parts of one statement (see `Table.insert_from`), if it is not too much.

        A row that must be there and is not makes the rows that a part finds too few.
        """
        if len(self._made) > SMALL or not self._made.keys().isdisjoint(self._gone):
            return None
        made, patches, gone = list(self._made.values()), list(self._set.values()), list(self._gone.values())
        parts = self._table.parts(made, patches, gone, beside, values)
        return parts if self._strict else [part._replace(rows=None) for part in parts]

    def flush(self, cursor: Cursor) -> None:
        """Write it."""
        if self._gone:
            self._table.delete(cursor, self._gone.values())
        if self._set and self._table.update(cursor, self._set.values()) != len(self._set) and self._strict:
            raise FoldError(f"{self._table.name}: a row to be changed is not there.")
        if self._made:
            self._table.insert(cursor, list(self._made.values()))


class Projection(abc.ABC):
    """One read model. ``<name>.sql`` beside its module has its DDL (``tables``, ``indexes``) and its queries."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Goes up when the fold gives other rows from the same events; the tables are then rebuilt at the next start."""
    folds: ClassVar[tuple[type[Event], ...]]
    """The event types that it folds."""
    lists: ClassVar[tuple[type[Event], ...]] = ()
    """Those of them that make a row of each of their ``entries``."""
    ends: ClassVar[frozenset[type[Event]]] = frozenset()
    """Events after which their stream has no row, so that a rebuild needs none of that stream's events. Where there are
    any, each event is folded into its own stream's row alone."""
    inline: ClassVar[bool] = False
    """Folded in the appending transaction, so that it is current at commit; the others follow the log."""
    strict: ClassVar[bool] = True
    """A change of a row that is not there is an error."""
    positions: ClassVar[frozenset[str]] = frozenset()
    """Of an inline one, the columns that hold positions: they are known only when the events are recorded."""
    times: ClassVar[frozenset[str]] = frozenset()
    """As `positions`, those that hold the time at which an event was recorded."""

    def __init__(self) -> None:
        self._from_log = {name: f"appended.before + new.{name}" for name in self.positions}
        self._from_log |= dict.fromkeys(self.times, "appended.recorded")
        statements = sql.load(self.name)
        self.ddl = statements["tables"]
        self.indexes = statements["indexes"]
        self.tables = tables_of(self.ddl)
        self.types = frozenset(event_type.__name__ for event_type in self.folds)
        self.topics = frozenset(topic_of(event_type) for event_type in self.folds)
        shape = (self.name, self.version, self.ddl, self.indexes, sorted(self.topics))
        self.digest = hashlib.sha256(repr(shape).encode()).hexdigest()
        """Changes when a rebuild is due."""

    @abc.abstractmethod
    def fold(self, batch: "Batch", recorded: Recorded) -> None:
        """Say what one event of `folds` does to rows."""

    def begin(self) -> "Batch":
        return Batch(self)

    @property
    def live_tables(self) -> Sequence[str]:
        return [table.name for table in self.tables]

    def parts(self, numbered: Sequence[Recorded]) -> list[Part] | None:
        """What `apply` would write, as parts of one statement; see `command_bus.event_log.InlineFold`.

        Each joins ``appended``, so that no row is touched before the log's lock is held and its version accepted: two
        who changed one row could otherwise wait for each other, one with the row, one with the lock.
        """
        return None if self.strict else self.parts_beside("appended", numbered, self._from_log)

    def parts_beside(self, beside: str, recorded: Sequence[Recorded], values: Values) -> list[Part] | None:
        """What `apply` would write, as parts of one statement; None if it is too much. See `TableBatch.parts`."""
        batch = self.begin()
        batch.fold(recorded)
        parts: list[Part] = []
        for table in batch.values():
            found = table.parts(beside, values)
            if found is None:
                return None
            parts += found
        return parts

    def apply(self, cursor: Cursor, recorded: Sequence[Recorded]) -> None:
        """Write what these events, in the order of position, do to the tables; exactly once is the caller's duty."""
        batch = self.begin()
        batch.fold(recorded)
        batch.flush(cursor)


class Batch(dict[str, TableBatch]):
    """What some events do to a projection's tables, by their names, gathered until it is written."""

    def __init__(self, projection: Projection) -> None:
        super().__init__((table.name, TableBatch(table, strict=projection.strict)) for table in projection.tables)
        self._fold = projection.fold
        self._folds = frozenset(projection.folds)

    def fold(self, recorded: Iterable[Recorded]) -> None:
        """Gather events, skipping those that the projection has no use for."""
        folds, fold = self._folds, self._fold
        for item in recorded:
            if type(item.event) in folds:
                fold(self, item)

    def flush(self, cursor: Cursor) -> None:
        for table in self.values():
            table.flush(cursor)


def type_of(topic: str) -> str:
    """The type's name, without its version."""
    return topic.partition("/")[0]


KNOWN_TOPICS: frozenset[str] = frozenset(TOPICS.values())
