"""What is done on the server's own machine, by its administrator, and leaves no other trace in the log."""

from datetime import datetime

from domain.event import Event


class ReplayMade(Event, frozen=True, kw_only=True):
    """The read models of an earlier time were built, for those who may ask what was then."""

    name: str
    position: int
    """They hold what was recorded up to there."""
    expires_at: datetime


class ReplayDropped(Event, frozen=True, kw_only=True):
    """They were dropped before their time was up."""

    name: str
    position: int


class CheckpointCountersigned(Event, frozen=True, kw_only=True):
    """Others' signatures under a checkpoint were verified, and are kept with the fleet's own."""

    number: int
    signers: tuple[str, ...]
    """As they call themselves; those that are new."""
    keys: tuple[str, ...]
    """Their public keys, in hex, in the same order."""
