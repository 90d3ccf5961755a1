"""Keep a cancellation that a library swallows.

Before Python 3.12 `asyncio.wait_for` returns the result of what it waited for when that came in the same turn of the
loop as the cancellation (python/cpython#86296), and nats-py waits with nothing else. A loop whose cancellation is lost
in that way goes on for ever, and a task group above it does not ask again.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def heeding_cancellation(work: Awaitable[_T]) -> _T:
    """Await ``work``, and end as cancelled if that was asked for meanwhile, whatever ``work`` made of it."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("This has to run in a task.")
    asked_before = task.cancelling()
    try:
        return await work
    finally:
        if task.cancelling() > asked_before:
            raise asyncio.CancelledError
