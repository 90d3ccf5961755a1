"""A running API on a real log, its projector beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from command_bus.context import Caller
from command_bus.ids import new_id
from command_bus.intents.api_keys import CreateApiKey
from domain.roles import Role
from tests.rest.harness import Api, Fleet, composed


@asynccontextmanager
async def administered(url: str, **more: Any) -> AsyncIterator[Api]:
    """The API on this database behind a real server, with an administrator's key."""
    async with composed(url, **more) as api:
        done = await api.bus.dispatch(
            CreateApiKey(name="administration", role=Role.ADMIN, unattended=True),
            Caller(actor="system", correlation_id=new_id()),
        )
        api.admin_key = str(done.answer["key"])
        yield api


@pytest.fixture
async def api(postgres_url: str) -> AsyncIterator[Api]:
    """The API behind a real server."""
    async with administered(postgres_url) as api:
        yield api


@pytest.fixture
async def fleet(api: Api) -> Fleet:
    """A client named Acme with one site."""
    return await Fleet.make(api, api.client(), "Acme")
