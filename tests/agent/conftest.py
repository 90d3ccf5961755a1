"""A scripted gateway and an agent process that belong to one test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.platforms import PLATFORM
from tests.agent.scripted import AgentProcess, ScriptedGateway


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may pass through, as they may through /var/lib; pytest's own may not be."""
    folder = Path(tempfile.mkdtemp(prefix="fleetlog-agent-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(PLATFORM.scripts_dir(folder / "state"), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def gateway(nats_url: str, place: Path) -> AsyncIterator[ScriptedGateway]:
    async with ScriptedGateway(nats_url, place / "state") as scripted:
        yield scripted


@pytest.fixture
def agent(gateway: ScriptedGateway) -> Iterator[AgentProcess]:
    """The gateway's agent, not started yet."""
    process = AgentProcess(gateway.state_dir)
    yield process
    process.clean_up()
