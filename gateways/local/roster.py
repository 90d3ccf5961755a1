"""Which processes of the platform there are: each says so every two seconds, and takes its line away when it stops."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any, Self
from uuid import UUID

import msgspec
import psutil
import psycopg
import structlog
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from command_bus.ids import new_id
from command_bus.postgres import open_pool
from gateways.cancelling import end

EVERY_S = 2.0
LOST_AFTER_S = 10.0
"""So long after its last word a process counts as lost."""
LEAVE_TIMEOUT_S = 2.0
FORGET_AFTER = timedelta(hours=24)

_log = structlog.get_logger(__name__)

_ANNOUNCE = """
    INSERT INTO fleetlog.processes (id, role, host, pid, version, state, note, status_url, started_at)
    VALUES (%(id)s, %(role)s, %(host)s, %(pid)s, %(version)s, %(state)s, %(note)s, %(status_url)s, %(started_at)s)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, note = excluded.note, seen_at = now()
"""
_LEAVE = "DELETE FROM fleetlog.processes WHERE id = ANY(%s)"
_OF_HOST = "SELECT id, pid, started_at FROM fleetlog.processes WHERE host = %s AND role = ANY(%s)"
_LIST = """
    SELECT role, host, pid, version, state, note, status_url, started_at,
           extract(epoch FROM now() - seen_at)::float8 AS age_s
    FROM fleetlog.processes ORDER BY role, host, started_at
"""
_FORGET = "DELETE FROM fleetlog.processes WHERE seen_at < now() - %s"


class ProcessRow(msgspec.Struct, frozen=True):
    """One role of one process, as it last said."""

    role: str
    host: str
    pid: int
    version: str
    state: str
    note: str
    status_url: str
    started_at: datetime
    age_s: float
    """Since its last word."""

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        return cls(*row)

    @property
    def lost(self) -> bool:
        return self.age_s > LOST_AFTER_S

    def lives(self) -> bool:
        """Whether the process still runs; for one of this machine."""
        return _lives(self.pid, self.started_at)


class Roster:
    """Announces the roles of this process.

    Args:
        url: the database.
        roles: what this process does.
        status_url: where it serves /healthz and /metrics.
        state_of: what to say of a role: its state, and what it waits for.
    """

    def __init__(self, url: str, roles: list[str], status_url: str, state_of: Callable[[str], tuple[str, str]]) -> None:
        self._url = url
        self._ids = {role: new_id() for role in roles}
        self._status_url = status_url
        self._state_of = state_of
        self._started_at = datetime.now(UTC)
        self._host = socket.gethostname()
        self._changed = asyncio.Event()
        self._pool: AsyncConnectionPool | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to announce, as soon as the database is there."""
        self._pool = await open_pool(self._url, min_size=0, max_size=1, name="fleetlog-roster")
        self._task = asyncio.create_task(self._announce_for_ever(self._pool), name="roster")

    def changed(self) -> None:
        """Say so now: a state is another."""
        self._changed.set()

    async def stop(self) -> None:
        """Take our lines away; a database that is away keeps them until they are forgotten."""
        if self._task is None or self._pool is None:
            return
        await end((self._task,))
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S), self._pool.connection(LEAVE_TIMEOUT_S) as connection:
                await connection.execute(_LEAVE, [list(self._ids.values())])
        except (psycopg.OperationalError, TimeoutError):
            _log.info("roster_left_unsaid")
        await self._pool.close(LEAVE_TIMEOUT_S)

    async def _announce_for_ever(self, pool: AsyncConnectionPool) -> None:
        tidied = False
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(5), pool.connection(5) as connection:
                    if not tidied:
                        await self._forget_the_dead(connection)
                        tidied = True
                    for role in self._ids:
                        await connection.execute(_ANNOUNCE, self._line(role))
            except (psycopg.Error, TimeoutError) as error:
                _log.debug("roster_waiting", error=str(error) or type(error).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._changed.wait()

    async def _forget_the_dead(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Remove what killed processes of this machine left, so that status shows who took over and not both."""
        cursor = await connection.execute(_OF_HOST, [self._host, list(self._ids)])
        dead = [ident for ident, pid, started_at in await cursor.fetchall() if not _lives(pid, started_at)]
        await connection.execute(_LEAVE, [dead])

    def _line(self, role: str) -> dict[str, str | int | UUID | datetime]:
        state, note = self._state_of(role)
        return {
            "id": self._ids[role],
            "role": role,
            "host": self._host,
            "pid": os.getpid(),
            "version": metadata.version("fleetlog") if _installed() else "source",
            "state": state,
            "note": note,
            "status_url": self._status_url,
            "started_at": self._started_at,
        }


def _installed() -> bool:
    try:
        metadata.version("fleetlog")
    except metadata.PackageNotFoundError:
        return False
    return True


def _lives(pid: int, started_at: datetime) -> bool:
    """Whether a process of this machine is still that one: it was there before it announced itself."""
    try:
        process = psutil.Process(pid)
        there = process.create_time() <= started_at.timestamp() + 1
        return bool(there and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def list_processes(connection: psycopg.AsyncConnection[Any]) -> list[ProcessRow]:
    """All processes that ever said they were there and did not take leave."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_LIST)
        return [ProcessRow.from_row(row) for row in await cursor.fetchall()]


def forget_lost(connection: psycopg.Connection[Any], older_than: timedelta = FORGET_AFTER) -> int:
    """Remove processes that have not been heard of for long; returns how many."""
    return connection.execute(_FORGET, [older_than]).rowcount
