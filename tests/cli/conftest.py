"""What the tests of the command line share."""

from collections.abc import Iterator

import pytest
import structlog.testing

from projections.catalog import names
from tests.cli.scripted import Server
from tests.cli.terminal import Terminal
from tests.rest.conftest import api, fleet  # noqa: F401 - fixtures
from tests.rest.harness import Api

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def _quiet_api() -> Iterator[None]:
    """The API shares this process, and its log would mix with what the command line prints."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def terminal(api: Api) -> Terminal:  # noqa: F811 - the fixture
    async def settle() -> None:
        """Return once every list shows all that is in the log."""
        await api.waiter.wait(await api.log.head(), names(), PATIENCE_S)

    return Terminal(api.url, api.admin_key, settle)
