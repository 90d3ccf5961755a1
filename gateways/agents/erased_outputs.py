"""What the commands of an erased agent printed goes with it: whole outputs, but for those that others printed, too.

They are beside the log, under their hashes, whoever printed them, so a job looks for them after the erasure. A result's
output is stored before the result's event, so one look cannot tell that nobody else names it. Hence two:

1. What no event up to the log's head names, but for those of erased agents, is marked as removed. Whoever stores the
   same bytes from then on takes the mark away, in the row that both lock, and has them kept.
2. Who stored them before has recorded the result by `SETTLED` later, or never will. Then the job looks again, up to the
   head as of then: what somebody else names is given back, and of what is marked still the data are deleted.

All that is left is in a table, and so is what is gone until the log says it (`OutputsErased`): killed anywhere, the job
goes on where it was.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from datetime import timedelta
from typing import LiteralString, TypeVar
from uuid import UUID

from psycopg import AsyncConnection

from command_bus.context import NewId
from command_bus.event_log import ConflictError, EventLog, Selection
from command_bus.ids import new_id as fresh_id
from command_bus.postgres import AsyncPool
from domain.commands import CommandCancelled, CommandInterrupted, CommandRequeued, LateResultRecorded
from domain.erasures import ErasedOutputs, SubjectErased
from domain.event import Metadata, Recorded
from domain.output_reads import RESULTS, result_of
from domain.personal import SubjectKind
from domain.strays import StrayResultRecorded
from projections.catalog import list_status
from projections.commands import Commands, outputs_of_others

T = TypeVar("T")

PAGE = 500
"""Outputs of one transaction."""
SETTLED = timedelta(hours=1)
"""Far longer than a gateway may take from storing an output to recording its result."""
WAIT_S = 30.0
"""How long the read model may take to come to the log's head; a later run tries again."""
_POLL_S = 0.2
_LOCK: LiteralString = "SELECT pg_try_advisory_lock(hashtextextended('fleetlog erased outputs', 0))"
_UNLOCK: LiteralString = "SELECT pg_advisory_unlock(hashtextextended('fleetlog erased outputs', 0))"
_TYPES = tuple(kind.__name__ for kind in RESULTS)
_PASSING = tuple(
    kind.__name__
    for kind in (CommandRequeued, CommandInterrupted, CommandCancelled, LateResultRecorded, StrayResultRecorded)
)
"""The read model has the result that a command came to. What these hold may be another attempt's, or no command's."""

