"""Removes whole outputs that no result has named for long, or that are too much in all; oldest first, page by page.

What an output is named by stays: the event with its size, its hash and its end. The row of the output says from then on
when it was removed, and why. Should the same bytes come again, they are kept again.

Each sweep is one event (`OutputsRemoved`). Until it is recorded, what the sweep has removed is summed up in a row that
each page's transaction writes: so a worker that is killed has removed nothing without a trace, and a later one says it.
"""

import contextlib
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from command_bus.context import NewId
from command_bus.event_log import ConflictError, EventLog
from command_bus.ids import new_id as fresh_id
from command_bus.postgres import AsyncPool
from domain.event import Metadata
from domain.retention import OutputsRemoved, RetentionPolicy, Sweep

PAGE = 500
"""Outputs of one transaction: no reader or writer waits for long, and a run that is cut has lost a page."""

# A row that is being named just now is locked by that, and passed over.
_REMOVE: LiteralString = """
    WITH due AS (
        SELECT sha256 FROM fleetlog.outputs WHERE removed_at IS NULL AND named_at < {border}
        ORDER BY named_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), marked AS (
        UPDATE fleetlog.outputs AS o SET removed_at = now(), removed_for = %(policy)s
        FROM due WHERE o.sha256 = due.sha256 RETURNING o.sha256, o.size, o.named_at
    ), gone AS (
        DELETE FROM fleetlog.output_chunks AS c USING marked WHERE c.sha256 = marked.sha256
    ), noted AS (
        INSERT INTO fleetlog.output_sweeps AS s (sweep_id, policy, kept, outputs, bytes, named_from, named_to)
        SELECT %(sweep_id)s, %(policy)s, %(kept)s, count(*), sum(size), min(named_at), max(named_at) FROM marked
        HAVING count(*) > 0
        ON CONFLICT (sweep_id) DO UPDATE SET outputs = s.outputs + excluded.outputs, bytes = s.bytes + excluded.bytes,
            named_from = least(s.named_from, excluded.named_from), named_to = greatest(s.named_to, excluded.named_to),
            touched_at = now()
    )
    SELECT count(*), coalesce(sum(size), 0)::bigint FROM marked
"""
_OLD: LiteralString = _REMOVE.replace("{border}", "now() - %(age)s::interval")
_LARGE: LiteralString = _REMOVE.replace("{border}", "%(border)s")
# Back from the newest: where the sum goes past what may be kept. By the index alone.
_BORDER: LiteralString = """
    SELECT named_at FROM (
        SELECT named_at, sum(size) OVER (ORDER BY named_at DESC) AS kept FROM fleetlog.outputs WHERE removed_at IS NULL
    ) AS summed WHERE kept > %s ORDER BY named_at DESC LIMIT 1
"""


# A sweep that nobody has touched for so long is nobody's: its worker was cut, or died.
_UNTOLD: LiteralString = """
    SELECT sweep_id, policy, kept, outputs, bytes, named_from, named_to FROM fleetlog.output_sweeps
    WHERE sweep_id = %(sweep_id)s OR touched_at < now() - %(dead_after)s::interval
"""
DEAD_AFTER = timedelta(hours=1)
"""Longer than any job may take."""


class Removed(msgspec.Struct, frozen=True):
    """What a run removed."""

    outputs: int = 0
    bytes: int = 0


async def remove_old(pool: AsyncPool, log: EventLog, age: timedelta, new_id: NewId = fresh_id) -> Removed:
    """Remove outputs that no result has named for so long, and record it."""
    kept = {"policy": RetentionPolicy.AGE, "kept": round(age.total_seconds())}
    return await _sweep(pool, log, _OLD, kept | {"age": age}, new_id())


async def remove_beyond(pool: AsyncPool, log: EventLog, most_bytes: int, new_id: NewId = fresh_id) -> Removed:
    """Remove outputs, those named longest ago first, until what is left has no more than so many bytes (raw)."""
    async with pool.connection() as connection:
        row = await (await connection.execute(_BORDER, [most_bytes])).fetchone()
    if row is None:
        return Removed()
    # What was named at that very moment is too much already.
    border = row[0] + timedelta(microseconds=1)
    kept = {"policy": RetentionPolicy.SIZE, "kept": most_bytes}
    return await _sweep(pool, log, _LARGE, kept | {"border": border}, new_id())


async def _sweep(
    pool: AsyncPool, log: EventLog, statement: LiteralString, arguments: dict[str, object], sweep_id: UUID
) -> Removed:
    removed = Removed()
    while True:
        async with pool.connection() as connection:
            values = arguments | {"limit": PAGE, "sweep_id": sweep_id}
            row = await (await connection.execute(statement, values)).fetchone()
        count, size = row or (0, 0)
        if not count:
            break
        removed = Removed(removed.outputs + count, removed.bytes + size)
    await _tell(pool, log, sweep_id)
    return removed


async def _tell(pool: AsyncPool, log: EventLog, sweep_id: UUID) -> None:
    """Record a sweep that is over, and those that others began and did not live to tell of."""
    async with pool.connection() as connection:
        untold = await (await connection.execute(_UNTOLD, {"sweep_id": sweep_id, "dead_after": DEAD_AFTER})).fetchall()
    for row in untold:
        # It may be on record already, by one that died before it could strike the row out.
        with contextlib.suppress(ConflictError):
            await log.append(Sweep(row[0]).record(_removed(*row[1:])), Metadata(actor="system", correlation_id=row[0]))
        async with pool.connection() as connection:
            await connection.execute("DELETE FROM fleetlog.output_sweeps WHERE sweep_id = %s", [row[0]])


def _removed(
    policy: str, kept: int, outputs: int, size: int, named_from: datetime, named_to: datetime
) -> OutputsRemoved:
    by_age = policy == RetentionPolicy.AGE
    bounds: dict[str, Any] = {"kept_s" if by_age else "kept_bytes": kept}
    return OutputsRemoved(
        policy=RetentionPolicy(policy), outputs=outputs, bytes=size, named_from=named_from, named_to=named_to, **bounds
    )
