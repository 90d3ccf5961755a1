"""The log as it grows, followed once per process and handed to whoever in it waits for something.

A subscriber has a bounded queue. One that does not keep up is cut off rather than slow the others or grow for ever: its
client comes back with the last position that it saw and misses nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol
from uuid import UUID

import structlog
from msgspec import structs
from prometheus_client import Counter

from command_bus.event_log import ALL, EventLog, EventLogError, Mark, Places, Selection
from domain.agents import AgentEnrolled, AgentMoved
from domain.codec import TOPICS
from domain.commands import ENDINGS, CommandQueued
from domain.enrollments import EnrollmentRequested
from domain.event import Event, Recorded, Undecodable
from domain.scopes import Scope

UNDECODABLE = Counter("fleetlog_undecodable_events", "Events met in the log that this program cannot read.")
RETRY_S = 1.0
MANY = 200
"""Events in a page: a bulk is under way."""
GATHER_S = 0.5
MAX_OPEN = 10_000
"""So many commands that were queued lately are known to be open without asking anybody."""
TYPES = {topic: kind for kind, topic in TOPICS.items()}
_log = structlog.get_logger("fleetlog.feed")


class Watcher(Protocol):
    """Keeps something in memory that the log may overtake."""

    def heard(self, recorded: Recorded | Mark) -> None: ...
    def missed(self) -> None: ...


class CutOffError(Exception):
    """The subscriber fell too far behind, or the process is stopping."""


def selects(selection: Selection, recorded: Recorded) -> bool:
    """What the log's own filter does, for one event in hand."""
    return (
        (selection.agent_id is None or recorded.agent_id == selection.agent_id)
        and (selection.stream_id is None or recorded.originator_id == selection.stream_id)
        and (selection.client_ids is None or recorded.client_id in selection.client_ids)
        and (
            selection.places is None
            or selection.places.hold(recorded.originator_id, recorded.agent_id, recorded.client_id)
        )
        and (selection.types is None or recorded.topic.partition("/")[0] in selection.types)
        and (selection.actor is None or recorded.actor == selection.actor)
        and (selection.correlation_id is None or recorded.correlation_id == selection.correlation_id)
        and (selection.since is None or recorded.recorded_at >= selection.since)
        and (selection.until is None or recorded.recorded_at <= selection.until)
    )


def _followed(selection: Selection, places: Places, recorded: Recorded) -> Selection:
    """The selection after an event, which may have been of a machine that came to one of its sites or left it."""
    if not isinstance(recorded.event, AgentEnrolled | AgentMoved | EnrollmentRequested) or recorded.agent_id is None:
        return selection
    agent = frozenset({recorded.agent_id})
    agents = places.agents | agent if recorded.event.site_id in places.sites else places.agents - agent
    if agents == places.agents:
        return selection
    return structs.replace(selection, places=structs.replace(places, agents=agents))


class Subscription:
    """Events of one selection, from ``begins_after`` on."""

    def __init__(self, selection: Selection, begins_after: int, bound: int) -> None:
        self.selection = selection
        """Of single sites, it follows the machines that come to them and go."""
        self.begins_after = begins_after
        """Everything later comes through here; everything up to it is the log's to tell."""
        self._queue: asyncio.Queue[Recorded | None] = asyncio.Queue(bound)
        self._ended = False

    def offer(self, recorded: Recorded) -> bool:
        """Take an event in, if it is selected; False if there is no room left, or it was cut off."""
        if self.selection.places is not None:
            self.selection = _followed(self.selection, self.selection.places, recorded)
        if self._ended:
            return False
        if not selects(self.selection, recorded):
            return True
        try:
            self._queue.put_nowait(recorded)
        except asyncio.QueueFull:
            return False
        return True

    def cut_off(self) -> None:
        """Let the reader take what is queued, without a gap, and then end."""
        self._ended = True
        if not self._queue.full():
            self._queue.put_nowait(None)  # wakes a reader that waits; of a full queue none does

    async def next(self) -> Recorded:
        """The next event.

        Raises:
            CutOffError: no more will come.
        """
        if self._ended and self._queue.empty():
            raise CutOffError
        recorded = await self._queue.get()
        if recorded is None:
            raise CutOffError
        return recorded


