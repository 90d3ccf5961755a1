"""How long is kept what need not be kept for ever: as it is set on record, and else as the process is set."""

from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from domain.codec import decode
from domain.retention import RETENTION_STREAM, Kept, RetentionSet
from gateways.settings import Settings

# It is never archived, since it never ends; so the table has it.
_LAST = """
    SELECT topic, state, originator_version FROM fleetlog.events
    WHERE originator_id = %s AND notification_id <= coalesce(%s, notification_id)
    ORDER BY originator_version DESC LIMIT 1
"""


class Retention(msgspec.Struct, frozen=True):
    """What holds; None is for ever."""

    archive_after_days: int | None = None
    output_keep_days: int | None = None
    output_keep_bytes: int | None = None
    version: int = 0
    """Of what is on record; 0 where the settings of the process hold."""

    @classmethod
    def of(cls, kept: Kept, version: int = 0) -> "Retention":
        return cls(kept.archive_after_days, kept.output_keep_days, kept.output_keep_bytes, version)


def as_set(settings: Settings) -> Retention:
    """What the settings of this process say."""
    return Retention(settings.archive_after_days, settings.output_keep_days, settings.output_keep_bytes)


async def retention_now(
    connection: psycopg.AsyncConnection[Any], otherwise: Retention, at: int | None = None
) -> Retention:
    """What holds now, or held as of a position.

    Args:
        connection: to the database.
        otherwise: holds where nothing is on record; what processes were set to earlier nobody knows.
        at: that position.
    """
    async with connection.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(_LAST, [RETENTION_STREAM, at])).fetchone()
    if row is None:
        return otherwise
    event = decode(row[0], bytes(row[1]))
    assert isinstance(event, RetentionSet)  # noqa: S101 -- its stream holds nothing else
    return Retention.of(event.kept, row[2])
