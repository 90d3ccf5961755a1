"""Where more come than can be served, those are served who still wait for it."""

import asyncio

from gateways.agents.newest_first import NewestFirst


async def test_who_came_last_is_served_first() -> None:
    """A crowd that waits is served from its end, whoever comes meanwhile goes first, and everybody has a turn."""
    turns = NewestFirst(patience_s=60.0)
    served: list[int] = []

    async def come(number: int) -> None:
        assert await turns.turn()
        served.append(number)
        if number == 2:
            crowd.append(asyncio.create_task(come(9)))

    crowd = [asyncio.create_task(come(number)) for number in range(5)]
    while not all(task.done() for task in crowd):
        await asyncio.gather(*crowd)
    assert served.index(4) < served.index(3) < served.index(2) < served.index(9) < served.index(0)
    assert sorted(served) == [0, 1, 2, 3, 4, 9]


async def test_who_waited_too_long_is_told_so() -> None:
    """With no patience at all nobody's turn comes in time, and nobody is left waiting."""
    turns = NewestFirst(patience_s=-1.0)
    assert await asyncio.gather(*(turns.turn() for _ in range(3))) == [False, False, False]


async def test_who_left_does_not_hold_up_the_others() -> None:
    """A turn of somebody who was cancelled meanwhile goes to the next."""
    turns = NewestFirst(patience_s=60.0)
    here, gone = asyncio.create_task(turns.turn()), asyncio.create_task(turns.turn())
    await asyncio.sleep(0)
    gone.cancel()
    assert await here