_LIST: LiteralString = """
    INSERT INTO fleetlog.erasing_outputs (sha256, agent_id)
    SELECT sha256, %s::uuid FROM fleetlog.outputs WHERE sha256 = ANY(%s::bytea[]) AND removed_at IS NULL
    ORDER BY sha256
    ON CONFLICT (sha256) DO NOTHING
"""
_LISTED: LiteralString = """
    SELECT encode(sha256, 'hex'), marked_at, marked_at < now() - %s::interval
    FROM fleetlog.erasing_outputs ORDER BY sha256
"""
# Rows of outputs are locked in the order of their hashes, as by those who store them.
_MARK: LiteralString = """
    WITH due AS (
        SELECT sha256 FROM fleetlog.outputs WHERE sha256 = ANY(%s::bytea[]) AND removed_at IS NULL
        ORDER BY sha256 FOR UPDATE
    ), marked AS (
        UPDATE fleetlog.outputs AS o SET removed_at = now(), removed_for = 'erasure'
        FROM due WHERE o.sha256 = due.sha256 RETURNING o.sha256
    )
    UPDATE fleetlog.erasing_outputs AS e SET marked_at = now() FROM marked WHERE e.sha256 = marked.sha256
"""
# Those that retention was faster with.
_STRIKE_UNMARKED: LiteralString = """
    DELETE FROM fleetlog.erasing_outputs WHERE sha256 = ANY(%s::bytea[]) AND marked_at IS NULL
"""
_GIVE_BACK: LiteralString = """
    WITH due AS (
        SELECT o.sha256, o.size, e.agent_id FROM fleetlog.outputs AS o JOIN fleetlog.erasing_outputs AS e USING (sha256)
        WHERE o.sha256 = ANY(%s::bytea[]) AND o.removed_for = 'erasure' AND o.removed_at = e.marked_at
        ORDER BY o.sha256 FOR UPDATE OF o
    )
    UPDATE fleetlog.outputs AS o SET removed_at = NULL, removed_for = NULL FROM due WHERE o.sha256 = due.sha256
"""
_STRIKE: LiteralString = "DELETE FROM fleetlog.erasing_outputs WHERE sha256 = ANY(%s::bytea[])"
_REMOVE: LiteralString = """
    WITH due AS (
        SELECT o.sha256, o.size, e.agent_id FROM fleetlog.outputs AS o JOIN fleetlog.erasing_outputs AS e USING (sha256)
        WHERE o.sha256 = ANY(%s::bytea[]) AND o.removed_for = 'erasure' AND o.removed_at = e.marked_at
        ORDER BY o.sha256 FOR UPDATE OF o
    ), gone AS (
        DELETE FROM fleetlog.output_chunks AS c USING due WHERE c.sha256 = due.sha256
    ), struck AS (
        DELETE FROM fleetlog.erasing_outputs AS e USING due WHERE e.sha256 = due.sha256
    ), noted AS (
        INSERT INTO fleetlog.output_erasures AS s (agent_id, outputs, bytes)
        SELECT agent_id, count(*), sum(size) FROM due GROUP BY agent_id
        ON CONFLICT (agent_id) DO UPDATE SET outputs = s.outputs + excluded.outputs, bytes = s.bytes + excluded.bytes
    )
    SELECT count(*) FROM due
"""
# Those that somebody stored again: looked at anew, and marked anew if no event came of it.
_UNMARK: LiteralString = "UPDATE fleetlog.erasing_outputs SET marked_at = NULL WHERE sha256 = ANY(%s::bytea[])"
_SUMS: LiteralString = """
    SELECT coalesce(max(outputs), 0), coalesce(max(bytes), 0) FROM fleetlog.output_erasures WHERE agent_id = %s
    HAVING NOT EXISTS (SELECT FROM fleetlog.erasing_outputs WHERE agent_id = %s)
"""


async def erase_outputs(pool: AsyncPool, log: EventLog, new_id: NewId = fresh_id) -> int:
    """Go on with the outputs of agents that were erased; returns how many outputs were deleted.

    One run at a time: what another worker's is at, this one leaves to it. The connection that holds the lock does all
    the work, so that a run that has lost the one does nothing any more.
    """
    async with pool.connection() as connection:
        row = await (await connection.execute(_LOCK)).fetchone()
        await connection.commit()
        if row != (True,):
            return 0
        try:
            return await _run(connection, log, new_id)
        finally:
            await connection.rollback()
            await connection.execute(_UNLOCK)


async def _run(connection: AsyncConnection, log: EventLog, new_id: NewId) -> int:
    head = await log.head()
    erased = {one.event.subject: one async for one in _erased(log, head) if isinstance(one.event, SubjectErased)}
    left = await _left(log, erased)
    if not left or not await _is_there(connection, head):
        return 0  # it is not known yet what others printed: the next run finds these again
    for agent_id in left:
        for page in _pages(sorted(await _named(log, agent_id))):
            async with connection.transaction():
                await connection.execute(_LIST, [agent_id, _digests(page)])
    async with connection.transaction():
        listed = await (await connection.execute(_LISTED, [SETTLED])).fetchall()
    theirs = await _of_others(connection, log, head, erased, {row[0] for row in listed})
    await _give_back(connection, [row[0] for row in listed if row[0] in theirs])
    removed = await _remove(connection, [row[0] for row in listed if row[0] not in theirs and row[2]])
    await _mark(connection, [row[0] for row in listed if row[0] not in theirs and row[1] is None])
    for one in left.values():
        await _tell(connection, log, one, new_id)
    return removed


async def _erased(log: EventLog, head: int) -> AsyncIterator[Recorded]:
    """Erasures of agents, oldest first. One that never was let in has no agent's stream, and printed nothing."""
    after = 0
    while page := await log.read(Selection(types=(SubjectErased.__name__,)), after=after, upto=head):
        after = page[-1].position
        for one in page:
            event = one.event
            if isinstance(event, SubjectErased) and event.kind is SubjectKind.AGENT:  # noqa: SIM102
                if one.originator_id == event.subject:
                    yield one


