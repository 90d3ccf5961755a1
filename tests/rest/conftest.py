"""A running API on a real log, its projector beside it."""

from collections.abc import AsyncIterator

import pytest

from command_bus.context import Caller
from command_bus.ids import new_id
from command_bus.intents.api_keys import CreateApiKey
from domain.api_keys import Role
from tests.rest.harness import Api, Fleet, composed


@pytest.fixture
async def api(postgres_url: str) -> AsyncIterator[Api]:
    """The API behind a real server."""
    async with composed(postgres_url) as api:
        done = await api.bus.dispatch(
            CreateApiKey(name="admin", role=Role.ADMIN), Caller(actor="system", correlation_id=new_id())
        )
        api.admin_key = str(done.answer["key"])
        yield api


@pytest.fixture
async def fleet(api: Api) -> Fleet:
    """A client named Acme with one site."""
    return await Fleet.make(api, api.client(), "Acme")
