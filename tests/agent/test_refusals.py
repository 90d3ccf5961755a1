"""Reports of what was refused: few, kept on disk, and none of somebody who only came a moment too early."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from agent.journal import Journal
from agent.kept_refusals import MAX_KEPT
from agent.reading import Named
from agent.refusals import SINGLY, Refusals
from agent.threads import OneThread
from schema.wire import RefusalReport

KNOWN = b"known"


class Noted:
    """What notes refusals, in a state directory."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder)
        self.disk = OneThread("journal")
        self.kept = asyncio.Event()
        self.refusals = Refusals(
            self.journal,
            self.disk,
            "run",
            knows=lambda key: key == KNOWN,
            now=lambda: datetime.now(UTC),
            on_kept=self.kept.set,
            window_s=0.05,
        )

    async def sent(self) -> list[RefusalReport]:
        """All that waits, as one that sends it takes it."""
        found = []
        while (report := await self.disk.call(self.journal.refusals.oldest)) is not None:
            found.append(report)
            await self.disk.call(self.journal.refusals.forget, report)
        return found

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While its minutes go by."""
        task = asyncio.create_task(self.refusals.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def close(self) -> None:
        self.disk.close()
        self.journal.close()


@pytest.fixture
async def noted(tmp_path: Path) -> AsyncIterator[Noted]:
    found = Noted(tmp_path)
    yield found
    found.close()


async def test_a_flood_fills_neither_the_disk_nor_the_log(noted: Noted) -> None:
    """The first of a minute are told one by one and the rest by their number, whether the server hears or not."""
    orders = [Named(uuid4(), 1) for _ in range(50)]
    for _ in range(20):
        await noted.refusals.refused("delivery", "bad_signature", "no", orders, b"key")
    first = await noted.sent()
    assert [one.command_id for one in first] == [one.command_id for one in orders[:SINGLY]]
    assert all((one.run, one.attempt, one.key, one.count) == ("run", 1, b"key", 1) for one in first)
    noted.kept.clear()
    async with noted.running(), asyncio.timeout(10):
        await noted.kept.wait()
        (rest,) = await noted.sent()
    assert (rest.count, rest.command_id, rest.code) == (990, None, "bad_signature")
    numbers = [one.number for one in [*first, rest]]
    assert numbers == sorted(set(numbers)), "each has a number of its own, in the order in which they are sent"
    # Nobody hears of them for a long time.
    for _ in range(MAX_KEPT):
        noted.refusals._singly = 0
        await noted.refusals.refused("delivery", "bad_signature", "no", orders[:2])
    kept = await noted.sent()
    assert len(kept) == MAX_KEPT
    noted.kept.clear()
    async with noted.running(), asyncio.timeout(10):
        await noted.kept.wait()
    assert sum(one.count for one in [*kept, *await noted.sent()]) == 2 * MAX_KEPT


async def test_a_key_that_is_heard_of_next_is_no_strangers(noted: Noted) -> None:
    """What came under a key that the server has is forgotten; what came under another is told, when it has had time."""
    for key in (KNOWN, b"strange"):
        noted.refusals.suspect("delivery", key, [Named(uuid4(), 1)] * 12)
    assert await noted.sent() == []
    async with noted.running(), asyncio.timeout(10):
        found: list[RefusalReport] = []
        while sum(one.count for one in found) < 12:
            await noted.kept.wait()
            noted.kept.clear()
            found += await noted.sent()
    assert {(one.code, one.key) for one in found} == {("unknown_key", b"strange"), ("unknown_key", b"")}
    assert sum(one.count for one in found) == 12
