"""A log with the history of a small fleet, and what it holds as read before anything of it was archived."""

from collections.abc import AsyncIterator

import pytest

from command_bus.event_log import Selection
from command_bus.postgres_log import PostgresEventLog
from domain.event import Recorded
from domain.host_acts import SegmentArchived
from gateways.bench.history import FleetHistory
from projections.catalog import INLINE
from tests.event_log.samples import metadata

EVENTS = 1_500


async def all_of(log: PostgresEventLog, selection: Selection | None = None, *, limit: int = 400) -> list[Recorded]:
    """Everything, page by page, but what archive runs say of themselves."""
    found: list[Recorded] = []
    while page := await log.read(selection or Selection(), after=found[-1].position if found else 0, limit=limit):
        found += page
    return [one for one in found if not isinstance(one.event, SegmentArchived)]


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[PostgresEventLog]:
    log = PostgresEventLog(postgres_url, inline=INLINE, name="tests", timeout_s=20)
    await log.start()
    yield log
    await log.stop()


@pytest.fixture
def history() -> FleetHistory:
    return FleetHistory(20)


@pytest.fixture
async def before(log: PostgresEventLog, history: FleetHistory) -> list[Recorded]:
    """The log's events; some hundred commands have ended."""
    await log.append_bulk(history.changes(EVENTS), metadata())
    return await all_of(log)
