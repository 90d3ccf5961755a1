"""Places among those that are asked at once, lent for a while only."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Places:
    """A bound on what is under way that those who hang do not use up.

    Whoever takes longer than its due gives its place up and goes on without one: so many that hang slow the others down
    by a moment each at the most, and never stop them.

    Args:
        count: of places.
        due_s: how long one is kept.
    """

    def __init__(self, count: int, due_s: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._due_s = due_s

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a place, and have it until the context ends or it has been kept for long enough."""
        await self._free.acquire()
        kept = True

        def give_up() -> None:
            nonlocal kept
            kept = False
            self._free.release()

        timer = asyncio.get_running_loop().call_later(self._due_s, give_up)
        try:
            yield
        finally:
            timer.cancel()
            if kept:
                self._free.release()
