"""How far each projection is: one row for each, written in the transaction that writes its rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg.rows import tuple_row

from projections import sql
from projections.pages import Connection
from projections.projection import Cursor, Part

CHANNEL = "fleetlog_projected"
_SQL = sql.load("tracking")
_encode = msgspec.json.Encoder().encode


class Tracking(msgspec.Struct, frozen=True):
    projection: str
    position: int
    status: str
    """``running`` or ``stopped``."""
    error: str | None
    error_topic: str | None
    error_position: int | None
    digest: str
    updated_at: datetime

    @property
    def stopped(self) -> bool:
        return self.status == "stopped"


class ProjectionStatus(msgspec.Struct, frozen=True):
    """A projection, as an administrator sees it."""

    name: str
    status: str
    """``running``, ``stopped`` or ``stale`` (its rows were made by another version; a rebuild is due)."""
    position: int
    head: int
    """The log's last position."""
    lag: int
    inline: bool
    error: str | None
    error_topic: str | None
    error_position: int | None
    updated_at: datetime


def read_all(cursor: Cursor) -> dict[str, Tracking]:
    """Every projection's row."""
    return {row[0]: Tracking(*row) for row in cursor.execute(_SQL["read"]).fetchall()}


def lock(cursor: Cursor, names: Sequence[str]) -> dict[str, Tracking]:
    """Rows of these, which nobody else can advance until the end of the transaction."""
    return {row[0]: Tracking(*row) for row in cursor.execute(_SQL["lock"], {"names": list(names)}).fetchall()}


def advance(cursor: Cursor, names: Sequence[str], position: int) -> None:
    cursor.execute(_SQL["advance"], {"names": list(names), "position": position})


def advance_and_tell(cursor: Cursor, names: Sequence[str], position: int) -> None:
    """`advance`, and `notify` of it."""
    payload = _encode(dict.fromkeys(names, position)).decode()
    cursor.execute(_SQL["advance_and_tell"], {"names": list(names), "position": position, "payload": payload})


def advance_with(cursor: Cursor, tracked: Mapping[str, str], after: int, position: int, parts: Sequence[Part]) -> None:
    """By one statement: write a page's rows, advance, and notify of it.

    Args:
        cursor: in autocommit mode.
        tracked: the projections' digests, by their names.
        after: where all of them stand.
        position: where they will.
        parts: of `Projection.parts_beside`, beside ``went``.

    Raises:
        psycopg.errors.DivisionByZero: one of them does not stand there, or rows are missing that must be there. Nothing
            is changed.
    """
    names = list(tracked)
    named = [f", part_{number} AS ({part.statement} RETURNING 1)" for number, part in enumerate(parts)]
    found = {number: part.rows for number, part in enumerate(parts) if part.rows is not None}
    right = [f" AND (SELECT count(*) FROM part_{number}) = %s" for number in found]  # noqa: S608 - numbers of ours
    statement = "".join([_SQL["advance_with"], *named, _SQL["told_if"], *right, ")::integer"])
    payload = _encode(dict.fromkeys(names, position)).decode()
    values = [position, names, list(tracked.values()), after]
    cursor.execute(statement, [*values, *(part.argument for part in parts), payload, len(names), *found.values()])


def stop(cursor: Cursor, name: str, *, position: int, error: str, topic: str, error_position: int) -> None:
    """Record that a projection stays at ``position``, since it cannot fold the event at ``error_position``."""
    arguments = {"name": name, "position": position, "error": error, "topic": topic, "error_position": error_position}
    cursor.execute(_SQL["stop"], {key: _without_nul(value) for key, value in arguments.items()})


def _without_nul(value: Any) -> Any:
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value


def resume(cursor: Cursor, name: str) -> None:
    """Let a stopped projection try its event again."""
    cursor.execute(_SQL["resume"], {"name": name})


def replaced(cursor: Cursor, name: str, *, position: int, digest: str) -> None:
    """Record that the projection's tables are new ones that stand at ``position``."""
    cursor.execute(_SQL["replaced"], {"name": name, "position": position, "digest": digest})


def add(cursor: Cursor, name: str, digest: str) -> None:
    """Begin to track a projection, unless it is tracked already."""
    cursor.execute(_SQL["add"], {"name": name, "digest": digest})


def create(cursor: Cursor) -> None:
    cursor.execute(_SQL["tables"])


def log_head(cursor: Cursor) -> int:
    """The last position that this transaction sees."""
    row = cursor.execute(_SQL["head"]).fetchone()
    return int(row[0]) if row is not None else 0


def notify(cursor: Cursor, positions: dict[str, int]) -> None:
    """Tell waiters, at commit, how far these projections are."""
    cursor.execute(_SQL["notify"], {"payload": _encode(positions).decode()})


async def read_positions(connection: Connection) -> dict[str, Tracking]:
    """Every projection's row, for waiters and status."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL["read"])
        return {row[0]: Tracking(*row) for row in await cursor.fetchall()}


async def read_head(connection: Connection) -> int:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL["head"])
        row = await cursor.fetchone()
    return int(row[0]) if row is not None else 0
