"""Groups form by themselves, and nobody is left waiting when they end."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.agents.batches import Batcher, OverloadedError


async def double(items: list[int]) -> Sequence[int]:
    await asyncio.sleep(0)
    return [2 * item for item in items]


async def test_who_comes_as_all_groups_end_is_served() -> None:
    """It is told before the loop has heard that the groups are over, and submits again at once."""
    batcher: Batcher[int, int] = Batcher(double, name="test", size=1)

    async def twice() -> list[int]:
        return [await batcher.submit(1), await batcher.submit(2)]

    async with asyncio.timeout(10):
        assert await asyncio.gather(twice(), batcher.submit(3)) == [[2, 4], 6]


@given(st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=6), st.integers(1, 3), st.integers(1, 3))
async def test_everybody_gets_an_answer(callers: list[list[int]], size: int, parallel: int) -> None:
    """Whoever submits whenever, in whatever groups, hears of their own item."""
    batcher: Batcher[int, int] = Batcher(double, name="test", size=size, parallel=parallel)

    async def caller(pauses: list[int]) -> None:
        for item, pause in enumerate(pauses):
            for _ in range(pause):
                await asyncio.sleep(0)
            assert await batcher.submit(item) == 2 * item

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for pauses in callers:
            tasks.create_task(caller(pauses))
    await batcher.drain()


async def test_a_failure_is_its_groups_alone_and_a_full_queue_refuses() -> None:
    """Each caller of a group that fails gets the error; the next group is served; more than may wait is refused."""
    gate = asyncio.Event()

    async def work(items: list[int]) -> Sequence[int]:
        await gate.wait()
        if 0 in items:
            raise ValueError(items)
        return items

    batcher: Batcher[int, int] = Batcher(work, name="test", size=2, parallel=1, bound=3)
    waiting = [asyncio.create_task(batcher.submit(item)) for item in (0, 1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await batcher.submit(4)
    gate.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in told] == [ValueError, ValueError, int]
