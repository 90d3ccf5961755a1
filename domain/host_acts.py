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


class BackupBegun(Event, frozen=True, kw_only=True):
    """Everything is about to be read into a file; recorded before its first byte, so the backup holds this itself."""

    file: str


class ExportBegun(Event, frozen=True, kw_only=True):
    """The log and its chain are about to be read into a file; recorded before its first byte."""

    file: str
    since: int = 0
    """From the checkpoint before this position on."""


class SegmentArchived(Event, frozen=True, kw_only=True):
    """Streams that had ended were moved out of the log's table, in the transaction that records this."""

    segment: int
    first_position: int
    last_position: int
    events: int
    streams: int
    manifest_sha256: str
    """It vouches for the segment and all before it."""


class SchemaMigrated(Event, frozen=True, kw_only=True):
    """A database that was in use was brought up to date; the first start of all leaves none."""

    migrations: tuple[str, ...]


class ProjectionRebuilt(Event, frozen=True, kw_only=True):
    """Somebody had the tables of a projection made anew from the log."""

    name: str
    position: int
    """They hold what was recorded up to there."""


class ProjectionResumed(Event, frozen=True, kw_only=True):
    """A projection that had stopped tries its event again."""

    name: str


class AuthorityRolledOver(Event, frozen=True, kw_only=True):
    """Somebody took a step from one certificate authority to the next; what comes of it the platform records itself."""

    did: str
    """``announced | used | retired``"""
