"""When agents were last heard of: telemetry that the gateways keep beside the log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from gateways.rest.route import Call


async def last_seen(
    call: Call, connection: psycopg.AsyncConnection[Any], agent_ids: Sequence[UUID]
) -> dict[UUID, datetime]:
    """The last sign of life of each of some agents; one that was never heard of is absent.

    It is kept for now alone: as of an earlier position nothing is known of it.
    """
    if call.at is not None:
        return {}
    cursor = await connection.execute(
        "SELECT agent_id, last_seen_at FROM fleetlog.presence WHERE agent_id = ANY(%s::uuid[])", (list(agent_ids),)
    )
    return dict(await cursor.fetchall())
