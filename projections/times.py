"""Which position a moment stands for, and when a position was recorded, in the table and in the archive alike.

Times follow positions but for steps of the server's clock, so a moment is found by halving. Each question is a
generator, as `schema.archived`: it yields a statement and its arguments, is sent the rows, and returns its answer.
"""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, TypeVar

import psycopg

from schema import archived
from schema.archive import Row
from schema.reading import COLUMNS

T = TypeVar("T")
Asking = Generator[tuple[LiteralString, dict[str, Any]], list[Row], T]

_BEFORE: LiteralString = "SELECT fleetlog.position_before(%(moment)s)"
_LAST: LiteralString = (
    f"SELECT {COLUMNS} FROM fleetlog.events WHERE notification_id <= %(upto)s"  # noqa: S608 - column names of our own
    " ORDER BY notification_id DESC LIMIT 1"
)
_RECORDED_AT = 5
"""Place of the time among an event's columns."""
_LAST_OF_ALL = datetime.max.replace(tzinfo=UTC)
_TICK = timedelta(microseconds=1)
"""What Postgres tells times apart by."""


def position_at(moment: datetime) -> Asking[int]:
    """The last position that was recorded at a moment, or before it; 0 if there is none."""
    ((high,),) = yield _BEFORE, {"moment": moment if moment == _LAST_OF_ALL else moment + _TICK}
    # So says the table alone. In what has left it since, between its last event before the moment and the first one
    # after it, is looked for the last in time.
    rows = yield _LAST, {"upto": high}
    low = int(rows[0][0]) if rows else 0
    while low < high:
        middle = (low + high + 1) // 2
        seen = yield from _last_archived(low, middle)
        if seen is None or seen[_RECORDED_AT] <= moment:
            low = middle
        else:
            high = int(seen[0]) - 1
    return low


def time_of(position: int) -> Asking[datetime | None]:
    """When the last event up to a position was recorded; None where there is none."""
    rows = yield _LAST, {"upto": position}
    seen = yield from _last_archived(rows[0][0] if rows else 0, position)
    row = seen or (rows[0] if rows else None)
    return None if row is None else row[_RECORDED_AT]


def answered(connection: psycopg.Connection[Any], asking: Asking[T]) -> T:
    """Ask over a plain connection."""
    rows: list[Row] | None = None
    while True:
        try:
            statement, arguments = next(asking) if rows is None else asking.send(rows)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        rows = connection.execute(statement, arguments).fetchall()


def _last_archived(after: int, upto: int) -> Generator[tuple[LiteralString, dict[str, Any]], list[Row], Row | None]:
    """The last archived event of a range."""
    if after >= upto:
        return None
    rows = yield from archived.page(_any, low=after + 1, high=upto, limit=1, backwards=True)
    return rows[0] if rows else None


def _any(_row: Row) -> bool:
    return True
