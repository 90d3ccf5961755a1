"""What the tests of the command line share."""

from collections.abc import Iterator

import pytest
import structlog.testing

from tests.cli.scripted import Server
from tests.cli.terminal import Terminal
from tests.rest.conftest import api, fleet  # noqa: F401 - fixtures
from tests.rest.harness import Api


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
    http = api.client(check=False)

    async def settle() -> None:
        """Return once every list shows all that is in the log."""
        seen = {"Fleetlog-Wait-Position": str(await api.log.head())}
        for path in ("/clients", "/agents", "/scripts", "/commands", "/rollouts", "/enrollment-tokens", "/api-keys"):
            (await http.get(path, headers=seen)).raise_for_status()

    return Terminal(api.url, api.admin_key, settle)
