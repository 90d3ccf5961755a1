"""The rows of read models as they are kept, for whoever has to see why a list shows what it does."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed, Identifier, Literal

from domain.errors import InvalidValueError, NotFoundError
from domain.output_reads import NOT_SHOWN
from projections.catalog import ALL_PROJECTIONS
from projections.pages import Connection, Page, decode_cursor, encode_cursor
from projections.projection import Projection, Table

WITHHELD = frozenset({"secret_sha256", "sealed"})
"""Columns that say something of a credential: shown to nobody."""
MOST_CHARACTERS = 2_000
"""Of a cell; the log has the whole."""
MOST_MS = 5_000
"""A filter that no index serves reads the table; not for ever."""


class TableInfo(msgspec.Struct, frozen=True):
    """A table, and what is in it."""

    projection: str
    table: str
    columns: dict[str, str]
    """With their types."""
    key: list[str]
    rows: int
    """About so many."""


def find_table(name: str) -> tuple[Projection, Table]:
    """A projection's table by its name.

    Raises:
        NotFoundError: no projection has it.
    """
    for projection in ALL_PROJECTIONS:
        for table in projection.tables:
            if table.name == name:
                return projection, table
    raise NotFoundError(f"There is no read model {name!r}.")


async def list_tables(connection: Connection) -> list[TableInfo]:
    """Every table of every projection, with about how many rows it has."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT relname, greatest(reltuples, 0)::bigint FROM pg_class"
            " WHERE relnamespace = 'read'::regnamespace AND relkind = 'r'"
        )
        sizes: dict[str, int] = dict(await cursor.fetchall())
    return [
        TableInfo(projection.name, table.name, table.columns, list(table.key), sizes.get(table.name, 0))
        for projection in ALL_PROJECTIONS
        for table in projection.tables
    ]


async def list_rows(
    connection: Connection,
    name: str,
    *,
    wanted: Mapping[str, str],
    hidden: Collection[str] = (),
    cursor: str | None,
    limit: int,
) -> Page[dict[str, Any]]:
    """The rows of a table, by its key.

    Args:
        connection: to the database.
        name: of the table.
        wanted: only rows whose columns hold these values, as Postgres writes them; an empty one stands for null.
        hidden: columns that whoever asks may not read: they show that there is something, and take no filter.
        cursor: of the page before.
        limit: at most so many.

    Raises:
        NotFoundError: there is no such table.
        InvalidValueError: there is no such column, it is withheld, or cannot hold that value; or no index serves the
            filter, and finding them takes too long.
    """
    _, table = find_table(name)
    conditions, arguments = _conditions(table, wanted, hidden)
    if cursor is not None:
        after = decode_cursor(f"browse.{name}", cursor, [str] * len(table.key))
        keys = SQL(", ").join(Identifier(one) for one in table.key)
        values = SQL(", ").join(SQL("%s::{}").format(SQL(_plain(table.columns[one]))) for one in table.key)
        conditions.append(SQL("({}) > ({})").format(keys, values))
        arguments += after
    statement = SQL("SELECT {} FROM {} {} ORDER BY {} LIMIT %s").format(
        SQL(", ").join(_shown(column, kind, hidden) for column, kind in table.columns.items()),
        Identifier(table.name),
        SQL("WHERE {}").format(SQL(" AND ").join(conditions)) if conditions else SQL(""),
        SQL(", ").join(Identifier(one) for one in table.key),
    )
    try:
        async with connection.transaction(), connection.cursor(row_factory=tuple_row) as reader:
            await reader.execute(SQL("SET LOCAL statement_timeout = {}").format(SQL(str(MOST_MS))))
            await reader.execute(statement, [*arguments, limit + 1])
            rows = await reader.fetchall()
    except psycopg.errors.QueryCanceled as error:
        raise InvalidValueError("No index serves this filter, and reading the whole table takes too long.") from error
    except psycopg.DataError as error:
        raise InvalidValueError(f"A column cannot hold that: {str(error).splitlines()[0]}.") from error
    items = [dict(zip(table.names, row, strict=True)) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items, encode_cursor(f"browse.{name}", [items[-1][one] for one in table.key]) if more else None)


def _conditions(table: Table, wanted: Mapping[str, str], hidden: Collection[str]) -> tuple[list[Composed], list[Any]]:
    conditions: list[Composed] = []
    arguments: list[Any] = []
    for column, value in wanted.items():
        kind = table.columns.get(column)
        if kind is None or column in WITHHELD or column in hidden:
            raise InvalidValueError(f"{table.name} has no column {column!r}: it has {', '.join(table.names)}.")
        if value == "":
            conditions.append(SQL("{} IS NULL").format(Identifier(column)))
            continue
        conditions.append(SQL("{} = %s::{}").format(Identifier(column), SQL(_plain(kind))))
        arguments.append(value)
    return conditions, arguments


def _plain(kind: str) -> Any:
    """A type as it is named in a cast; from our own DDL, never a user's word."""
    return kind


def _shown(column: str, kind: str, hidden: Collection[str]) -> Composed:
    """A cell as text."""
    name = Identifier(column)
    if column in hidden:
        return SQL("CASE WHEN {} IS NULL THEN NULL ELSE {} END").format(name, Literal(NOT_SHOWN))
    if column in WITHHELD:
        return SQL("CASE WHEN {} IS NULL THEN NULL ELSE '(not shown)' END").format(name)
    text = SQL("convert_from({}, 'UTF8')").format(name) if kind == "bytea" else SQL("{}::text").format(name)
    return SQL("left({}, {})").format(text, SQL(str(MOST_CHARACTERS)))


def by_words(filters: Sequence[str]) -> dict[str, str]:
    """`column=value`, each.

    Raises:
        InvalidValueError: one is not of that form.
    """
    wanted: dict[str, str] = {}
    for one in filters:
        column, equals, value = one.partition("=")
        if not equals or "\x00" in one:
            raise InvalidValueError(f"filter: {one!r} is no COLUMN=VALUE.")
        wanted[column] = value
    return wanted
