"""A connection that ends while there is something to say: it is known to have ended, and another takes its place."""

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from agent import link_nats
from agent.identity import AgentKey
from tests.agent.scripted import ScriptedGateway
from tests.faults.proxies import Loop, Proxy, tcp

MUCH = b"x" * 65536
"""A few of these and the kernel takes no more from a network that stands still."""


async def _unasked(_: bytes) -> bytes:
    raise AssertionError("Nothing was sent to this agent.")


@pytest.mark.parametrize("stays_still", [False, True])
async def test_it_is_lost_also_with_words_on_their_way(
    gateway: ScriptedGateway, stays_still: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reset or never heard of again, with much unsaid: whoever keeps the link up is told, and soon."""
    monkeypatch.setattr(link_nats, "_PING_EVERY_S", 1)
    loop = Loop()
    proxy = Proxy(loop, tcp(lambda: urlsplit(gateway.nats_url.partition(",")[0]).port or 0), nats=True)
    key = AgentKey.load_or_create(gateway.state_dir)
    session = await link_nats.connect(gateway.identity(), key, f"nats://127.0.0.1:{proxy.port}", _unasked, 5)
    speaking: list[asyncio.Task[None]] = []
    try:
        proxy.use("stalled")
        speaking = [asyncio.create_task(session.live(uuid4(), MUCH)) for _ in range(400)]
        await asyncio.sleep(0.3)
        if not stays_still:
            proxy.reset()
        async with asyncio.timeout(10):
            assert await session.lost()
            await session.close()
    finally:
        for task in speaking:
            task.cancel()
        await asyncio.gather(*speaking, return_exceptions=True)
        proxy.close()
        loop.stop()
