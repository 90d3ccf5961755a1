"""The demonstration: the main job on real processes, with the accidents that it must survive, checked as it goes."""

import asyncio
import signal
import time
from collections.abc import Sequence
from types import FrameType

import httpx2
from rich.console import Console
from rich.text import Text

from gateways.cli.errors import CommandLineError
from gateways.local.demo_fleet import demo_fleet
from gateways.local.demo_login import Login
from gateways.local.demo_scenes import SCENES, Scene
from gateways.local.demo_scoreboard import Scoreboard
from gateways.local.demo_stage import Stage, StageError
from gateways.local.roles import loop_factory
from gateways.simulate.fleet import TooManyError

ALL_HOLDS = 0
SOMETHING_DIFFERS = 1
INTERRUPTED = 130


def run(*, keep: bool, console: Console, scenes: Sequence[Scene] = SCENES) -> int:
    """Play all scenes.

    Args:
        keep: leave everything running afterwards, until Ctrl-C.
        console: where the audience sits.
        scenes: what is played.

    Returns:
        0 if all was seen as promised, 1 if anything differs, 130 if Ctrl-C came first.
    """
    signal.signal(signal.SIGTERM, _as_interrupt)
    board = Scoreboard(console)
    began = time.monotonic()
    try:
        with Stage(lambda line: console.print(Text(f"  {line}", "dim"), soft_wrap=True)) as stage:
            console.print(Text(f"Fleetlog in {stage.folder}", "bold"))
            up = play(stage, board, console, scenes, began)
            board.show()
            verdict = "All as promised" if board.holds else "Something differs"
            console.print(Text(f"{verdict}, after {time.monotonic() - began:.0f} s.", "bold"))
            if keep and up:
                _stay(stage, console)
    except KeyboardInterrupt:
        console.print("\nStopped; everything that was started has been ended.")
        return ALL_HOLDS if keep and board.holds else INTERRUPTED
    return ALL_HOLDS if board.holds else SOMETHING_DIFFERS


def play(stage: Stage, board: Scoreboard, console: Console, scenes: Sequence[Scene], began: float) -> bool:
    """Bring up the platform and play; what cannot go on is a difference like any other.

    Returns:
        Whether the platform has started.
    """
    titles = ["The platform starts", *(title for title, _ in scenes)]
    acts = [lambda stage, _board: stage.bring_up(), *(act for _, act in scenes)]
    for title, act in zip(titles, acts, strict=True):
        console.print(Text(f"\n{title}", "bold cyan") + Text(f"  {time.monotonic() - began:.0f} s", "dim"))
        try:
            act(stage, board)
        except (StageError, CommandLineError, httpx2.HTTPError) as error:
            board.check(f"{title}: played to its end", expected="yes", seen=f"no: {error}")
            return title != titles[0]
    return True


def _stay(stage: Stage, console: Console) -> None:
    """Leave it running for a look around, with a fleet that is worth one."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_keep(stage, console))


async def _keep(stage: Stage, console: Console) -> None:
    console.print(Text("\nA fleet to look at", "bold cyan"))
    try:
        async with demo_fleet(stage.api, tell=stage.say) as fleet:
            _show_login(stage, console, fleet.login)
            _show(stage, console)
            await asyncio.Event().wait()  # until Ctrl-C
    except* (TimeoutError, TooManyError, CommandLineError) as failed:
        for error in failed.exceptions:
            console.print(Text(f"It is not there: {error}", "red"), soft_wrap=True)
    _show(stage, console)
    await asyncio.Event().wait()


def _show_login(stage: Stage, console: Console, login: Login) -> None:
    first, *others = login.codes
    later = "\n            ".join(others[:4])
    console.print(
        f"\nOpen {stage.api.url} and log in:\n"
        f"  name      {login.name}\n"
        f"  password  {login.password}\n"
        f"  code      {first}\n"
        "The code is good once. For the next times:\n"
        f"            {later}\n"
        f"or give an authenticator app the key {login.secret}.",
        highlight=False,
        soft_wrap=True,
    )


def _show(stage: Stage, console: Console) -> None:
    console.print(
        f"\nStill running at {stage.api.url} (browsable API: {stage.api.url}/docs). In another terminal:\n"
        f"  export FLEETLOG_DATA_DIR={stage.folder / 'data'}\n"
        "  fleetlog agents; fleetlog timeline gamma; fleetlog status\n"
        "Ctrl-C ends it and removes the folder.",
        highlight=False,
        soft_wrap=True,
    )


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
