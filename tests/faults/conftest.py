"""One topology for all seeds of a process; each seed has agents and commands of its own."""

import json
import os
import time
from collections.abc import Iterator

import pytest

from command_bus.postgres import app_conninfo
from projections.catalog import names
from projections.verify import verify
from tests.faults.draws import seeds
from tests.faults.record import FOLDER, Record, rows, summary
from tests.faults.topology import Topology

STARTED = time.time()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames and not metafunc.definition.get_closest_marker("parametrize"):
        metafunc.parametrize("seed", seeds())


@pytest.fixture(scope="session")
def topology() -> Iterator[Topology]:
    with Topology() as topology:
        yield topology
        # Invariant 7, over all that the seeds have done.
        topology.mend()
        for name in names():
            result = verify(app_conninfo(topology.postgres.url, name="faults"), name)
            assert result.ok, f"{name}: {result.differing} rows differ, as {result.differences[0]}"


@pytest.fixture(scope="session")
def record() -> Record:
    return Record(os.environ.get("PYTEST_XDIST_WORKER", "alone"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    outcomes = list(rows())
    if any(file.stat().st_mtime >= STARTED for file in FOLDER.rglob("*.jsonl")):
        terminalreporter.write_line("")
        terminalreporter.write_line(json.dumps(summary(outcomes)))
