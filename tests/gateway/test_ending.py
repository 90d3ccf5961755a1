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


async def test_who_is_cancelled_while_it_ends_others_has_ended_them_first() -> None:
    """However often it is asked itself: what it started is not left behind."""
    go_on = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # It is asked again and again, and has something to finish.
            while not go_on.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await go_on.wait()
            raise

    async def owner(owned: asyncio.Task[None]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await end([owned])

    owned = asyncio.create_task(slow())
    owning = asyncio.create_task(owner(owned))
    await asyncio.sleep(0)
    ending = asyncio.create_task(end([owning]))
    for _ in range(3):
        await asyncio.sleep(0)
        owning.cancel()
    await asyncio.sleep(0)
    assert not owned.done()
    assert not owning.done()
    go_on.set()
    await ending
    assert owned.cancelled()
    assert owning.cancelled()
