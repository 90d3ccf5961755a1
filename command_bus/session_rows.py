"""The table of sessions: what opens each, and when it was used. A session whose row is gone is over at once."""

from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from command_bus.postgres import AsyncPool
from domain.ids import UserId

MOST_OF_ONE = 50
"""Sessions of one user; the oldest give way."""
_ADD: LiteralString = """
INSERT INTO fleetlog.sessions
    (session_id, user_id, secret_sha256, generation, address, agent, opened_at, seen_at, proved_at, expires_at,
     sid_sha256)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_SELECT: LiteralString = """
SELECT session_id, user_id, secret_sha256, generation, address, agent, opened_at, seen_at, proved_at, expires_at,
    sid_sha256
FROM fleetlog.sessions
"""


class SessionRow(msgspec.Struct, frozen=True):
    session_id: UUID
    user_id: UserId
    secret_sha256: bytes
    generation: int
    address: str
    agent: str
    opened_at: datetime
    seen_at: datetime
    proved_at: datetime
    expires_at: datetime
    sid_sha256: bytes | None = None
    """Of which session at the provider it is; None where none vouched, or it did not say."""

    def open_at(self, now: datetime, idle: timedelta) -> bool:
        return now < self.expires_at and now < self.seen_at + idle


class SessionRows:
    """Reads and writes it.

    Args:
        pool: connections of the application.
    """

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool

    async def add(self, row: SessionRow) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(_ADD, list(msgspec.structs.astuple(row)))

    async def get(self, session_id: UUID) -> SessionRow | None:
        found = await self._rows(f"{_SELECT} WHERE session_id = %s", [session_id])
        return found[0] if found else None

    async def of_user(self, user_id: UUID) -> list[SessionRow]:
        """The newest first."""
        return await self._rows(
            f"{_SELECT} WHERE user_id = %s ORDER BY opened_at DESC, session_id",
            [user_id],
        )

    async def of_provider(self, sid_sha256: bytes) -> list[SessionRow]:
        """Those of one session at the provider."""
        return await self._rows(f"{_SELECT} WHERE sid_sha256 = %s", [sid_sha256])

    async def over(self, now: datetime, idle: timedelta, limit: int) -> list[SessionRow]:
        """Some of those whose time is up."""
        return await self._rows(
            f"{_SELECT} WHERE expires_at <= %s OR seen_at <= %s LIMIT %s",
            [now, now - idle, limit],
        )

    async def seen(self, session_id: UUID, at: datetime) -> None:
        """It was used; what is later already stays."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE fleetlog.sessions SET seen_at = greatest(seen_at, %s) WHERE session_id = %s", [at, session_id]
            )

    async def proved(self, session_id: UUID, at: datetime) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE fleetlog.sessions SET proved_at = %s WHERE session_id = %s", [at, session_id]
            )

    async def drop(self, session_id: UUID) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("DELETE FROM fleetlog.sessions WHERE session_id = %s", [session_id])

    async def drop_older(self, user_id: UUID, generation: int) -> None:
        """All of a user's of a generation before this one: they are over already."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "DELETE FROM fleetlog.sessions WHERE user_id = %s AND generation < %s", [user_id, generation]
            )

    async def _rows(self, sql: LiteralString, parameters: list[Any]) -> list[SessionRow]:
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(sql, parameters)).fetchall()
        return [SessionRow(*row) for row in rows]
