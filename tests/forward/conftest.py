"""A log, and what is forwarded from it."""

from collections.abc import AsyncIterator

import pytest

from tests.forward.receivers import Place, place


@pytest.fixture
async def here(postgres_url: str) -> AsyncIterator[Place]:
    async with place(postgres_url) as made:
        yield made
