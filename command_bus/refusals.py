"""Puts refusals on record: the first few as events of their own, the rest as a count when the minute ends.

    of one caller at one door, with one code    3 within a minute, 10 within an hour
    of one process                              60 within a minute, 600 within an hour

So whoever is refused is seen, and whoever floods, from however many addresses and under however many names, costs one
event a minute and process. What is kept in memory is bounded as well: of more callers than that in an hour, the others
are counted. What could not be recorded is counted, too, and recorded once the log takes it.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from command_bus.context import Clock, NewId
from command_bus.event_log import EventLog, EventLogError
from domain.event import Metadata
from domain.ids import AgentId, ClientId
from domain.refusals import AgentRefused, Counted, Door, Refusals, RefusalsCounted, RequestRefused

EACH_MINUTE, EACH_HOUR = 3, 10
ALL_MINUTE, ALL_HOUR = 60, 600
MAX_CALLERS = 10_000
MAX_KINDS = 200
"""Codes are those of our errors, and few; should they ever be more, the rest is counted as other."""
MINUTE = timedelta(minutes=1)
OTHER = "other"
_log = structlog.get_logger("fleetlog.refusals")


class _Span:
    """How many were recorded within a minute, or an hour."""

    def __init__(self, each: int, most: int) -> None:
        self._each = each
        self._most = most
        self._begun: datetime | None = None
        self._total = 0
        self._of: Counter[Sequence[str]] = Counter()

    def has_room(self, who: Sequence[str], begun: datetime) -> bool:
        if begun != self._begun:
            self._begun, self._total, self._of = begun, 0, Counter()
        known = who in self._of or len(self._of) < MAX_CALLERS
        return known and self._total < self._most and self._of[who] < self._each

    def take(self, who: Sequence[str]) -> None:
        self._total += 1
        self._of[who] += 1


class RefusalRecords:
    """What one process puts on record; a service, whose end records what is still counted.

    Args:
        log: the event log, which is to outlive it.
        clock: now.
        new_id: fresh ids.
        actor: under whose name counts are recorded.
    """

    def __init__(self, log: EventLog, clock: Clock, new_id: NewId, actor: str = "system") -> None:
        self._log = log
        self._clock = clock
        self._new_id = new_id
        self._actor = actor
        self._minute, self._hour = _Span(EACH_MINUTE, ALL_MINUTE), _Span(EACH_HOUR, ALL_HOUR)
        self._since: datetime | None = None
        self._counts: Counter[tuple[Door, str]] = Counter()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="refusals")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.flush()

    async def refused(
        self,
        refused: RequestRefused | AgentRefused,
        who: Sequence[str],
        *,
        actor: str = "anonymous",
        correlation_id: UUID | None = None,
        agent_id: AgentId | None = None,
        client_id: ClientId | None = None,
    ) -> None:
        """Record a refusal, or count it. Whoever is refused is so, whatever becomes of this: it never raises.

        Args:
            refused: what happened.
            who: what makes a caller one: who they are or say that they are, and from where.
            actor: who they are; by default nobody is known.
            correlation_id: of their request.
            agent_id: the agent that it concerns, where that is known.
            client_id: the client that it concerns, where that is known.
        """
        who = (refused.door, refused.code, *who)
        now = self._clock()
        minute = now.replace(second=0, microsecond=0)
        if not (self._minute.has_room(who, minute) and self._hour.has_room(who, minute.replace(minute=0))):
            self.count(refused.door, refused.code)
            return
        self._minute.take(who)
        self._hour.take(who)
        change = Refusals(self._new_id(), agent_id, client_id).record(refused)
        metadata = Metadata(actor=actor, correlation_id=correlation_id or self._new_id())
        try:
            await self._log.append([change], metadata)
        except EventLogError as error:
            _log.warning("refusal_not_recorded", code=refused.code, error=str(error))
            self.count(refused.door, refused.code)

    def count(self, door: Door, code: str) -> None:
        """Count what is no event of its own: of those who were held back before anything was looked at, each."""
        kind = (door, code)
        if kind not in self._counts and len(self._counts) >= MAX_KINDS:
            kind = (door, OTHER)
        self._counts[kind] += 1
        if self._since is None:
            self._since = self._clock()

    async def flush(self) -> None:
        """Record what was counted; what the log does not take is kept for the next time."""
        if self._since is None:
            return
        since, counts = self._since, self._counts
        self._since, self._counts = None, Counter()
        told = tuple(Counted(door=door, code=code, count=count) for (door, code), count in sorted(counts.items()))
        event = RefusalsCounted(since=since, until=self._clock(), counts=told)
        metadata = Metadata(actor=self._actor, correlation_id=self._new_id())
        try:
            await self._log.append([Refusals(self._new_id()).record(event)], metadata)
        except EventLogError as error:
            _log.warning("refusals_not_recorded", count=counts.total(), error=str(error))
            self._counts.update(counts)
            self._since = since

    async def _run(self) -> None:
        while True:
            now = self._clock()
            await asyncio.sleep((now.replace(second=0, microsecond=0) + MINUTE - now).total_seconds())
            await self.flush()
