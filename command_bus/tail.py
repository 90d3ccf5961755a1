"""The end of the log as it moves on: one LISTEN connection for all who follow in a process.

NOTIFY brings the position that its commit came to. Positions become visible in their order and a notification follows
its commit, so whatever lies at or below that position can be read by then (0001_event_log.sql). What was notified while
the connection was away is lost; so the head is also asked for at each connect and every `POLL_S`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import psycopg
import structlog

from command_bus.event_log import LogUnavailableError
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

    def reached(self, position: int) -> None:
        """The log is known to be committed up to a position."""
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
            if told is not None and told.isdecimal():
                self.reached(int(told))
            else:
                self._ask_now.set()

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
