"""A fleet for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from projections.tables import create_tables
from tests.gateway.harness import Fleet, open_fleet


@pytest.fixture
async def fleet(postgres_url: str, data_dir: Path) -> AsyncIterator[Fleet]:
    await create_tables(postgres_url)
    async with open_fleet(postgres_url, data_dir) as fleet:
        yield fleet
