"""Whether the log was restored from a backup, and from when on agents know more than it does."""

from datetime import datetime, timedelta

import msgspec

from command_bus.event_log import EventLog, Selection
from domain.restores import LogRestored

MARGIN = timedelta(minutes=10)
"""Agents note an acknowledgement by the server's clock as they know it; a result said once too often does no harm."""


class Restored(msgspec.Struct, frozen=True):
    """One restore."""

    name: str
    """Unlike any other's."""
    since: datetime


async def last_restore(log: EventLog) -> Restored | None:
    """The last restore of this log.

    None can come while anybody reads the log, so it is looked for once, at the start.
    """
    after = 0
    found = None
    while page := await log.read(Selection(types=(LogRestored.__name__,)), after=after):
        for recorded in page:
            if isinstance(recorded.event, LogRestored):
                found = Restored(str(recorded.originator_id), recorded.event.made_at - MARGIN)
        after = page[-1].position
    return found
