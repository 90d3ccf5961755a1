"""The demonstration: the main job on real processes, with the accidents that it must survive, checked as it goes."""

import signal
import time
from collections.abc import Sequence
from types import FrameType

import httpx2
from rich.console import Console
from rich.text import Text

from gateways.cli.errors import CommandLineError
from gateways.local.demo_scenes import SCENES, Scene
from gateways.local.demo_scoreboard import Scoreboard
from gateways.local.demo_stage import Stage, StageError

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
            play(stage, board, console, scenes, began)
            board.show()
            verdict = "All as promised" if board.holds else "Something differs"
            console.print(Text(f"{verdict}, after {time.monotonic() - began:.0f} s.", "bold"))
            if keep:
                _stay(stage, console)
    except KeyboardInterrupt:
        console.print("\nStopped; everything that was started has been ended.")
        return ALL_HOLDS if keep and board.holds else INTERRUPTED
    return ALL_HOLDS if board.holds else SOMETHING_DIFFERS


def play(stage: Stage, board: Scoreboard, console: Console, scenes: Sequence[Scene], began: float) -> None:
    """Bring up the platform and play; what cannot go on is a difference like any other."""
    titles = ["The platform starts", *(title for title, _ in scenes)]
    acts = [lambda stage, _board: stage.bring_up(), *(act for _, act in scenes)]
    for title, act in zip(titles, acts, strict=True):
        console.print(Text(f"\n{title}", "bold cyan") + Text(f"  {time.monotonic() - began:.0f} s", "dim"))
        try:
            act(stage, board)
        except (StageError, CommandLineError, httpx2.HTTPError) as error:
            board.check(f"{title}: played to its end", expected="yes", seen=f"no: {error}")
            return


def _stay(stage: Stage, console: Console) -> None:
    """Leave it running for a look around."""
    console.print(
        f"\nStill running at {stage.api.url} (browsable API: {stage.api.url}/docs). In another terminal:\n"
        f"  export FLEETLOG_DATA_DIR={stage.folder / 'data'}\n"
        "  fleetlog agents; fleetlog timeline gamma; fleetlog status\n"
        "Ctrl-C ends it and removes the folder.",
        highlight=False,
    )
    while True:
        signal.pause()


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
