"""Agents in an order that another table tells: when they were heard of, what waits, what fails, whose they are.

No index covers such an order together with an agent's own columns. So a list is walked in stretches, each in the order
of an index of its own and each with a place to go on from; found are ids, and the rows are read by them.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from projections.errors import InvalidCursorError
from projections.pages import Connection, Order, Page, Query, decode_cursor, encode_cursor

Narrow = Callable[[Query], None]
"""Adds the conditions that an agent of the list has to meet."""
Key = list[Any]


class _Stretch(msgspec.Struct, frozen=True):
    """A part of the list that one statement reads in its order."""

    order: Order
    tables: LiteralString
    where: LiteralString | None = None

    @property
    def way(self) -> LiteralString:
        return " DESC" if self.order.descending else ""

    @property
    def by(self) -> LiteralString:
        return self.order.columns.replace(",", f"{self.way},") + self.way

    async def read(self, connection: Connection, narrow: Narrow, after: Key | None, limit: int) -> list[Key]:
        """The next keys of it; the agent's id is the last of each."""
        query = Query(f"SELECT {self.order.columns} FROM {self.tables}")  # noqa: S608 - of this module's own texts
        narrow(query)
        if self.where is not None:
            query.where(self.where)
        if after is not None:
            _after(query, self.order, after)
        return await query.all(connection, list, f"ORDER BY {self.by} LIMIT %s", limit)


class _ByClient(msgspec.Struct, frozen=True):
    """All agents, one client after the other: of each no more than the page holds, however many it has."""

    order: Order

    async def read(self, connection: Connection, narrow: Narrow, after: Key | None, limit: int) -> list[Key]:
        found: list[Key] = []
        if after is not None:
            # First the others of the client that the page before ended with: its name may have changed since.
            client_key, client_id, *key = after
            of_client = self._of_client(narrow, key)
            of_client.where("client_id = %s", client_id)
            found = await of_client.all(
                connection, lambda row: [client_key, client_id, *row], f"ORDER BY {self._by} LIMIT %s", limit
            )
            if len(found) == limit:
                return found
        customers = Query("SELECT client_id, sort_key AS client_key FROM clients")
        if after is not None:
            order = Order("", "sort_key, client_id", (str, UUID), descending=self.order.descending)
            _after(customers, order, after[:2])
        each = self._of_client(narrow, None)
        each.where("client_id = customer.client_id")
        way = self._way
        query = Query(
            "SELECT client_key, customer.client_id, page.sort_key, page.agent_id FROM "  # noqa: S608 - holes, no values
            f"({customers.text()}) AS customer "
            f"CROSS JOIN LATERAL ({each.text(f'ORDER BY {self._by} LIMIT %s')}) AS page"
        )
        tail: LiteralString = (
            f"ORDER BY client_key{way}, customer.client_id{way}, page.sort_key{way}, page.agent_id{way} LIMIT %s"
        )
        arguments = [*customers.arguments, *each.arguments, limit, limit - len(found)]
        return found + await query.all(connection, list, tail, *arguments)

    @property
    def _way(self) -> LiteralString:
        return " DESC" if self.order.descending else ""

    @property
    def _by(self) -> LiteralString:
        return f"sort_key{self._way}, agent_id{self._way}"

    def _of_client(self, narrow: Narrow, after: Key | None) -> Query:
        query = Query("SELECT sort_key, agent_id FROM agents")
        narrow(query)
        if after is not None:
            _after(query, Order("", "sort_key, agent_id", (str, UUID), descending=self.order.descending), after)
        return query


def _after(query: Query, order: Order, key: Sequence[Any]) -> None:
    holes: LiteralString = ", ".join(["%s"] * len(order.types))
    sign: LiteralString = "<" if order.descending else ">"
    query.where(f"({order.columns}) {sign} ({holes})", *key)


