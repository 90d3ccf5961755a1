"""What each part of a running platform costs: processor time, by role and by server."""

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import Mapping

import psutil

RESTED_S = 0.25
RESTING_S = 0.04
"""Processor time in that while of a platform that only looks whether there is anything to do."""
RESTED_AFTER_S = 60.0
AGENTS = "agents"
"""The bench's own process: the simulated agents, and whoever asks."""


def cpu_s(pid: int) -> dict[str, float]:
    """Processor time so far of `fleetlog up` and all its children, by what they are, and of this process."""
    used: defaultdict[str, float] = defaultdict(float)
    top = psutil.Process(pid)
    for process in (top, *top.children(recursive=True)):
        # One that has ended since: its time is its parent's from then on.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            times = process.cpu_times()
            name = _part(process) if process.pid != pid else "up"
            used[name] += times.user + times.system + times.children_user + times.children_system
    own = os.times()
    used[AGENTS] += own.user + own.system
    return used


def each_us(pid: int, since: Mapping[str, float], count: int) -> dict[str, float]:
    """Microseconds that each part has used since for one of so many, as a result shows it."""
    now = cpu_s(pid)
    return {f"cpu_us_each_{part}": (now.get(part, used) - used) / count * 1e6 for part, used in sorted(since.items())}


async def rested(pid: int) -> None:
    """Wait until the platform has done what came before, for a while at the most."""
    async with asyncio.timeout(RESTED_AFTER_S):
        before = -1.0
        while (now := _platform_s(pid)) - before > RESTING_S:
            before = now
            await asyncio.sleep(RESTED_S)


def _platform_s(pid: int) -> float:
    used = cpu_s(pid)
    return sum(used.values()) - used[AGENTS]


def _part(process: psutil.Process) -> str:
    words = process.cmdline()
    if "serve" in words:
        return words[words.index("serve") + 1]
    name = process.name()
    return next((known for known in ("postgres", "nats", "valkey") if known in name), name)
