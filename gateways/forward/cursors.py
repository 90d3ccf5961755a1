"""How far each destination is: one row each, written by whoever sends there."""

from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from command_bus.postgres import AsyncPool
from gateways.forward.envelope import Outgoing

_TAKE: LiteralString = """
INSERT INTO fleetlog.forwarding (destination_id, position) VALUES (%s, %s)
ON CONFLICT (destination_id) DO UPDATE SET updated_at = now() RETURNING position, failures
"""
# Nobody takes it back: what has arrived has arrived, whoever brought it there.
_REACH: LiteralString = """
UPDATE fleetlog.forwarding SET position = greatest(position, %(position)s), sent = sent + %(sent)s,
    sent_at = CASE WHEN %(sent)s > 0 THEN now() ELSE sent_at END,
    failures = 0, failing_since = NULL, error = '', tries_at = NULL, stuck_at = NULL, stuck_type = '',
    updated_at = now()
WHERE destination_id = %(destination_id)s
"""
_FAIL: LiteralString = """
UPDATE fleetlog.forwarding SET failures = %(failures)s, failing_since = coalesce(failing_since, now()),
    error = %(error)s, tries_at = %(tries_at)s, stuck_at = %(stuck_at)s, stuck_type = %(stuck_type)s, updated_at = now()
WHERE destination_id = %(destination_id)s
"""
_FORGET: LiteralString = "DELETE FROM fleetlog.forwarding WHERE destination_id = %s"
MAX_ERROR = 500
_NOT_STUCK: dict[str, Any] = {"stuck_at": None, "stuck_type": ""}


class Cursors:
    """The rows.

    Args:
        pool: connections of the application. One that loses a row's last change with the server loses nothing: its
            events are sent once more.
    """

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool

    async def _execute(self, statement: LiteralString, values: Any) -> list[Any]:
        async with self._pool.connection(timeout=10) as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description is not None else []

    async def take(self, destination_id: UUID, after: int) -> tuple[int, int]:
        """Where a destination is, and how often in a row it has failed; at the beginning, where it begins."""
        ((position, failures),) = await self._execute(_TAKE, [destination_id, after])
        return position, failures

    async def reach(self, destination_id: UUID, position: int, sent: int) -> None:
        """Whatever is to go there up to a position has arrived, so many events of it since the last word."""
        await self._execute(_REACH, {"destination_id": destination_id, "position": position, "sent": sent})

    async def fail(
        self, destination_id: UUID, failures: int, error: str, tries_at: datetime, stuck_on: Outgoing | None = None
    ) -> None:
        """The last try failed; when the next one is, and which event was refused, if one was."""
        stuck = {"stuck_at": stuck_on.position, "stuck_type": stuck_on.type} if stuck_on is not None else _NOT_STUCK
        values = {"failures": failures, "error": error[:MAX_ERROR], "tries_at": tries_at} | stuck
        await self._execute(_FAIL, {"destination_id": destination_id} | values)

    async def forget(self, destination_id: UUID) -> None:
        """A destination is removed."""
        await self._execute(_FORGET, [destination_id])