_SEEN: LiteralString = "agents JOIN (SELECT agent_id, last_seen_at FROM fleetlog.presence) AS heard USING (agent_id)"
_WAITED_FOR: LiteralString = (
    "agents JOIN (SELECT agent_id, count(*) AS waiting FROM pending GROUP BY agent_id) AS queues USING (agent_id)"
)
_FAILS: LiteralString = (
    "agents JOIN (SELECT agent_id, count(*) AS fails FROM agent_checks"
    " WHERE found AND state = 'failing' GROUP BY agent_id) AS failures USING (agent_id)"
)
_FAILS_NOT: LiteralString = (
    "NOT EXISTS (SELECT FROM agent_checks AS c WHERE c.agent_id = agents.agent_id AND c.found AND c.state = 'failing')"
)
_NEVER_SEEN: LiteralString = "NOT EXISTS (SELECT FROM fleetlog.presence AS p WHERE p.agent_id = agents.agent_id)"
_NOT_WAITED_FOR: LiteralString = "NOT EXISTS (SELECT FROM pending AS p WHERE p.agent_id = agents.agent_id)"


def _stretches(way: str) -> dict[str, tuple[_Stretch | _ByClient, ...]]:
    back = way == "-"

    def order(name: str, columns: LiteralString, *types: type) -> Order:
        return Order(f"agents.{way}{name}", columns, types, descending=back)

    seen = _Stretch(order("seen", "last_seen_at, agent_id", datetime, UUID), _SEEN)
    # Whoever was never heard of has no place in time: last, whichever way.
    never = _Stretch(order("seen.never", "sort_key, agent_id", str, UUID), "agents", _NEVER_SEEN)
    some = _Stretch(order("pending", "waiting, sort_key, agent_id", int, str, UUID), _WAITED_FOR)
    none = _Stretch(order("pending.none", "sort_key, agent_id", str, UUID), "agents", _NOT_WAITED_FOR)
    fails = _Stretch(order("failing", "fails, sort_key, agent_id", int, str, UUID), _FAILS)
    fine = _Stretch(order("failing.none", "sort_key, agent_id", str, UUID), "agents", _FAILS_NOT)
    customer = _ByClient(order("client", "client_key, client_id, sort_key, agent_id", str, UUID, str, UUID))
    return {
        f"{way}seen": (seen, never),
        f"{way}pending": (some, none) if back else (none, some),
        f"{way}failing": (fails, fine) if back else (fine, fails),
        f"{way}client": (customer,),
    }


STRETCHES = _stretches("") | _stretches("-")


async def walk(connection: Connection, sort: str, narrow: Narrow, *, cursor: str | None, limit: int) -> Page[UUID]:
    """The agents of one page, by their ids, in their order.

    Args:
        connection: to the database.
        sort: one of `STRETCHES`.
        narrow: adds what an agent has to meet.
        cursor: of the page before, with the same sort.
        limit: at most so many.

    Raises:
        InvalidCursorError: it is damaged, or of another list or order.
    """
    stretches = STRETCHES[sort]
    first, after = _place(stretches, cursor)
    found: list[tuple[str, Key]] = []
    for stretch in stretches[first:]:
        keys = await stretch.read(connection, narrow, after, limit + 1 - len(found))
        found += [(stretch.order.name, key) for key in keys]
        after = None
        if len(found) > limit:
            break
    ids = [key[-1] for _, key in found[:limit]]
    return Page(ids, encode_cursor(*found[limit - 1]) if len(found) > limit else None)


def _place(stretches: Sequence[_Stretch | _ByClient], cursor: str | None) -> tuple[int, Key | None]:
    """The stretch in which a page begins, and after what."""
    if cursor is None:
        return 0, None
    for number, stretch in enumerate(stretches[:-1]):
        try:
            return number, decode_cursor(stretch.order.name, cursor, stretch.order.types)
        except InvalidCursorError:
            continue  # of a later one, or of none: the last one says so
    last = stretches[-1].order
    return len(stretches) - 1, decode_cursor(last.name, cursor, last.types)
