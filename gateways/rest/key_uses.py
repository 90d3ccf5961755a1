"""When keys were last used: telemetry, written once a minute and not with each request."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool, PoolTimeout

EVERY_S = 60.0
_NOTE = """
    INSERT INTO fleetlog.key_uses AS old SELECT * FROM unnest(%s::uuid[], %s::timestamptz[])
    ON CONFLICT (api_key_id) DO UPDATE SET last_used_at = greatest(old.last_used_at, excluded.last_used_at)
"""
_log = structlog.get_logger("fleetlog.keys")


class KeyUses:
    """The service that writes them down.

    Args:
        pool: of the database.
        take: what was used since it was last called, and when last.
        every_s: seconds between two times of writing.
    """

    def __init__(
        self, pool: AsyncConnectionPool[Any], take: Callable[[], Mapping[UUID, datetime]], every_s: float = EVERY_S
    ) -> None:
        self._pool = pool
        self._take = take
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="key-uses")

    async def stop(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self.note()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.note()

    async def note(self) -> None:
        """Write what was used since the last time; while the database is away that is lost, and no harm."""
        used = self._take()
        if not used:
            return
        # In one order everywhere, so that two processes never wait for each other.
        keys = sorted(used)
        try:
            async with self._pool.connection(timeout=5.0) as connection:
                await connection.execute(_NOTE, (keys, [used[key] for key in keys]))
        except (psycopg.Error, PoolTimeout) as error:
            _log.warning("key_uses_not_noted", keys=len(keys), error=str(error).strip())
