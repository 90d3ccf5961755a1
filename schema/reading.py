"""The log as its followers read it: all events in the order of position, whether they are archived or not."""

from collections.abc import Sequence
from typing import Any, LiteralString, Protocol

from schema import archived
from schema.archive import Row
from schema.archived import Reading

COLUMNS: LiteralString = (
    "notification_id, originator_id, originator_version, topic, state, recorded_at, actor, correlation_id,"
    " causation_id, agent_id, client_id"
)
"""In the order of `Row`."""
PAGE: LiteralString = archived.with_mark(
    f"SELECT {COLUMNS} FROM fleetlog.events WHERE notification_id > %(after)s AND notification_id <= %(upto)s"  # noqa: S608 - column names of our own
    " ORDER BY notification_id LIMIT %(limit)s"
)
END = 2**63 - 1


class Cursor(Protocol):
    """As much of a driver's cursor as reading takes."""

    def execute(self, query: Any, params: Any = None, /) -> Any: ...
    def fetchall(self) -> Sequence[Any]: ...


def read_page(cursor: Cursor, after: int, limit: int, upto: int = END) -> list[Row]:
    """The next events, all types, archived or not.

    Args:
        cursor: a binary one is the fastest.
        after: no event at or below this position.
        limit: so many at the most.
        upto: no event above this position.
    """
    arguments = {"after": after, "upto": upto, "limit": limit, "archived_after": after}
    cursor.execute(PAGE, arguments)
    rows, marks = archived.split(cursor.fetchall())
    if not marks:
        return rows
    high = rows[-1][0] if len(rows) == limit else min(upto, marks[0][2])
    old = answered(cursor, archived.page(lambda _: True, low=after + 1, high=high, limit=limit))
    return archived.merged(rows, old)[:limit]


def answered(cursor: Cursor, reading: Reading) -> list[Row]:
    """Have a read of the archive's kind answered by a cursor."""
    question, rows = archived.answer(reading, None)
    while question is not None:
        cursor.execute(*question)
        question, rows = archived.answer(reading, list(cursor.fetchall()))
    return rows
