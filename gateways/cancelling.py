"""Ending tasks."""

import asyncio
from collections.abc import Iterable
from typing import Any

_ASK_AGAIN_S = 0.5


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended; what they raise is of no more interest.

    Once is not always enough: before Python 3.12 `asyncio.wait_for`, by which nats-py and psycopg's pool wait, returns
    its result in place of a cancellation that comes in the same turn of the loop (python/cpython#86296).

    Whoever is cancelled meanwhile hears of it when they have ended: a task that ends others as it ends itself is asked
    again, too, and would leave them behind, with what they use closed.

    Raises:
        asyncio.CancelledError: whoever waits was cancelled; all have ended.
    """
    left = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while left:
        for task in left:
            task.cancel()
        try:
            _, left = await asyncio.wait(left, timeout=_ASK_AGAIN_S)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
