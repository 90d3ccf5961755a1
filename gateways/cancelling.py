"""Ending tasks."""

import asyncio
from collections.abc import Iterable
from typing import Any

_ASK_AGAIN_S = 0.5


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended; what they raise is of no more interest.

    Once is not always enough: before Python 3.12 `asyncio.wait_for`, by which nats-py and psycopg's pool wait, returns
    its result in place of a cancellation that comes in the same turn of the loop (python/cpython#86296).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_ASK_AGAIN_S)
