"""A cancellation counts, whatever a library makes of it."""

import asyncio

import pytest

from agent.cancellation import heeding_cancellation


async def swallows(future: asyncio.Future[str]) -> str:
    """As `asyncio.wait_for` did before Python 3.12: what has come is returned, and the cancellation is lost."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if future.done():
            return future.result()
        raise


async def test_what_is_swallowed_is_heeded() -> None:
    """A result and a cancellation that come together end the task as cancelled."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(heeding_cancellation(swallows(future)))
    await asyncio.sleep(0)
    future.set_result("it came")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_does_not_hide_it_either() -> None:
    """Nor does an exception that comes with the cancellation."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(heeding_cancellation(swallows(future)))
    await asyncio.sleep(0)
    future.set_exception(ValueError("it failed"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_otherwise_nothing_changes() -> None:
    """Results and exceptions come through, also in the cleaning up of a task that was cancelled before."""
    loop = asyncio.get_running_loop()
    cleaned: list[str] = []

    async def cleans_up() -> None:
        future: asyncio.Future[str] = loop.create_future()
        try:
            await asyncio.Event().wait()
        finally:
            loop.call_soon(future.set_result, "clean")
            cleaned.append(await heeding_cancellation(swallows(future)))

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["clean"]

    failing: asyncio.Future[str] = loop.create_future()
    failing.set_exception(ValueError("it failed"))
    with pytest.raises(ValueError, match="it failed"):
        await heeding_cancellation(swallows(failing))
