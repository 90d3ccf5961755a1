"""How long is kept what need not be kept for ever, and that whole outputs were removed by that.

One event tells of all that one sweep removed. What each output is named by stays,
and says where the whole was (`gateways.agents.retention`).
"""

import enum
from datetime import datetime

import msgspec

from domain.event import Aggregate, Change, Event
from domain.ids import derived_id

RETENTION_STREAM = derived_id("retention", "terms")
"""There is one: what holds for all of the platform."""
MOST_DAYS = 36_500
MOST_BYTES = 2**53 - 1


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """How long is kept what need not be kept for ever. None is for ever."""

    archive_after_days: int | None
    """Commands and rollouts that ended move to the archive then."""
    output_keep_days: int | None
    """Whole outputs go that no result has named for so long."""
    output_keep_bytes: int | None
    """Beyond so much in all, those go that were named longest ago."""


class RetentionSet(Event, frozen=True, kw_only=True):
    """Somebody said how long; from then on this holds, and not what processes are set to."""

    kept: Kept
    reason: str = ""


class Terms(Aggregate):
    """How long is kept what need not be kept for ever."""

    kept: Kept | None = None

    def put(self, kept: Kept, reason: str) -> list[Change]:
        """Set it; set as it is, nothing happens."""
        return [] if kept == self.kept else [self.decide(RetentionSet(kept=kept, reason=reason))]

    def when(self, event: Event) -> None:
        match event:
            case RetentionSet():
                self.kept = event.kept
            case _:
                super().when(event)


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
