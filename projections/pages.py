"""Lists come in pages: an opaque cursor says where the next one begins."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Generic, LiteralString, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import tuple_row

from domain.scopes import Scope
from projections.errors import InvalidCursorError

Row = TypeVar("Row")
Connection = psycopg.AsyncConnection[Any]
Tenants = Scope | None
"""The clients and sites whose rows may be seen; None means all (invariant 8)."""
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


class OfPast(Scope, frozen=True):
    """A scope as of now, for rows as of then (`projections.replays`).

    Where a machine is now decides who sees its past, so far as it was the same client's: that is asked of the live
    tables, which a statement on a replay has to name.
    """

    @classmethod
    def like(cls, scope: Scope) -> "OfPast":
        return cls(everything=scope.everything, clients=scope.clients, sites=scope.sites)


class Page(msgspec.Struct, Generic[Row], frozen=True):
    """Some rows, and the cursor of those that follow (None: these were the last)."""

    items: list[Row]
    next: str | None = None


def encode_cursor(order: str, key: Sequence[Any]) -> str:
    """Make a cursor from the last row's sort key."""
    return base64.urlsafe_b64encode(msgspec.json.encode([order, *key])).rstrip(b"=").decode()


def decode_cursor(order: str, cursor: str, types: Sequence[type]) -> list[Any]:
    """Read the sort key that a cursor stands for.

    Raises:
        InvalidCursorError: it is damaged, or of another list or order.
    """
    try:
        parts = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=list[Any])
        if len(parts) != len(types) + 1 or parts[0] != order:
            raise InvalidCursorError
        key: list[Any] = [msgspec.convert(part, kind) for part, kind in zip(parts[1:], types, strict=True)]
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError) as error:
        raise InvalidCursorError from error
    # Postgres' text has no NUL, so no row of ours made this.
    if any(isinstance(part, str) and "\x00" in part for part in key):
        raise InvalidCursorError
    return key


