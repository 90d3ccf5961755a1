"""What machines say is text, and no instruction to the terminal of whoever reads it."""

import io
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateways.cli import output
from gateways.cli.output import Column, Output, harmless

TITLE, COLOUR, HTML = "\x1b]0;owned\x07", "\x1b[31mred\x1b[0m", "<script>alert(1)</script>[bold]x[/bold]"


class Screen(io.TextIOWrapper):
    """Something that says whether it is a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@given(st.binary(max_size=200))
def test_no_control_character_reaches_a_terminal(data: bytes) -> None:
    """Whatever a program printed, only tabs and ends of lines are left of what steers a terminal; text is untouched."""
    shown = harmless(data)
    assert not [byte for byte in shown if (byte < 0x20 and byte not in b"\t\n\r") or byte == 0x7F]
    assert not any(b"\xc2" + bytes([c]) in shown for c in range(0x80, 0xA0))
    assert harmless("Grüße, 世界\t1\r\n".encode()) == "Grüße, 世界\t1\r\n".encode()


@pytest.mark.parametrize("terminal", [True, False])
def test_output_is_whole_in_a_file_and_harmless_on_a_terminal(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a file it goes byte for byte."""
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    said = f"{TITLE}{COLOUR}\n".encode()
    output.write_bytes(said)
    written = screen.raw_bytes.getvalue()
    assert (b"\x1b" in written) is not terminal
    assert terminal or written == said


def test_names_and_facts_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host names, facts and reasons that hold escapes or markup are shown as they are, without any effect."""
    out = Output(as_json=False)
    screen = io.StringIO()
    monkeypatch.setattr(out, "console", Console(file=screen, force_terminal=True, width=200, color_system=None))
    row: dict[str, Any] = {"name": TITLE + HTML, "facts": {"os": COLOUR}, "tags": [COLOUR]}
    columns = [Column(name, lambda one, name=name: one[name]) for name in row]  # type: ignore[misc]
    out.rows(columns, [row])
    shown = screen.getvalue()
    assert "\x1b]0;" not in shown
    assert "\x07" not in shown
    assert "\x1b[31m" not in shown
    assert "<script>alert(1)</script>[bold]x[/bold]" in shown
