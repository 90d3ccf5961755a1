"""Gathers what arrives close together, so that one query or one commit serves it all.

While one group is being worked on the next one gathers: nothing waits for company, and a busy process forms large
groups by itself (group commit's trick, applied to any work).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class OverloadedError(Exception):
    """More is waiting than may wait; try again in a moment."""

    code = "overloaded"


class Batcher(Generic[Item, Answer]):
    """One kind of work, done in groups.

    Args:
        work: does a group; returns an answer for each item, in order. Where it raises, each of the group's callers
            gets that exception.
        name: of its tasks.
        size: the largest group.
        parallel: so many groups may be under way at once.
        bound: so many items may wait; more are refused.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Answer]]],
        *,
        name: str,
        size: int = 500,
        parallel: int = 2,
        bound: int = 20_000,
    ) -> None:
        self._work = work
        self._name = name
        self._size = size
        self._parallel = parallel
        self._bound = bound
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._groups: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Answer:
        """Have one item done.

        Raises:
            OverloadedError: the queue is full.
        """
        if len(self._waiting) >= self._bound:
            raise OverloadedError
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._groups) < self._parallel:
            self._begin()
        return await future

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is under way."""
        while self._groups:
            await asyncio.wait(self._groups)

    def _begin(self) -> None:
        task = asyncio.create_task(self._run(), name=f"batch-{self._name}")
        self._groups.add(task)
        task.add_done_callback(self._groups.discard)  # of one that was cancelled before it began

    async def _run(self) -> None:
        try:
            await self._work_off()
        finally:
            # In the same step that found nothing waiting. A callback comes a round of the loop later: who submitted in
            # between, with every group at its end, would have counted on one of them, and waited for the next to come.
            self._groups -= {asyncio.current_task()}

    async def _work_off(self) -> None:
        # Whatever else is ready to run in this round of the loop may still join the group.
        await asyncio.sleep(0)
        while self._waiting:
            group, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            try:
                answers = await self._work([item for item, _ in group])
            except Exception as error:  # noqa: BLE001 -- it is not swallowed: every caller of the group gets it
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
