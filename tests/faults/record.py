"""What a run of the fault suite came to, seed by seed, kept for the table at its end and for docs/reliability.md."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.faults.faults import Fault
from tests.faults.stories import Findings

FOLDER = Path(os.environ.get("FAULTS_FOLDER", ".faults"))


class Record:
    """Writes what one process has found.

    Args:
        name: of the process, unlike any other of this run.
    """

    def __init__(self, name: str) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        self._file = FOLDER / f"{name}.jsonl"

    def add(self, seed: int, injected: Sequence[Fault], found: Findings, *, kind: str = "") -> None:
        """One run's outcome; what is no drawn fault is named by its kind."""
        row = {
            "seed": seed,
            "faults": {kind: 1} if kind else dict(Counter(fault.kind for fault in injected)),
            "commands": found.commands,
            "runs": found.runs,
            "lost": len(found.lost),
            "doubled": len(found.doubled),
            "wrong": len(found.wrong),
        }
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def keep(self, seed: int, logs: Iterable[Path]) -> None:
        """What the parts said up to a run that went wrong, for whoever looks into it."""
        kept = FOLDER / f"seed-{seed}"
        kept.mkdir(exist_ok=True)
        for file in logs:
            shutil.copy(file, kept)


def rows(folder: Path = FOLDER) -> Iterator[dict[str, Any]]:
    """Every seed's outcome."""
    for file in sorted(folder.rglob("*.jsonl")):
        for text in file.read_text().splitlines():
            yield json.loads(text)


def summary(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All of them together."""
    faults: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome["faults"])
    return {
        "seeds": len(outcomes),
        "faults": sum(faults.values()),
        **{
            name: sum(outcome[name] for outcome in outcomes)
            for name in ("commands", "runs", "lost", "doubled", "wrong")
        },
        "by_kind": dict(sorted(faults.items())),
    }
