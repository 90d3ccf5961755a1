"""A log with the history of a small fleet, a gap in its positions, and the chain over it."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from command_bus.postgres_log import PostgresEventLog
from domain.event import Recorded
from gateways.bench.history import FleetHistory
from projections.catalog import INLINE
from tests.archive.conftest import all_of
from tests.event_log.samples import metadata

EVENTS = 1_500


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[PostgresEventLog]:
    log = PostgresEventLog(postgres_url, inline=INLINE, name="tests", timeout_s=20)
    await log.start()
    yield log
    await log.stop()


@pytest.fixture
async def events(log: PostgresEventLog, postgres_url: str) -> list[Recorded]:
    """The log's events; after the seven hundredth a position that none took, as a transaction leaves that failed."""
    changes = FleetHistory(20).changes(EVENTS)
    await log.append_bulk([next(changes) for _ in range(700)], metadata())
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute("SELECT nextval('fleetlog.events_notification_id_seq')")
    await log.append_bulk(changes, metadata())
    return await all_of(log)
