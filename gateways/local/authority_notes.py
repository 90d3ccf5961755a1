"""Says in the log what becomes of this platform's own certificate authorities, whoever changed their files."""

import asyncio
import time
from collections.abc import Sequence

import psycopg
import structlog

from command_bus.context import NewId
from command_bus.event_log import EventLogError
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load
from domain.authorities import Authorities
from domain.event import Metadata
from gateways.local.authority import Standing
from gateways.tls import LOOK_S
from projections.catalog import INLINE

_log = structlog.get_logger(__name__)
ACTOR = "up"
PATIENCE_S = 10.0


class AuthorityNotes:
    """Of one `fleetlog up`.

    Args:
        url: the database.
        new_id: a fresh version 7 UUID.
    """

    def __init__(self, url: str, new_id: NewId) -> None:
        self._url = url
        self._new_id = new_id
        self._noted: list[Standing] | None = None
        self._next_look = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to look again; to be asked often."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_S
        return True

    async def note(self, standings: Sequence[Standing]) -> None:
        """Record what is another than was last recorded; where that cannot be done now, the next look tries again."""
        seen = list(standings)
        if seen == self._noted or not seen:
            return
        try:
            # A log waits for its database for ever, and whoever calls this may be the one to bring that back.
            async with asyncio.timeout(PATIENCE_S):
                await self._record(seen)
        except (EventLogError, psycopg.Error, TimeoutError) as error:
            _log.warning("authorities_not_noted", error=str(error).strip())
            return
        self._noted = seen

    async def _record(self, seen: Sequence[Standing]) -> None:
        log = PostgresEventLog(self._url, inline=INLINE, name="authorities")
        try:
            await log.start()
            authorities = await load(log, Authorities, Authorities.STREAM)
            trusted = [one.fingerprint for one in sorted(seen, key=lambda one: one.number)]
            used = next(one.fingerprint for one in seen if one.signs)
            changes = authorities.see(trusted, used)
            if changes:
                await log.append(changes, Metadata(actor=ACTOR, correlation_id=self._new_id()))
        finally:
            await log.stop()
