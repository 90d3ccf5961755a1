"""What touches the system itself: installing updates, and restarting the machine."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from agent import installing
from agent.journal import Key
from agent.outputs import OnOutput
from agent.platforms import PLATFORM, restarting
from agent.runner import Program, Ran, Runner, Stop
from agent.threads import in_thread
from schema.patches import InstallWork, PatchReport, RebootWork

log = logging.getLogger("fleetlog.agent.patching")

RESTART_TAKES_S = 600.0
"""A machine that is still there so long after it was told to restart does not."""


async def install(
    runner: Runner,
    key: Key,
    work: InstallWork,
    files: Path,
    *,
    stop: "asyncio.Future[Stop]",
    on_spawned: Callable[[int, float | None], Coroutine[Any, Any, None]],
    on_output: OnOutput,
) -> tuple[Ran, PatchReport | None]:
    """Have updates installed by a program of its own, and say what came of each, however it ended.

    Args:
        runner: runs it.
        key: the attempt.
        work: what to install.
        files: where what it is told and what it tells lies meanwhile.
        stop: ends it early when it is set.
        on_spawned: told of its process.
        on_output: told of its output.

    Raises:
        WorkRefusedError: it could not be started at all.
    """
    PLATFORM.make_private_dir(files, passable=True)
    name = os.urandom(16).hex()
    told, tells, given = (files / f"{name}{suffix}" for suffix in (".work", ".outcome", ".chosen"))
    try:
        PLATFORM.create_script(told, msgspec.json.encode(work), None)
        program = Program(
            argv=[sys.executable, "-m", "agent.installing", str(told), str(tells)],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            timeout_s=work.timeout_s,
        )
        ran = await runner.run_program(key, program, stop=stop, on_spawned=on_spawned, on_output=on_output)
        chosen = await in_thread(lambda: _read(tells))
    finally:
        for path in (told, tells, given, tells.with_suffix(".new")):
            path.unlink(missing_ok=True)
    if chosen is None:
        return ran, None
    report = await in_thread(lambda: installing.judge(chosen, PLATFORM.software()))
    detail = "; ".join(filter(None, (ran.detail, installing.in_words(report))))
    return msgspec.structs.replace(ran, detail=detail), report


def _read(path: Path) -> installing.Chosen | None:
    """What it wrote down; None where it was ended before it had chosen."""
    with contextlib.suppress(FileNotFoundError):
        return installing.decode_chosen(path.read_bytes())
    return None


async def give_notice(work: RebootWork, stop: "asyncio.Future[Stop]") -> Stop | None:
    """Tell who is logged in, and wait as long as they have; returns what ended the wait before that."""
    when = f"in {max(1, work.delay_s // 60)} min" if work.delay_s else "now"
    await in_thread(lambda: restarting.announce(f"This machine restarts {when}. {work.notice}".rstrip()))
    await asyncio.wait({stop}, timeout=work.delay_s)
    return stop.result() if stop.done() else None
