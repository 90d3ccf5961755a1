"""Sends to one destination what its filter lets pass, from its cursor on, for as long as it is let.

The cursor moves when what lies before it has arrived, and never otherwise. So whatever dies in between, the next one
begins at or before what did not arrive: an event may come twice, with the same id; none is passed over; and the first
time that each of them comes, it comes in order, for each attempt sends in order from where nothing is missing before.
That also holds while two send at once, as when one was taken for dead: each by itself keeps it.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import psycopg
import structlog
from prometheus_client import Counter, Gauge

from command_bus.context import Clock
from command_bus.event_log import EventLog, EventLogError
from gateways.forward.channel import Channel
from gateways.forward.cursors import Cursors
from gateways.forward.envelope import Outgoing
from gateways.forward.errors import EventRefusedError, ForwardError, NotTakenError
from gateways.forward.selecting import Selecting
from schema.archive import Row

PAGE = 200
MAX_BATCH_BYTES = 1024 * 1024
"""Of the events that are handed over at once; a larger one goes by itself."""
LOOK_S = 0.5
"""So often an idle destination is looked at."""
GATHER_S = 0.05
SAVE_S = 1.0
"""So often it is noted that nothing of what was read passes."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
MOST_DOUBLINGS = 20
OWN_RETRY_S = 1.0
"""After a failure of ours, and not of the destination's."""

SENT = Counter("fleetlog_forwarded_events_total", "Events that have arrived at a destination.", ["destination"])
FAILED = Counter("fleetlog_forward_failures_total", "Tries that a destination did not take.", ["destination"])
LAG = Gauge("fleetlog_forward_lag", "Positions that a destination is behind the log.", ["destination"])
FAILING = Gauge("fleetlog_forward_failing", "1 while a destination does not take what it is sent.", ["destination"])

_log = structlog.get_logger(__name__)


