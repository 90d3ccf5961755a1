"""What tests of things that run share: histories in a log, processes to kill, patience."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from projections.catalog import FOLLOWING
from tests.projections.database import record
from tests.projections.histories import Fleet

EVERYBODY = [projection.name for projection in FOLLOWING]
PATIENCE_S = 20.0


async def history(url: str, seed: int, steps: int = 100) -> int:
    fleet = Fleet(seed)
    return await record(url, ((changes, fleet.metadata()) for changes in fleet.history(steps)))


async def until(seen: Callable[[], bool]) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not await asyncio.to_thread(seen):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@contextmanager
def a_process(conninfo: str, *place: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.projections.process", conninfo, *place], stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def wait_until_halted(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert any(b"halted" in line for line in process.stdout)  # ends without it if the process does