class Query:
    """A SELECT put together from fixed fragments, so that each combination of filters gets a plan of its own.

    One statement with ``(%s IS NULL OR ...)`` for each filter would be shorter; its generic plan could use no index.
    """

    def __init__(self, select: LiteralString) -> None:
        self._select = select
        self._where: list[LiteralString] = []
        self._arguments: list[Any] = []

    def where(self, condition: LiteralString, *arguments: Any) -> None:
        self._where.append(condition)
        self._arguments.extend(arguments)

    def tenants(
        self, column: LiteralString, client_ids: Tenants, *, site: LiteralString = "", agent: LiteralString = ""
    ) -> None:
        """Leave only rows of what may be seen; an empty scope sees nothing.

        Args:
            column: of the client's id.
            client_ids: what may be seen.
            site: column of the site's id, where it tells where the row's thing is.
            agent: column of the agent's id: the thing is where the agent is now. With neither of both, the row is of
                its whole client. With both, the site tells it but in rows as of then.
        """
        if client_ids is None or client_ids.everything:
            return
        clients, sites = list(client_ids.clients), list(client_ids.site_ids)
        if not sites or not (site or agent):
            self.where(f"{column} = ANY(%s::uuid[])", clients)
        elif site and not (agent and isinstance(client_ids, OfPast)):
            self.where(f"({column} = ANY(%s::uuid[]) OR {site} = ANY(%s::uuid[]))", clients, sites)
        else:
            there: LiteralString = "ARRAY(SELECT agent_id FROM read.agents WHERE site_id = ANY(%s::uuid[]))"
            known = list(client_ids.known_clients)
            self.where(f"{column} = ANY(%s::uuid[])", known)
            self.where(f"({column} = ANY(%s::uuid[]) OR {agent} = ANY({there}))", clients, sites)

    @property
    def arguments(self) -> list[Any]:
        """Of all its conditions, in their order."""
        return list(self._arguments)

    def text(self, tail: LiteralString = "") -> LiteralString:
        return f"{self._select}{self._conditions()} {tail}"

    def _conditions(self) -> LiteralString:
        conditions: LiteralString = " AND ".join(self._where)
        return f" WHERE {conditions}" if self._where else ""

    async def one(self, connection: Connection, make: Callable[[tuple[Any, ...]], Row]) -> Row | None:
        """The only row, or None."""
        async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
            await cursor.execute(self.text(), self._arguments)
            row = await cursor.fetchone()
        return None if row is None else make(row)

    async def all(
        self, connection: Connection, make: Callable[[tuple[Any, ...]], Row], tail: LiteralString = "", *more: Any
    ) -> list[Row]:
        """All rows, ordered and bounded by ``tail``."""
        async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
            await cursor.execute(self.text(tail), [*self._arguments, *more])
            return [make(row) for row in await cursor.fetchall()]

    async def page(
        self,
        connection: Connection,
        make: Callable[[tuple[Any, ...]], Row],
        order: "Order",
        *,
        cursor: str | None,
        limit: int,
        key: Callable[[Row], Sequence[Any]],
        keys: LiteralString | None = None,
    ) -> Page[Row]:
        """One page by keyset: its cost does not grow with how far down the list it is.

        Args:
            connection: to the database.
            make: from a row of the database to the list's.
            order: of the list.
            cursor: of the page before.
            limit: at most so many.
            key: a row's place in the order.
            keys: ``column FROM table``, to find first which rows there are: worth it where an index alone can tell and
                many are passed over.
        """
        limit = max(1, min(limit, MAX_LIMIT))
        if cursor is not None:
            holes: LiteralString = ", ".join(["%s"] * len(order.types))
            sign: LiteralString = "<" if order.descending else ">"
            self.where(f"({order.columns}) {sign} ({holes})", *decode_cursor(order.name, cursor, order.types))
        way: LiteralString = " DESC" if order.descending else ""
        by: LiteralString = order.columns.replace(",", f"{way},") + way
        if keys is None:
            rows = await self.all(connection, make, f"ORDER BY {by} LIMIT %s", limit + 1)
        else:
            column: LiteralString = keys.split(" ", 1)[0]
            found: LiteralString = f"SELECT {keys}{self._conditions()} ORDER BY {by} LIMIT %s"
            self._where = [f"{column} = ANY(ARRAY({found}))"]
            rows = await self.all(connection, make, f"ORDER BY {by}", limit + 1)
        if len(rows) <= limit:
            return Page(rows)
        return Page(rows[:limit], encode_cursor(order.name, key(rows[limit - 1])))


class Order(msgspec.Struct, frozen=True):
    """A list's order: unique, and covered by an index."""

    name: str
    columns: LiteralString
    types: tuple[type, ...]
    descending: bool = False


def cut(
    rows: Sequence[Row], order: Order, key: Callable[[Row], Sequence[Any]], *, cursor: str | None, limit: int
) -> Page[Row]:
    """One page of rows that are in memory, as `Query.page` gives it of a table's.

    Args:
        rows: all of them, in that order.
        order: of the list.
        key: a row's place in the order.
        cursor: of the page before.
        limit: at most so many.

    Raises:
        InvalidCursorError: the cursor is damaged, or of another list or order.
    """
    limit = max(1, min(limit, MAX_LIMIT))
    if cursor is not None:
        after = decode_cursor(order.name, cursor, order.types)
        rows = [row for row in rows if list(key(row)) > after]
    if len(rows) <= limit:
        return Page(list(rows))
    return Page(list(rows[:limit]), encode_cursor(order.name, key(rows[limit - 1])))


BY_POSITION = Order("position", "position", (int,), descending=True)


def as_uuid_tuple(value: Sequence[str] | None) -> tuple[UUID, ...] | None:
    """Ids out of a jsonb array; None stays None."""
    return None if value is None else tuple(UUID(item) for item in value)
