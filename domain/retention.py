"""That whole outputs were removed by policy, as a fact in the log: one event for all that one sweep removed.

What each output is named by stays, and says where the whole was (`gateways.agents.retention`).
"""

import enum
from datetime import datetime

from domain.event import Aggregate, Change, Event


class RetentionPolicy(enum.StrEnum):
    AGE = "age"
    SIZE = "size"


class OutputsRemoved(Event, frozen=True, kw_only=True):
    """One sweep of retention, of the policy that it applied."""

    policy: RetentionPolicy
    kept_s: int | None = None
    """By age: outputs stay that a result has named within so many seconds."""
    kept_bytes: int | None = None
    """By size: so many bytes stay, of those outputs that were named last."""
    outputs: int
    bytes: int
    """As commands wrote them."""
    named_from: datetime
    """Of what was removed, when the oldest was last named by a result ..."""
    named_to: datetime
    """... and the newest."""


class Sweep(Aggregate):
    """One run over what is kept."""

    def record(self, removed: OutputsRemoved) -> list[Change]:
        """Say what it removed; said twice, it is one event."""
        return [] if self.exists else [self.decide(removed)]

    def when(self, event: Event) -> None:
        if not isinstance(event, OutputsRemoved):
            super().when(event)
