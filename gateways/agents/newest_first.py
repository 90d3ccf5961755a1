"""Whose turn it is where more come than can be served: who came last.

Whoever has waited long is about to give up, or has: served in the order of arrival, a crowd that is a little too large
has all the work done for people who have just left, who come back and queue again, and nobody ever gets in. Served from
the other end, each piece of work is for somebody who is still there, and the crowd shrinks by as much as can be done.
"""

import asyncio
import time


class NewestFirst:
    """Lets callers through, one in each turn of the event loop, so that everything else has its turns in between.

    Args:
        patience_s: who waited longer is told that it is too late.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waiting: list[tuple[float, asyncio.Future[bool]]] = []
        self._calling = False

    async def turn(self) -> bool:
        """Wait for one's turn; returns whether it came in time."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((time.monotonic(), turn))
        if not self._calling:
            self._calling = True
            loop.call_soon(self._call)
        return await turn

    def _call(self) -> None:
        called = False
        while self._waiting and not called:
            since, turn = self._waiting.pop()
            if not turn.done():  # it may have been cancelled
                called = time.monotonic() - since <= self._patience_s
                turn.set_result(called)
        self._calling = called
        if called:
            asyncio.get_running_loop().call_soon(self._call)
