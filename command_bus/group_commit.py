"""Group commit: appends that come while a commit is under way share the next one.

Nothing waits on purpose. A lone append is committed at once; under load, groups grow to what arrives in the time of
one commit, and a caller pays a share of a commit in place of a whole one.
"""

import asyncio
import collections
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from prometheus_client import Gauge

from command_bus.committer import Call, Committer
from command_bus.event_log import EventLogError, LogUnavailableError
from command_bus.rows import COMPOSITE
from domain.event import Change, Metadata

MAX_GROUP_EVENTS = 2_000
"""Other writers wait for the log's lock while a group commits; so many keep that to some milliseconds."""
MAX_WAITING_EVENTS = 20_000


NOBODY: Mapping[int, Sequence[UUID]] = {}
WAITING = Gauge("fleetlog_log_waiting_events", "Events that wait for their group commit.")


class _Caller:
    """Who waits for one call or for several that were made together."""

    __slots__ = ("calls", "done", "left")

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.left = len(calls)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settled(self) -> None:
        """One of its calls has its outcome."""
        self.left -= 1
        # A caller that was cancelled meanwhile is not told; its events are recorded all the same.
        if not self.left and not self.done.done():
            self.done.set_result(None)


class GroupCommit:
    """Gathers append calls of one event loop and has them committed by one thread.

    Args:
        committer: records groups.
        timeout_s: how long a call waits for a database that is away.
    """

    def __init__(self, committer: Committer, *, timeout_s: float) -> None:
        self._committer = committer
        self._timeout_s = timeout_s
        self._waiting: collections.deque[tuple[Call, _Caller]] = collections.deque()
        self._waiting_events = 0
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fleetlog-append")
        self._pump: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._pump = asyncio.create_task(self._run(), name="group-commit")

    async def stop(self) -> None:
        """Commit what is waiting, then end."""
        self._closing = True
        self._came.set()
        self._room.set()
        if self._pump is not None:
            await self._pump
        self._thread.shutdown()

    async def append(self, changes: Sequence[Change], metadata: Metadata, erased: Sequence[UUID] = ()) -> list[int]:
        """See `EventLog.append`; the keys of who is erased are destroyed with it."""
        (outcome,) = await self.append_each([(changes, metadata)], {0: erased} if erased else NOBODY)
        if isinstance(outcome, list):
            return outcome
        raise outcome

    async def append_each(
        self, items: Sequence[tuple[Sequence[Change], Metadata]], erased: Mapping[int, Sequence[UUID]] = NOBODY
    ) -> list[list[int] | EventLogError]:
        """See `EventLog.append_each`; some items, by their index, destroy keys with it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while self._waiting_events >= MAX_WAITING_EVENTS and not self._closing:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise LogUnavailableError("Too many events wait to be recorded; nothing was recorded.") from None
        if self._closing or self._pump is None:
            raise LogUnavailableError("The event log is not running; nothing was recorded.")
        # Encoded here, so that the server commits one group while Python packs the next.
        deadline = time.monotonic() + self._timeout_s
        calls = [Call(changes, metadata, deadline, COMPOSITE.rows(changes, metadata)) for changes, metadata in items]
        for index, subjects in erased.items():
            calls[index].erased = subjects
        caller = _Caller(calls)
        self._waiting.extend((call, caller) for call in calls)
        self._waiting_events += sum(len(call.rows) for call in calls)
        self._came.set()
        await caller.done
        return [_outcome(call) for call in calls]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._came.wait()
            group = self._next_group()
            if not group:
                if self._closing:
                    return
                self._came.clear()
                continue
            try:
                await loop.run_in_executor(self._thread, self._committer.commit, [call for call, _ in group])
            except Exception as error:  # noqa: BLE001 - it goes to those who wait; the pump must outlive it
                for call, _ in group:
                    call.outcome = call.outcome if call.outcome is not None else error
            for _, caller in group:
                caller.settled()

    def _next_group(self) -> list[tuple[Call, _Caller]]:
        """Take what waits, in order; calls that want the same place in a stream go into different groups."""
        group = []
        put_off = []
        keys: set[tuple[UUID, int]] = set()
        events = 0
        while self._waiting and events < MAX_GROUP_EVENTS:
            call, caller = self._waiting.popleft()
            if keys.isdisjoint(call.keys):
                keys.update(call.keys)
                events += len(call.rows)
                group.append((call, caller))
            else:
                put_off.append((call, caller))
        self._waiting.extendleft(reversed(put_off))
        self._waiting_events -= events
        WAITING.set(self._waiting_events)
        self._room.set()
        return group


def _outcome(call: Call) -> list[int] | EventLogError:
    """What a call came to.

    Raises:
        Exception: something other than the log's own errors went wrong.
    """
    if isinstance(call.outcome, list | EventLogError):
        return call.outcome
    raise call.outcome or AssertionError("A committed group left a call without an outcome.")
