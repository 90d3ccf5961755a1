"""How many agents somebody has touched lately, one by one: a cap on one action is to be none on its first step only."""

from datetime import timedelta
from typing import Protocol
from uuid import UUID

WINDOW = timedelta(hours=1)
"""Agents that were touched so long ago do not count any more."""


class Touches(Protocol):
    """Counts agents by whoever touches them."""

    async def touched(self, who: str, agent_id: UUID) -> int:
        """Count an agent; returns how many different ones it were within `WINDOW`, with this one."""


class Uncounted:
    """Where nobody is held to any cap: a process that has people's requests from nowhere."""

    async def touched(self, who: str, agent_id: UUID) -> int:
        """As one that was touched alone."""
        del who, agent_id
        return 1
