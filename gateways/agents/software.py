"""What is installed on machines: each list once, under its hash, beside the log.

An event names a list, and one that is named is there: it is stored first. So the tables of a projection need no more
than the hash, machines that are alike share a list, and which machines have something of a name is asked of the lists.
"""

import asyncio
from datetime import timedelta
from typing import LiteralString

from command_bus.context import Clock, NewId
from command_bus.event_log import ConflictError, EventLog
from command_bus.postgres import AsyncPool
from domain.errors import DomainError, InvalidValueError
from domain.event import Change, Metadata, Recorded
from domain.ids import AgentId, ClientId
from domain.software import AgentSoftwareReported, reported, software_stream
from projections.pages import Connection
from schema.software import BadSoftwareError, SoftwareList, digest, pack, unpack, versions

REST = timedelta(seconds=60)
"""An agent's list counts at most so often: whatever installs something does a few things one after the other."""
MAX_TRIES = 5

# What was the present list until now is named for the last time, too: it is kept for a while from then on.
_KEEP: LiteralString = """
    INSERT INTO fleetlog.software_lists (sha256, packed, names) VALUES (%s, %s, %s)
    ON CONFLICT (sha256) DO UPDATE SET named_at = now()
"""
_STILL: LiteralString = "UPDATE fleetlog.software_lists SET named_at = now() WHERE sha256 = %s"
_READ: LiteralString = "SELECT packed FROM fleetlog.software_lists WHERE sha256 = %s"
_PURGE: LiteralString = """
    DELETE FROM fleetlog.software_lists WHERE named_at < now() - %s AND NOT EXISTS (
        SELECT FROM read.agents WHERE software <> '' AND software = sha256
    )
"""


class SoftwareTooSoonError(DomainError):
    """This agent told another list just now; tell it again in a minute."""

    code = "software_too_soon"
    status = 429


class SoftwareBusyError(DomainError):
    """Others kept changing the same story; report it again in a moment."""

    code = "busy_stream"
    status = 503


class SoftwareNotKeptError(DomainError):
    """The list of then is kept no longer; what changed since is in the agent's timeline."""

    code = "software_not_kept"
    status = 410


class SoftwareReports:
    """Records what agents tell to be installed.

    Args:
        log: the event log.
        pool: to the database.
        clock: now.
        new_id: for correlation.
    """

    def __init__(self, log: EventLog, pool: AsyncPool, clock: Clock, new_id: NewId) -> None:
        self._log = log
        self._pool = pool
        self._clock = clock
        self._new_id = new_id

    async def reported(self, agent_id: AgentId, client_id: ClientId, packed: bytes) -> bool:
        """Record a list that differs from the last one; returns whether it did.

        Args:
            agent_id: whose machine.
            client_id: its tenant.
            packed: a `SoftwareList` as `schema.software.pack` makes it.

        Raises:
            InvalidValueError: it is no such list.
            SoftwareTooSoonError: the last one that differed was just now.
            SoftwareBusyError: it is to be said again.
        """
        try:
            # Some milliseconds for a long one.
            told = await asyncio.to_thread(unpack, packed)
        except BadSoftwareError as error:
            raise InvalidValueError(str(error)) from error
        sha256 = digest(told)
        stream_id = software_stream(agent_id)
        for _ in range(MAX_TRIES):
            head = (await self._log.read_heads([stream_id], tolerant=True)).get(stream_id)
            last = head.event if head is not None and isinstance(head.event, AgentSoftwareReported) else None
            if last is not None and last.sha256 == sha256:
                return False
            if head is not None and self._clock() - head.recorded_at < REST:
                raise SoftwareTooSoonError
            before = await self._keep(sha256, told, last)
            offered = [one for one in told.packages if one.update] if told.updates_known else None
            event = reported(
                sha256,
                versions(told),
                versions(before) if before is not None else None,
                len(offered) if offered is not None else None,
                sum(one.security for one in offered) if offered is not None else None,
            )
            metadata = Metadata(actor=f"agent:{agent_id}", correlation_id=self._new_id())
            try:
                await self._log.append([_change(agent_id, client_id, head, event)], metadata)
            except ConflictError:
                continue
            return True
        raise SoftwareBusyError

    async def _keep(self, sha256: str, told: SoftwareList, last: AgentSoftwareReported | None) -> SoftwareList | None:
        """Store a list; returns the one before, if it is kept."""
        names = sorted({one.name.casefold() for one in told.packages if one.version or not one.update})
        async with self._pool.connection() as connection:
            await connection.execute(_KEEP, (sha256, pack(told), names))
            if last is None:
                return None
            await connection.execute(_STILL, (last.sha256,))
            return await _read(connection, last.sha256)


async def read_software(connection: Connection, sha256: str) -> SoftwareList:
    """A list by its hash.

    Raises:
        SoftwareNotKeptError: it is kept no longer.
    """
    found = await _read(connection, sha256)
    if found is None:
        raise SoftwareNotKeptError
    return found


async def purge_software(pool: AsyncPool, age: timedelta) -> int:
    """Delete lists that no machine has any more and none had for so long; returns how many."""
    async with pool.connection() as connection:
        return (await connection.execute(_PURGE, (age,))).rowcount


async def _read(connection: Connection, sha256: str) -> SoftwareList | None:
    row = await (await connection.execute(_READ, (sha256,))).fetchone()
    return None if row is None else unpack(bytes(row[0]))


def _change(agent_id: AgentId, client_id: ClientId, head: Recorded | None, event: AgentSoftwareReported) -> Change:
    version = head.originator_version + 1 if head is not None else 1
    return Change(software_stream(agent_id), version, event, agent_id, client_id)
