"""What was done at the server's own machine, each as one line: see projections/timeline.py."""

from collections.abc import Callable
from typing import Any

from domain import host_acts, restores
from domain.event import Event
from projections.wording import at, shown

LINES: dict[type[Event], Callable[[Any], str]] = {
    host_acts.ReplayMade: lambda event: (
        f"Read models as of position {event.position} built as {shown(event.name)!r}, until {at(event.expires_at)}."
    ),
    host_acts.ReplayDropped: lambda event: f"Read models as of position {event.position} dropped: {shown(event.name)}.",
    host_acts.CheckpointCountersigned: lambda event: (
        f"Checkpoint {event.number} countersigned by {shown(', '.join(event.signers))}."
    ),
    host_acts.BackupBegun: lambda event: f"Backup begun, into {shown(event.file)} on the server's machine.",
    host_acts.ExportBegun: lambda event: (
        f"Export of the log and its chain begun{f', since position {event.since}' if event.since else ''}, into"
        f" {shown(event.file)} on the server's machine."
    ),
    host_acts.SegmentArchived: lambda event: (
        f"{event.events} events of {event.streams} commands and rollouts moved into segment {event.segment} of the"
        " archive."
    ),
    host_acts.SchemaMigrated: lambda event: f"Database brought up to date: {shown(', '.join(event.migrations))}.",
    host_acts.ProjectionRebuilt: lambda event: (
        f"Projection {shown(event.name)} rebuilt from the log, up to position {event.position}."
    ),
    host_acts.ProjectionResumed: lambda event: f"Projection {shown(event.name)}, which had stopped, tries again.",
    host_acts.AuthorityRolledOver: lambda event: f"Certificate authority: the next step was taken, {shown(event.did)}.",
    restores.LogRestored: lambda event: f"Log restored from a backup of {at(event.made_at)}.",
}