class Sender:
    """One destination.

    Args:
        destination_id: which.
        name: of it, for people.
        selecting: what is to go there.
        skips: positions of events that are not, whatever the filter says.
        after: where it begins, if it has not begun.
        make_channel: a new way there.
        log: the event log.
        cursors: where it keeps its place.
        source: names the log.
        clock: now.
        retry_s: how long to wait after a first failure; twice as long after each further one.
    """

    def __init__(
        self,
        destination_id: UUID,
        name: str,
        selecting: Selecting,
        skips: frozenset[int],
        after: int,
        make_channel: Callable[[], Awaitable[Channel]],
        log: EventLog,
        cursors: Cursors,
        source: str,
        clock: Clock,
        *,
        retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._id = destination_id
        self._name = name
        self._selecting = selecting
        self._skips = skips
        self._after = after
        self._make_channel = make_channel
        self._log = log
        self._cursors = cursors
        self._source = source
        self._clock = clock
        self._retry_s = retry_s
        self._failures = 0
        self._position = 0
        """What is on record."""
        self._stuck_on: Outgoing | None = None
        """What whoever answered did not take this time."""
        self._handed_over: deque[tuple[int, int]] = deque()
        """(last position, events) of what was sent and is not on record as such."""

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                wait_s = await self._once()
                await asyncio.sleep(wait_s)
        finally:
            for metric in (SENT, FAILED, LAG, FAILING):
                # Whoever takes it up next tells of it; what nobody moves any more would be taken for the truth.
                metric.remove(self._name)

    async def _once(self) -> float:
        """Send until something goes wrong; returns how long to wait then, in seconds."""
        try:
            self._position, self._failures = await self._cursors.take(self._id, self._after)
            FAILING.labels(self._name).set(min(self._failures, 1))
            self._stuck_on = None
            channel = await self._make_channel()
            try:
                await channel.open()
                await self._send_on(channel)
            finally:
                await channel.close()
        except (EventLogError, psycopg.Error) as error:
            _log.warning("forwarding_waits", destination=self._name, error=str(error).strip())
            return OWN_RETRY_S
        except ForwardError as error:
            return await self._failed(str(error), error.retry_after_s)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is this destination's affair and no other's
            _log.exception("forwarding_failed", destination=self._name)
            return await self._failed(f"{type(error).__name__}: {error}", None)
        return OWN_RETRY_S

    async def _failed(self, error: str, wish_s: float | None) -> float:
        self._failures += 1
        FAILED.labels(self._name).inc()
        FAILING.labels(self._name).set(1)
        longest = min(self._retry_s * 2.0 ** min(self._failures - 1, MOST_DOUBLINGS), LONGEST_RETRY_S)
        wait_s: float = max(longest * random.uniform(0.5, 1.0), wish_s or 0.0)  # noqa: S311 -- spreads retries, hides nothing
        if (stuck := self._stuck_on) is not None:
            error = f"Event {stuck.position} ({stuck.type}): {error}"
        _log.warning("not_forwarded", destination=self._name, error=error, failures=self._failures, wait_s=wait_s)
        try:
            tries_at = self._clock() + timedelta(seconds=wait_s)
            await self._cursors.fail(self._id, self._failures, error, tries_at, self._stuck_on)
        except psycopg.Error as failure:
            _log.warning("forwarding_waits", destination=self._name, error=str(failure).strip())
        return wait_s

    async def _send_on(self, channel: Channel) -> None:
        read = self._position
        self._handed_over.clear()
        await self._selecting.begin(read)
        saved_at = asyncio.get_running_loop().time()
        while True:
            head = await self._log.wait_beyond(read, LOOK_S)
            rows: Sequence[Row] = ()
            reached = read
            if head > read:
                rows, reached = await self._selecting.page(read, head, PAGE)
                # Receivers have no keys; whoever is erased is told of by `SubjectErased` from then on.
                rows = await self._log.open_rows(rows)
            for events in self._portions(rows, channel.at_once):
                if await self._hand_over(channel, events):
                    saved_at = asyncio.get_running_loop().time()
                read = events[-1].position
            read = max(read, reached)
            settled = await channel.settled()
            position = read if settled is None else settled
            now = asyncio.get_running_loop().time()
            well_again = self._failures > 0 and settled is None and read >= head
            if (position > self._position or well_again) and now - saved_at >= SAVE_S:
                await self._reached(position)
                saved_at = now
            LAG.labels(self._name).set(max(0, head - self._position))
            if read >= head:
                # While much is recorded, it is read by the page and not by the event.
                await asyncio.sleep(GATHER_S)

    async def _hand_over(self, channel: Channel, events: list[Outgoing]) -> bool:
        """Send some events; whether that is on record.

        Where several at once are refused for what they are, one of them may be it: halves tell which, and those before
        it arrive.
        """
        try:
            await channel.send(events)
        except NotTakenError as error:
            self._stuck_on = error.event or (events[0] if len(events) == 1 else None)
            if self._stuck_on is not None or not isinstance(error, EventRefusedError):
                raise
            middle = len(events) // 2
            await self._hand_over(channel, events[:middle])
            return await self._hand_over(channel, events[middle:])
        self._handed_over.append((events[-1].position, len(events)))
        if await channel.settled() is not None:
            return False
        await self._reached(events[-1].position)
        return True

    async def _reached(self, position: int) -> None:
        sent = 0
        while self._handed_over and self._handed_over[0][0] <= position:
            sent += self._handed_over.popleft()[1]
        await self._cursors.reach(self._id, position, sent)
        self._position = max(self._position, position)
        if sent:
            SENT.labels(self._name).inc(sent)
        if self._failures:
            _log.info("forwarded_again", destination=self._name, failures=self._failures)
            self._failures = 0
        FAILING.labels(self._name).set(0)

    def _portions(self, rows: Sequence[Row], at_once: int) -> Iterator[list[Outgoing]]:
        portion: list[Outgoing] = []
        size = 0
        for row in rows:
            if row[0] in self._skips:
                continue
            event = Outgoing(row, self._source)
            length = len(row[4])
            if portion and (len(portion) >= at_once or size + length > MAX_BATCH_BYTES):
                yield portion
                portion, size = [], 0
            portion.append(event)
            size += length
        if portion:
            yield portion
