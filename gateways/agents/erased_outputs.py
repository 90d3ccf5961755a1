"""What the commands of an erased agent printed goes with it: whole outputs, but for those that others printed, too.

They are beside the log, under their hashes, whoever printed them. So a job looks for them after the erasure, and the
log says when that is done (`OutputsErased`). Killed anywhere, it begins again, and what is gone is not told twice.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import LiteralString
from uuid import UUID

from command_bus.context import NewId
from command_bus.event_log import ConflictError, EventLog, Selection
from command_bus.ids import new_id as fresh_id
from command_bus.postgres import AsyncPool
from domain.erasures import ErasedOutputs, SubjectErased
from domain.event import Metadata, Recorded
from domain.output_reads import RESULTS, result_of
from domain.personal import SubjectKind
from projections.catalog import list_status
from projections.commands import Commands, outputs_of_others

PAGE = 500
_TYPES = tuple(kind.__name__ for kind in RESULTS)

_REMOVE: LiteralString = """
    WITH due AS (
        SELECT sha256 FROM fleetlog.outputs WHERE sha256 = ANY(%s::bytea[]) AND removed_at IS NULL
        ORDER BY sha256 FOR UPDATE
    ), marked AS (
        UPDATE fleetlog.outputs AS o SET removed_at = now(), removed_for = 'erasure'
        FROM due WHERE o.sha256 = due.sha256 RETURNING o.sha256, o.size
    ), gone AS (
        DELETE FROM fleetlog.output_chunks AS c USING marked WHERE c.sha256 = marked.sha256
    )
    SELECT count(*), coalesce(sum(size), 0)::bigint FROM marked
"""


async def erase_outputs(pool: AsyncPool, log: EventLog, new_id: NewId = fresh_id) -> int:
    """Remove the outputs of agents that were erased and whose outputs are still there; returns how many outputs."""
    removed = 0
    async for erased in _left(log):
        async with pool.connection() as connection:
            (known,) = [one for one in await list_status(connection) if one.name == Commands.name]
        if known.position < erased.position:
            return removed  # it does not know yet what others printed: the next run finds this one again
        removed += await _erase(pool, log, erased, new_id)
    return removed


async def _left(log: EventLog) -> AsyncIterator[Recorded]:
    """Erasures of agents that are not done with, oldest first."""
    after = 0
    while page := await log.read(Selection(types=(SubjectErased.__name__,)), after=after):
        after = page[-1].position
        agents = {
            ErasedOutputs.of(one.event.subject): one
            for one in page
            if isinstance(one.event, SubjectErased) and one.event.kind is SubjectKind.AGENT
        }
        done = await log.read_heads(list(agents))
        for stream_id, one in agents.items():
            if stream_id not in done:
                yield one


async def _erase(pool: AsyncPool, log: EventLog, erased: Recorded, new_id: NewId) -> int:
    assert isinstance(erased.event, SubjectErased)  # noqa: S101 -- that is what was asked for
    agent_id = erased.event.subject
    own = sorted(await _named(log, agent_id))
    outputs = size = 0
    for first in range(0, len(own), PAGE):
        page = own[first : first + PAGE]
        async with pool.connection() as connection:
            theirs = await outputs_of_others(connection, agent_id, page)
            digests = [bytes.fromhex(one) for one in page if one not in theirs]
            row = await (await connection.execute(_REMOVE, [digests])).fetchone()
        outputs, size = (outputs + row[0], size + row[1]) if row is not None else (outputs, size)
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM fleetlog.output_uploads WHERE agent_id = %s", [agent_id])
    story = ErasedOutputs(ErasedOutputs.of(agent_id))
    story.agent_id, story.client_id = agent_id, erased.client_id
    metadata = Metadata(actor="system", correlation_id=new_id(), causation_id=erased.originator_id)
    with contextlib.suppress(ConflictError):  # another worker was there first
        await log.append([story.record(outputs, size)], metadata)
    return outputs


async def _named(log: EventLog, agent_id: UUID) -> set[str]:
    """The hashes, in hex, of what its commands printed, in any attempt."""
    found: set[str] = set()
    after = 0
    while page := await log.read(Selection(agent_id=agent_id, types=_TYPES), after=after, tolerant=True):
        after = page[-1].position
        results = [result for one in page if (result := result_of(one.event)) is not None]
        found.update(stream.sha256 for result in results for stream in (result.stdout, result.stderr))
    return found - {""}
