"""What is installed on machines: each list once, under its hash, beside the log.

An event names a list, and one that is named is there: it is stored first. So the tables of a projection need no more
than the hash, machines that are alike share a list, and which machines have something of a name is asked of the lists.
"""

import asyncio
from datetime import timedelta
from typing import LiteralString

import msgspec

from command_bus.context import Clock, NewId
from command_bus.event_log import ConflictError, EventLog
from command_bus.postgres import AsyncPool
from domain.errors import DomainError, InvalidValueError
from domain.event import Change, Metadata, Recorded
from domain.ids import AgentId, ClientId
from domain.software import AgentSoftwareReported, reported, software_stream
from projections.catalog import list_status
from projections.pages import Connection
from schema.software import BadSoftwareError, SoftwareList, digest, pack, read, unpack, versions

REST = timedelta(seconds=60)
"""An agent's list counts at most so often: whatever installs something does a few things one after the other."""
MAX_TRIES = 5
MOST_BEHIND = 10_000
"""Events. What was named since is kept for its age, a day at the least."""

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
            told = await asyncio.to_thread(_understood, packed)
        except BadSoftwareError as error:
            raise InvalidValueError(str(error)) from error
        stream_id = software_stream(agent_id)
        for _ in range(MAX_TRIES):
            head = (await self._log.read_heads([stream_id], tolerant=True)).get(stream_id)
            last = head.event if head is not None and isinstance(head.event, AgentSoftwareReported) else None
            same = last is not None and last.sha256 == told.sha256
            if not same and head is not None and self._clock() - head.recorded_at < REST:
                raise SoftwareTooSoonError
            # One that is on record may have been lost; here it is again.
            before = await self._keep(told, last)
            if same:
                return False
            event = reported(
                told.sha256,
                told.versions,
                await asyncio.to_thread(_versions, before) if before is not None else None,
                told.updates,
                told.security_updates,
            )
            metadata = Metadata(actor=f"agent:{agent_id}", correlation_id=self._new_id())
            try:
                await self._log.append([_change(agent_id, client_id, head, event)], metadata)
            except ConflictError:
                continue
            return True
        raise SoftwareBusyError

    async def _keep(self, told: "_Understood", last: AgentSoftwareReported | None) -> bytes | None:
        """Store a list; returns the one before, packed, if it is kept."""
        async with self._pool.connection() as connection:
            await connection.execute(_KEEP, (told.sha256, told.packed, told.names))
            if last is None:
                return None
            await connection.execute(_STILL, (last.sha256,))
            return await _read(connection, last.sha256)


class _Understood(msgspec.Struct, frozen=True):
    """All that is to be known of a list; a long one takes half a second, so nobody's loop is to wait for it."""

    sha256: str
    packed: bytes
    names: list[str]
    """Of what is installed, casefolded."""
    versions: dict[str, str]
    updates: int | None
    security_updates: int | None


def _understood(packed: bytes) -> _Understood:
    told = unpack(packed)
    offered = [one for one in told.packages if one.update]
    return _Understood(
        sha256=digest(told),
        packed=pack(told),
        names=sorted({one.name.casefold() for one in told.packages if one.version or not one.update}),
        versions=versions(told),
        updates=len(offered) if told.updates_known else None,
        security_updates=sum(one.security for one in offered) if told.updates_known else None,
    )


def _versions(packed: bytes) -> dict[str, str]:
    return versions(read(packed))


async def read_software(connection: Connection, sha256: str) -> SoftwareList:
    """A list by its hash.

    Raises:
        SoftwareNotKeptError: it is kept no longer.
    """
    found = await _read(connection, sha256)
    if found is None:
        raise SoftwareNotKeptError
    return await asyncio.to_thread(read, found)


async def purge_software(pool: AsyncPool, age: timedelta) -> int:
    """Delete lists that no machine has any more and none had for so long; returns how many.

    Which machine has which is told by the read model: while that stands still, or catches up, nothing is deleted.
    """
    async with pool.connection() as connection:
        (agents,) = [one for one in await list_status(connection) if one.name == "agents"]
        if agents.status != "running" or agents.lag > MOST_BEHIND:
            return 0
        return (await connection.execute(_PURGE, (age,))).rowcount


async def _read(connection: Connection, sha256: str) -> bytes | None:
    row = await (await connection.execute(_READ, (sha256,))).fetchone()
    return None if row is None else bytes(row[0])


def _change(agent_id: AgentId, client_id: ClientId, head: Recorded | None, event: AgentSoftwareReported) -> Change:
    version = head.originator_version + 1 if head is not None else 1
    return Change(software_stream(agent_id), version, event, agent_id, client_id)
