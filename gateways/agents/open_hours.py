"""Which hours are open now, of all that commands wait for.

Commands that may only begin within hours (`domain.hours`) are many, and their hours few: a rule for each zone. So the
queue is asked which there are, the rule is judged here, and a lease takes what waits for those that are open. Hours
that are not known yet count as closed until the next look, which tells of them as just opened.
"""

import time
from collections.abc import Sequence
from datetime import datetime

import structlog

from domain.errors import InvalidValueError
from domain.hours import decode_hours
from projections.pages import Connection
from projections.pending import hours_waited_for

_log = structlog.get_logger()
LOOK_EVERY_S = 1.0


class OpenHours:
    """What one process knows of them."""

    def __init__(self) -> None:
        self._known: list[str] = []
        self._looked_at = 0.0
        self._opened: frozenset[str] = frozenset()

    async def open(self, connection: Connection, now: datetime) -> list[str]:
        """Those in which a command may begin now."""
        if not self._looked_at or time.monotonic() >= self._looked_at + LOOK_EVERY_S:
            self._known = await hours_waited_for(connection)
            self._looked_at = time.monotonic()
        return [text for text in self._known if _open(text, now)]

    async def opened(self, connection: Connection, now: datetime) -> Sequence[str]:
        """Those that opened, or became known, since this was last asked."""
        before, self._opened = self._opened, frozenset(await self.open(connection, now))
        return sorted(self._opened - before)


def _open(text: str, now: datetime) -> bool:
    try:
        return decode_hours(text).open_at(now)
    except InvalidValueError as error:
        # A zone that whoever queued it knew and this machine does not: better late than at a wrong time.
        _log.error("hours_unknown", hours=text, error=error.detail)
        return False
