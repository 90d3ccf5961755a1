"""What a bench is told and what it says: one JSON object per run."""

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec


class BenchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a bench. Where no server is named, a bench starts its own under a temporary folder."""

    agents: int | None = None
    """Instead of the bench's own number."""
    scale: float = 1.0
    """Of the amount of work: 0.1 for a quick look."""
    postgres_url: str = ""
    """The URL of a login that may create databases; a bench works in a database of its own and drops it."""
    nats_url: str = ""
    valkey_url: str = ""

    def scaled(self, count: int) -> int:
        """So many of something, at this scale; at least one."""
        return max(1, round(count * self.scale))


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    """What the engine alone does with the same bytes, in the same run."""
    ratio: float | None = None
    """Of the value to the limit."""
    n: int = 0
    """How many of what was counted."""
    extra: dict[str, Any] = {}

    def as_json(self) -> str:
        """One line, with figures a person can read."""
        fields = msgspec.structs.asdict(self)
        return msgspec.json.encode({key: _rounded(value) for key, value in fields.items()}).decode()


def of_rounds(name: str, unit: str, count: int, rounds: Sequence[dict[str, float]]) -> BenchResult:
    """What several rounds came to, by their medians.

    Args:
        name: of the bench.
        unit: of what is counted, a second.
        count: how many of it a round has.
        rounds: figures by name: ``ours_s`` is how long a round took, ``raw_s`` how long the engines alone did.
    """
    extra = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    value, limit = count / extra.pop("ours_s"), count / extra.pop("raw_s")
    return BenchResult(name=name, value=value, unit=unit, limit=limit, ratio=value / limit, n=count, extra=extra)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value)  # noqa: PLR2004 - four figures
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value
