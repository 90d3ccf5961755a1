"""A started log for each test."""

from collections.abc import AsyncIterator

import pytest

from command_bus.postgres_log import PostgresEventLog


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[PostgresEventLog]:
    log = PostgresEventLog(postgres_url, name="tests", timeout_s=20)
    await log.start()
    yield log
    await log.stop()
