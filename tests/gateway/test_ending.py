"""Tasks are ended for certain."""

import asyncio
import contextlib

from gateways.cancelling import end


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again() -> None:
    """`end` returns only when all have ended, though one ignores the first cancellation and another fails."""

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("gone")

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await end(tasks)
    assert [task.done() for task in tasks] == [True, True]
    assert tasks[0].cancelled()
    assert isinstance(tasks[1].exception(), OSError)
    await end(tasks)
