"""Connections to NATS that end in a way of their own: a gateway makes another, a simulated agent knows that it has."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from nats.aio.client import Client

from domain.ids import AgentId
from gateways.agents import connection
from gateways.agents.keys import Key
from gateways.bench.simulated import SimulatedAgent, SimulatedIdentity
from tests.faults.proxies import Loop, Proxy, tcp

MUCH = b"x" * 65536


@asynccontextmanager
async def connected(*urls: str) -> AsyncIterator[tuple[Client, asyncio.Event]]:
    """A connection, and what is set when it came back."""
    came_back = asyncio.Event()

    async def on_reconnect() -> None:
        came_back.set()

    key = Key(os.urandom(32))
    client = await connection.connect(urls, lambda: key, "test", on_reconnect=on_reconnect)
    try:
        yield client, came_back
    finally:
        await client.close()


async def hears(client: Client) -> bool:
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(inbox, b"hello")
    return (await subscription.next_msg(5)).data == b"hello"


async def test_an_error_of_the_server_is_not_the_end(nats_url: str) -> None:
    """Whatever the server ends the connection for."""
    async with asyncio.timeout(20), connected(*nats_url.split(",")) as (client, came_back):
        assert client._transport is not None
        client._transport.write(b"NONSENSE\r\n")
        await came_back.wait()
        assert await hears(client)


async def test_a_connection_that_stands_still_is_given_up(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with much that is still to be sent, for which the kernel would wait for a quarter of an hour."""
    monkeypatch.setattr(connection, "_PING_EVERY_S", 1)
    loop = Loop()
    proxies = [Proxy(loop, tcp(lambda: urlsplit(nats_url.partition(",")[0]).port or 0), nats=True) for _ in range(2)]
    urls = [f"nats://127.0.0.1:{proxy.port}" for proxy in proxies]
    try:
        async with asyncio.timeout(30), connected(*urls) as (client, came_back):
            (used,) = (proxy for proxy in proxies if proxy.connections)
            used.use("stalled")
            for _ in range(400):
                await client.publish("somewhere", MUCH)
            await came_back.wait()
            assert await hears(client)
    finally:
        for proxy in proxies:
            proxy.use("open")
            proxy.close()
        loop.stop()


async def test_a_simulated_agent_knows_that_its_connection_has_ended(nats_url: str) -> None:
    """Also with much unsaid, which nobody can be sent any more."""
    loop = Loop()
    proxy = Proxy(loop, tcp(lambda: urlsplit(nats_url.partition(",")[0]).port or 0), nats=True)
    identity = SimulatedIdentity(AgentId(uuid4()), os.urandom(32))
    agent = SimulatedAgent(identity, Key(os.urandom(32)).public)
    speaking: list[asyncio.Task[None]] = []
    try:
        async with asyncio.timeout(20):
            await agent.connect([f"nats://127.0.0.1:{proxy.port}"])
            proxy.use("stalled")
            speaking = [asyncio.create_task(agent.client.publish("somewhere", MUCH)) for _ in range(400)]
            await asyncio.sleep(0.3)
            proxy.reset()
            await agent.closed.wait()
    finally:
        for task in speaking:
            task.cancel()
        await asyncio.gather(*speaking, return_exceptions=True)
        await agent.close()
        proxy.close()
        loop.stop()