async def _left(log: EventLog, erased: dict[UUID, Recorded]) -> dict[UUID, Recorded]:
    """Those that are not done with."""
    left: dict[UUID, Recorded] = {}
    for page in _pages(list(erased)):
        done = await log.read_heads([ErasedOutputs.of(agent_id) for agent_id in page])
        left |= {agent_id: erased[agent_id] for agent_id in page if ErasedOutputs.of(agent_id) not in done}
    return left


async def _is_there(connection: AsyncConnection, head: int) -> bool:
    """Whether the read model of commands knows all up to a position, or does in a moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S):
            while True:
                async with connection.transaction():
                    (known,) = [one for one in await list_status(connection) if one.name == Commands.name]
                if known.position >= head:
                    return True
                await asyncio.sleep(_POLL_S)
    return False


async def _named(log: EventLog, agent_id: UUID) -> set[str]:
    """The hashes, in hex, of what its commands printed, in any attempt."""
    found: set[str] = set()
    after = 0
    while page := await log.read(Selection(agent_id=agent_id, types=_TYPES), after=after, tolerant=True):
        after = page[-1].position
        found.update(*map(_hashes, page))
    return found


async def _of_others(
    connection: AsyncConnection, log: EventLog, head: int, erased: Collection[UUID], listed: set[str]
) -> set[str]:
    """Which of these agents that were not erased name: one pass over the commands, one over what they do not hold.

    An event that cannot be read may name any of them, and ends the run.
    """
    if not listed:
        return set()
    async with connection.transaction():
        theirs = await outputs_of_others(connection, list(erased), list(listed))
    after = 0
    while page := await log.read(Selection(types=_PASSING), after=after, upto=head):
        after = page[-1].position
        theirs.update(*(_hashes(one) & listed for one in page if one.agent_id not in erased))
    return theirs


def _hashes(one: Recorded) -> set[str]:
    result = result_of(one.event)
    return {stream.sha256 for stream in (result.stdout, result.stderr)} - {""} if result is not None else set()


async def _give_back(connection: AsyncConnection, hashes: Sequence[str]) -> None:
    for page in map(_digests, _pages(hashes)):
        async with connection.transaction():
            await connection.execute(_GIVE_BACK, [page])
            await connection.execute(_STRIKE, [page])


async def _remove(connection: AsyncConnection, hashes: Sequence[str]) -> int:
    removed = 0
    for page in map(_digests, _pages(hashes)):
        async with connection.transaction():
            row = await (await connection.execute(_REMOVE, [page])).fetchone()
            await connection.execute(_UNMARK, [page])
        removed += row[0] if row is not None else 0
    return removed


async def _mark(connection: AsyncConnection, hashes: Sequence[str]) -> None:
    for page in map(_digests, _pages(hashes)):
        async with connection.transaction():
            await connection.execute(_MARK, [page])
            await connection.execute(_STRIKE_UNMARKED, [page])


async def _tell(connection: AsyncConnection, log: EventLog, erased: Recorded, new_id: NewId) -> None:
    """Record it of an agent of which nothing is left."""
    assert isinstance(erased.event, SubjectErased)  # noqa: S101 -- that is what was asked for
    agent_id = erased.event.subject
    async with connection.transaction():
        sums = await (await connection.execute(_SUMS, [agent_id, agent_id])).fetchone()
        if sums is None:
            return
        await connection.execute("DELETE FROM fleetlog.output_uploads WHERE agent_id = %s", [agent_id])
    story = ErasedOutputs(ErasedOutputs.of(agent_id))
    story.agent_id, story.client_id = agent_id, erased.client_id
    metadata = Metadata(actor="system", correlation_id=new_id(), causation_id=erased.originator_id)
    with contextlib.suppress(ConflictError):  # it is on record, by one that died before it could strike the row out
        await log.append([story.record(*sums)], metadata)
    async with connection.transaction():
        await connection.execute("DELETE FROM fleetlog.output_erasures WHERE agent_id = %s", [agent_id])


def _pages(all_of_them: Sequence[T]) -> Iterator[Sequence[T]]:
    return (all_of_them[first : first + PAGE] for first in range(0, len(all_of_them), PAGE))


def _digests(hashes: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(one) for one in hashes]
