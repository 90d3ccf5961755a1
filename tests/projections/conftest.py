"""A projector that runs, and what reads its tables."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from command_bus.postgres import app_conninfo
from projections.runner import Projector
from projections.wait import PositionWaiter


@pytest.fixture
def conninfo(postgres_url: str) -> str:
    return app_conninfo(postgres_url)


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The administrator of the server, who may do what the application may not."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def projector(conninfo: str) -> AsyncIterator[Projector]:
    projector = Projector(conninfo)
    await projector.start()
    yield projector
    await projector.stop()
    assert projector.failure is None


@pytest.fixture
async def waiter(conninfo: str) -> AsyncIterator[PositionWaiter]:
    waiter = PositionWaiter(conninfo)
    await waiter.start()
    yield waiter
    await waiter.stop()


@pytest.fixture
async def reader(conninfo: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """As a gateway reads."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        yield connection
