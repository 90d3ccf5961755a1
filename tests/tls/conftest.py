"""A certificate authority as `fleetlog up` makes one, in a folder of the test's own."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateways.local.authority import Authority

HOSTS = ("127.0.0.1", "localhost")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "data")
    assert made.see_to(HOSTS, datetime.now(UTC))
    return made
