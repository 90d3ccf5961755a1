"""One platform for the whole folder: each test leaves it as it may be found after a fault, and the next starts it."""

from collections.abc import Iterator

import pytest

from tests.conftest import Servers
from tests.topology.harness import Machine, Platform


@pytest.fixture(scope="session")
def whole(servers: Servers) -> Iterator[Platform]:
    with servers() as settings, Platform(settings) as platform:
        yield platform


@pytest.fixture
def platform(whole: Platform) -> Platform:
    """A running platform."""
    whole.bring_up()
    return whole


@pytest.fixture
def off(platform: Platform) -> Machine:
    """A machine that is switched off."""
    machine = platform.machine("off")
    if machine.process is not None:
        machine.kill()
    return machine


@pytest.fixture
def machines(platform: Platform) -> list[Machine]:
    """Two machines that are online."""
    found = [platform.machine(name) for name in ("one", "two")]
    for machine in found:
        if machine.process is None or machine.process.poll() is not None:
            machine.start(wait=False)
    for machine in found:
        platform.until(lambda machine=machine: machine.online, f"{machine.name} to connect")
    return found
