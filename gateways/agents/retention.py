"""Removes whole outputs that no result has named for long, or that are too much in all; oldest first, page by page.

What an output is named by stays: the event with its size, its hash and its end. The row of the output says from then on
when it was removed, and why. Should the same bytes come again, they are kept again.
"""

from datetime import timedelta
from typing import LiteralString

import msgspec
from psycopg_pool import AsyncConnectionPool

PAGE = 500
"""Outputs of one transaction: no reader or writer waits for long, and a run that is cut has lost a page."""

# A row that is being named just now is locked by that, and passed over.
_REMOVE: LiteralString = """
    WITH due AS (
        SELECT sha256 FROM fleetlog.outputs WHERE removed_at IS NULL AND named_at < {border}
        ORDER BY named_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), marked AS (
        UPDATE fleetlog.outputs AS o SET removed_at = now(), removed_for = %(why)s
        FROM due WHERE o.sha256 = due.sha256 RETURNING o.sha256, o.size
    ), gone AS (
        DELETE FROM fleetlog.output_chunks AS c USING marked WHERE c.sha256 = marked.sha256
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


class Removed(msgspec.Struct, frozen=True):
    """What a run removed."""

    outputs: int = 0
    bytes: int = 0


async def remove_old(pool: AsyncConnectionPool, age: timedelta) -> Removed:
    """Remove outputs that no result has named for so long."""
    return await _all_pages(pool, _OLD, {"age": age, "why": "age"})


async def remove_beyond(pool: AsyncConnectionPool, most_bytes: int) -> Removed:
    """Remove outputs, those named longest ago first, until what is left has no more than so many bytes (raw)."""
    async with pool.connection() as connection:
        row = await (await connection.execute(_BORDER, [most_bytes])).fetchone()
    if row is None:
        return Removed()
    # What was named at that very moment is too much already.
    return await _all_pages(pool, _LARGE, {"border": row[0] + timedelta(microseconds=1), "why": "size"})


async def _all_pages(pool: AsyncConnectionPool, statement: LiteralString, arguments: dict[str, object]) -> Removed:
    removed = Removed()
    while True:
        async with pool.connection() as connection:
            row = await (await connection.execute(statement, arguments | {"limit": PAGE})).fetchone()
        count, size = row or (0, 0)
        if not count:
            return removed
        removed = Removed(removed.outputs + count, removed.bytes + size)
