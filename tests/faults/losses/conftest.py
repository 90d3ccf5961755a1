"""One platform for the whole folder; each test has a fleet of its own on it, and leaves it whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.losses.harness import WholePlatform

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.serial)  # five thousand agents and a platform are enough for a machine
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def whole() -> Iterator[WholePlatform]:
    with WholePlatform() as platform:
        yield platform


@pytest.fixture
def platform(whole: WholePlatform) -> WholePlatform:
    """A running platform."""
    whole.bring_up()
    return whole
