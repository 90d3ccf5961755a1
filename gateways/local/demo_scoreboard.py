"""What a demonstration promised, and what was seen."""

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Check(msgspec.Struct, frozen=True):
    what: str
    expected: str
    seen: str

    @property
    def holds(self) -> bool:
        return self.expected == self.seen


class Scoreboard:
    """Collects checks, shows them at the end, and says whether all of them hold."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.checks: list[Check] = []

    def check(self, what: str, *, expected: Any, seen: Any) -> bool:
        """Note one promise and what came of it; both are compared as they will be shown."""
        check = Check(what, str(expected), str(seen))
        self.checks.append(check)
        mark = Text("  ✔ ", "green") if check.holds else Text("  ✘ ", "red")
        difference = "" if check.holds else f" (expected {check.expected}, saw {check.seen})"
        self._console.print(mark + Text(check.what + difference), soft_wrap=True)
        return check.holds

    @property
    def holds(self) -> bool:
        """True if there is something to show for, and all of it is as promised."""
        return bool(self.checks) and all(check.holds for check in self.checks)

    def show(self) -> None:
        """Print expected against seen."""
        table = Table(title="Expected against seen", title_justify="left", box=None, pad_edge=False)
        for column in ("", "what", "expected", "seen"):
            table.add_column(column, overflow="fold")
        for check in self.checks:
            style = "" if check.holds else "red"
            mark = Text("✔", "green") if check.holds else Text("✘", "red")
            table.add_row(mark, check.what, check.expected, Text(check.seen, style))
        self._console.print(table)
