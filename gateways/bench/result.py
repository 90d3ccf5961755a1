"""What a bench is told and what it says: one JSON object per run."""

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


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value)  # noqa: PLR2004 - four figures
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value
