"""What the demonstration says of itself."""

import io
import subprocess

import pytest
from rich.console import Console

from gateways.local import demo
from gateways.local.demo_scoreboard import Scoreboard
from gateways.local.demo_stage import Stage, StageError


def _console() -> tuple[Console, io.StringIO]:
    paper = io.StringIO()
    return Console(file=paper, width=120), paper


def _without_a_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "bring_up", lambda _stage: None)


def test_all_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """When each check holds, the demonstration ends with 0 and shows them in a table."""
    _without_a_platform(monkeypatch)
    console, paper = _console()
    scenes = [("A scene", lambda _stage, board: board.check("two", expected=2, seen=2) and None)]
    assert demo.run(keep=False, console=console, scenes=scenes) == demo.ALL_HOLDS
    assert "Expected against seen" in paper.getvalue()


def test_a_planted_difference_shows_in_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """One difference is enough for a non-zero exit, and the scenes after it are still played."""
    _without_a_platform(monkeypatch)
    console, paper = _console()
    played: list[str] = []
    scenes = [
        ("Planted", lambda _stage, board: board.check("runs", expected=1, seen=2) and None),
        ("After it", lambda _stage, _board: played.append("after")),
    ]
    assert demo.run(keep=False, console=console, scenes=scenes) == demo.SOMETHING_DIFFERS
    assert played == ["after"]
    assert "expected 1, saw 2" in paper.getvalue()


def test_a_scene_that_cannot_go_on_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scene that breaks ends the play, is in the table, and in the exit code."""
    _without_a_platform(monkeypatch)
    console, paper = _console()

    def broken(_stage: Stage, _board: Scoreboard) -> None:
        raise StageError("Waited in vain.")

    assert demo.run(keep=False, console=console, scenes=[("Broken", broken)]) == demo.SOMETHING_DIFFERS
    assert "Waited in vain." in paper.getvalue()


def test_nothing_checked_is_nothing_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A play without a single check does not pass."""
    _without_a_platform(monkeypatch)
    console, _ = _console()
    assert demo.run(keep=False, console=console, scenes=[]) == demo.SOMETHING_DIFFERS


def test_ctrl_c_ends_every_process_and_removes_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the middle, the stage ends even what its processes had started, and clears its folder."""
    _without_a_platform(monkeypatch)
    console, _ = _console()
    seen: list[Stage] = []
    left_behind: list[subprocess.Popen[bytes]] = []

    def interrupted(stage: Stage, _board: Scoreboard) -> None:
        seen.append(stage)
        left_behind.append(subprocess.Popen(["sleep", "60"], env=stage.environment, start_new_session=True))
        raise KeyboardInterrupt

    assert demo.run(keep=False, console=console, scenes=[("Cut short", interrupted)]) == demo.INTERRUPTED
    left_behind[0].wait(5)
    assert not seen[0].folder.exists()
    assert seen[0]._marked() == []
