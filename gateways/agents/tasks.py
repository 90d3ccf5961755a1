"""Short tasks that one owner starts, watches and waits for."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from gateways.cancelling import end

_log = structlog.get_logger()


class Tasks:
    """A bounded set of tasks. One that fails is logged with its traceback: its work is repeated by whoever asked.

    Args:
        name: of the tasks.
        bound: so many may be under way; `full` says when.
    """

    def __init__(self, name: str, bound: int = 20_000) -> None:
        self._name = name
        self._bound = bound
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        return len(self._tasks) >= self._bound

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("task_failed", task=self._name, exc_info=task.exception())

    async def drain(self, timeout_s: float) -> None:
        """Wait for all, and end those that take longer."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            await end(late)