class LogFeed:
    """Follows the log from its head at the start.

    Args:
        log: what it follows.
        watch: somebody who wants to hear of every event, or at least that some were passed over.
        bound: how many events may wait for one subscriber.
    """

    def __init__(self, log: EventLog, watch: Watcher | None = None, *, bound: int = 1000) -> None:
        self._watch = watch
        self._log = log
        self._bound = bound
        self._subscriptions: set[Subscription] = set()
        self._endings: dict[UUID, set[asyncio.Future[int]]] = {}
        self._open: OrderedDict[UUID, UUID | None] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._wanted = asyncio.Event()
        """Somebody has come who waits for something."""
        self.position = 0
        """Up to here everything has been handed out."""
        self.moved_at = 0
        """The last position at which a machine may have come to a site or left it."""
        self.fault: str | None = None
        """Why it stands still, if it does."""
        self.undecodable: str | None = None
        """The last event that it met and that this program cannot read."""

    async def start(self) -> None:
        self.position = self.moved_at = await self._log.head()
        self._task = asyncio.create_task(self._run(), name="log-feed")

    def leave(self) -> None:
        """Keep nobody waiting any longer: streams end after what they have, and who waits for an ending hears of none.

        Their clients come back to another process, and miss nothing.
        """
        self._stopping = True
        for subscription in tuple(self._subscriptions):
            self._drop(subscription)
        for future in [future for waiting in self._endings.values() for future in waiting]:
            if not future.done():
                future.set_result(self.position)

    async def stop(self) -> None:
        self.leave()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def leaving(self) -> bool:
        """The process stops: who streams is to end."""
        return self._stopping

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    @contextmanager
    def subscribe(self, selection: Selection = ALL) -> Iterator[Subscription]:
        """Hear of events from the present position on, as long as the context is open."""
        subscription = Subscription(selection, self.position, self._bound)
        if self._stopping:
            subscription.cut_off()
        else:
            self._subscriptions.add(subscription)
            self._wanted.set()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @contextmanager
    def ending(self, command_id: UUID) -> Iterator[asyncio.Future[int]]:
        """A future for the position at which a command ends, should it end while the context is open.

        When the process leaves it is the present position, whether the command has ended or not.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._stopping:
            future.set_result(self.position)
        self._endings.setdefault(command_id, set()).add(future)
        self._wanted.set()
        try:
            yield future
        finally:
            future.cancel()
            waiting = self._endings.get(command_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._endings[command_id]

    def knows_open(self, command_id: UUID, tenants: Scope | None) -> bool:
        """Whether a command of these tenants was handed out as queued and not as ended: `ending` will hear of it.

        Where its machine is, is not known here: of a command at a single site it knows nothing.
        """
        return command_id in self._open and (tenants is None or self._open[command_id] in tenants.clients)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except EventLogError as error:
                self.fault = str(error)
                _log.warning("feed_interrupted", error=self.fault, position=self.position)
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        """Hand out what comes, until there is something to pass over."""
        async for page in self._log.follow_loosely(self.position, self._wants):
            self.fault = None
            for one in page:
                if isinstance(one, Mark):
                    self._pass(one)
                else:
                    self._hand_out(one)
            alone = not (self._subscriptions or self._endings)
            if alone and len(page) >= MANY and await self._passed_over():
                return

    async def _passed_over(self) -> bool:
        """While a bulk is under way and nobody here waits for anything, go on from the end of the log a while later.

        What was before that the log itself tells those who subscribe then. That an event of a bulk cannot be read is
        found by the projector, if nobody looks on here.
        """
        self._wanted.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await self._wanted.wait()
        head = await self._log.head()
        if self._subscriptions or self._endings:
            return False
        self.position = self.moved_at = head
        if self._watch is not None:
            self._watch.missed()
        return True

    def _wants(self, mark: Mark) -> bool:
        """Whether an event must be read: somebody may show it, or this program does not know its like."""
        return bool(self._subscriptions) or mark.topic not in TYPES

    def _pass(self, mark: Mark) -> None:
        """Take note of an event that nobody wants to see."""
        self._note(mark, TYPES[mark.topic])

    def _note(self, one: Recorded | Mark, kind: type[Event]) -> None:
        self.position = one.position
        if self._watch is not None:
            self._watch.heard(one)
        if issubclass(kind, AgentEnrolled | AgentMoved | Undecodable):
            self.moved_at = one.position
        self._note_state(one, kind)

    def _hand_out(self, recorded: Recorded) -> None:
        self._note(recorded, type(recorded.event))
        for subscription in tuple(self._subscriptions):
            if not subscription.offer(recorded):
                self._drop(subscription)
        if isinstance(recorded.event, Undecodable):
            # Streams show it as what it is, and /readyz names it; it keeps nobody from what comes after it.
            UNDECODABLE.inc()
            self.undecodable = f"The event at position {recorded.position} cannot be read: {recorded.event.error}"
            _log.error("event_undecodable", position=recorded.position, error=recorded.event.error)

    def _note_state(self, one: Recorded | Mark, kind: type[Event]) -> None:
        if kind is CommandQueued:
            self._open[one.originator_id] = one.client_id
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        elif kind in ENDINGS:
            self._open.pop(one.originator_id, None)
            for future in self._endings.get(one.originator_id, ()):
                if not future.done():
                    future.set_result(one.position)

    def _drop(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        subscription.cut_off()
