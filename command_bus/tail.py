"""The end of the log as it moves on: one LISTEN connection for all who follow in a process.

NOTIFY brings the position that its commit came to. Positions become visible in their order and a notification follows
its commit, so whatever lies at or below that position can be read by then (0001_event_log.sql). What was notified while
the connection was away is lost; so the head is also asked for at each connect and every `POLL_S`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import psycopg
import structlog

from command_bus.event_log import LogUnavailableError, Mark
from command_bus.marks import RecentMarks
from command_bus.marks import told as read_told
from command_bus.postgres import listen
from command_bus.recorder import CHANNEL

_log = structlog.get_logger(__name__)

POLL_S = 0.5


class Tail:
    """Knows the head of the log while anybody follows it.

    Args:
        url: the database.
        head: asks for the head now.
        name: for the connection.
    """

    def __init__(self, url: str, head: Callable[[], Awaitable[int]], *, name: str) -> None:
        self._url = url
        self._ask = head
        self._name = name
        self._ask_now = asyncio.Event()
        self._moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._recent = RecentMarks()
        self._told: int | None = None
        """The position of the last notification, since when none was missed."""
        self.head = 0

    async def wait_beyond(self, position: int, timeout_s: float) -> bool:
        """Wait until the head is beyond a position.

        Returns:
            False if it was not in that time.
        """
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._listen(), name="tail-listen"),
                asyncio.create_task(self._poll(), name="tail-poll"),
            ]
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.head <= position:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            moved = self._moved
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await moved.wait()
        return True

    def between(self, after: int, upto: int) -> list[Mark] | None:
        """What was recorded after a position and up to another, where that is known without reading it."""
        return self._recent.between(after, upto)

    def reached(self, position: int, marks: Sequence[Mark] | None = None) -> None:
        """The log is known to be committed up to a position.

        Args:
            position: which.
            marks: what was just committed up to there, without a gap.
        """
        if marks:
            self._recent.add(marks[0].position - 1, position, marks)
        if position > self.head:
            self.head = position
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _listen(self) -> None:
        async for told in listen(self._url, CHANNEL, name=self._name):
            try:
                position, marks = read_told(told or "")
            except ValueError as error:
                if told is not None:
                    _log.warning("notification_unreadable", error=str(error))
                # That, or what was said before now, was not heard.
                self._told = None
                self._ask_now.set()
                continue
            if marks is not None:
                self._recent.add(marks[0].position - 1 if self._told is None else self._told, position, marks)
            self._told = position
            self.reached(position)

    async def _poll(self) -> None:
        while True:
            self._ask_now.clear()
            try:
                self.reached(await self._ask())
            except (LogUnavailableError, psycopg.Error) as error:
                _log.warning("event_log_tail_waits", error=str(error).strip())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._ask_now.wait()
