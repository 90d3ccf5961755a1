"""Writes what the last run of the suite came to into docs/reliability.md: ``python -m tests.faults.report``."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.record import rows, summary

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: python -m tests.faults.report -->", "<!-- end of the figures -->"


def figures() -> str:
    """The table, from a real run."""
    outcomes = list(rows())
    if not outcomes:
        raise SystemExit("There is no run to report; `make test-faults` makes one.")
    total = summary(outcomes)
    kinds = " · ".join(f"{kind} {number}" for kind, number in total["by_kind"].items())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}:\n\n"
        "| runs | faults injected | commands | executions | lost | doubled | wrongly ended |\n"
        "|---|---|---|---|---|---|---|\n"
        f"| {total['seeds']} | {total['faults']} | {total['commands']} | {total['runs']} | {total['lost']}"
        f" | {total['doubled']} | {total['wrong']} |\n\n"
        f"By kind: {kinds}.\n"
    )


def main() -> int:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{figures()}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
