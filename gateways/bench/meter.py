"""What the processes and the database of a running platform have used, in numbers that only grow."""

from collections.abc import Iterable
from typing import Any, LiteralString

import msgspec
import psutil
import psycopg

_ROLES = "SELECT role, pid FROM fleetlog.processes WHERE state = 'running'"
_WRITTEN: LiteralString = """
    SELECT (SELECT wal_bytes FROM pg_stat_wal)::bigint,
        (SELECT coalesce(sum(write_bytes + extend_bytes), 0) FROM pg_stat_io WHERE object <> 'wal')::bigint
"""
_STATEMENTS: LiteralString = """
    SELECT coalesce(sum(calls), 0)::bigint FROM public.pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Used(msgspec.Struct, frozen=True):
    """Readings of one moment."""

    cpu_s: dict[str, float]
    """Processor time by role or server."""
    statements: int
    """Run by Postgres; 0 where it does not count them."""
    wal_bytes: int
    data_bytes: int
    """Pages of tables and indexes that went to the system."""

    @property
    def cpu_all_s(self) -> float:
        return sum(self.cpu_s.values())


class Meter:
    """Reads them.

    Args:
        connection: to the platform's database, as an administrator, in autocommit mode.
        pid: of `fleetlog up`.
    """

    def __init__(self, connection: psycopg.Connection[Any], pid: int) -> None:
        self._connection = connection
        (backend,) = _one(connection, "SELECT pg_backend_pid()")
        self._postmaster = psutil.Process(psutil.Process(backend).ppid())
        roles = {role_pid: role for role, role_pid in connection.execute(_ROLES)}
        up = psutil.Process(pid)
        # Where `fleetlog up` runs its own Postgres, that is below it too, and counted as such.
        others = [one for one in up.children(recursive=True) if self._postmaster not in (one, *one.parents())]
        self._processes = [("up", up), *((roles.get(one.pid, one.name()), one) for one in others)]
        self._counts = self._counts_statements()

    def _counts_statements(self) -> bool:
        loaded = _one(self._connection, "SELECT current_setting('shared_preload_libraries')")
        if "pg_stat_statements" not in str(loaded[0]):
            return False
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements WITH SCHEMA public")
        return True

    def read(self) -> Used:
        """Take the readings."""
        cpu: dict[str, float] = {}
        for name, process in self._processes:
            cpu[name] = cpu.get(name, 0.0) + _seconds(process)
        cpu["postgres"] = self._postgres_s()
        self._connection.execute("SELECT pg_stat_force_next_flush()")
        wal_bytes, data_bytes = _one(self._connection, _WRITTEN)
        statements = _one(self._connection, _STATEMENTS)[0] if self._counts else 0
        return Used(cpu, statements, wal_bytes, data_bytes)

    def _postgres_s(self) -> float:
        """The server's own, that of its children, and that of children it has buried."""
        times = self._postmaster.cpu_times()
        buried = times.children_user + times.children_system
        return buried + _seconds(self._postmaster) + sum(map(_seconds, self._postmaster.children()))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # buried since it was listed, and counted with its parent from the next reading on
    return float(times.user + times.system)


def _one(connection: psycopg.Connection[Any], query: LiteralString) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    if row is None:
        raise LookupError(query)
    return tuple(row)


def between(before: Used, after: Used) -> Used:
    """What was used from one reading to another."""
    names: Iterable[str] = after.cpu_s
    return Used(
        {name: after.cpu_s[name] - before.cpu_s.get(name, 0.0) for name in names},
        after.statements - before.statements,
        after.wal_bytes - before.wal_bytes,
        after.data_bytes - before.data_bytes,
    )
