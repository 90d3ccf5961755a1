"""What the parts of a running platform hold in memory, and whether that grows."""

import asyncio
import statistics
import time

import psutil

from gateways.bench.platform import Running

LOOK_S = 1.0
WINDOW = 0.1
"""Of the time: the median of what was seen in it counts, so that a page in hand does not."""
MB = 1024 * 1024


class Memory:
    """Looks at each role's process, and at the NATS server's, until told to stop.

    Args:
        running: the platform.
    """

    def __init__(self, running: Running) -> None:
        self._processes = _parts(running)
        self._seen: list[tuple[float, dict[str, int]]] = []

    async def watch(self) -> None:
        """Look, each second, until cancelled."""
        while True:
            self._seen.append(
                (time.monotonic(), {name: one.memory_info().rss for name, one in self._processes.items()})
            )
            await asyncio.sleep(LOOK_S)

    def growth(self, begun: float, ended: float) -> dict[str, float]:
        """Of each process, the share by which it grew between two moments."""
        window_s = max((ended - begun) * WINDOW, 2 * LOOK_S)
        first, last = self._around(begun, begun + window_s), self._around(ended - window_s, ended)
        return {name: last[name] / first[name] - 1 for name in self._processes}

    def megabytes(self, ended: float) -> dict[str, float]:
        """What each process held at a moment."""
        return {name: size / MB for name, size in self._around(ended - 2 * LOOK_S, ended).items()}

    def _around(self, begun: float, ended: float) -> dict[str, float]:
        seen = [sizes for at, sizes in self._seen if begun <= at <= ended]
        return {name: statistics.median(sizes[name] for sizes in seen) for name in self._processes}


def _parts(running: Running) -> dict[str, psutil.Process]:
    found = {}
    for process in psutil.Process(running.platform.pid).children():
        match process.cmdline():
            case [*_, "serve", role]:
                found[role] = process
            case [program, *_] if program.endswith("nats-server"):
                found["nats"] = process
    return found
