"""Connections to a NATS server that takes its time over letting somebody in."""

import asyncio

import pytest
from nats.aio.client import Client

from agent import link_nats
from gateways.agents import patience


@pytest.mark.parametrize("kind", [link_nats.PatientClient, patience.PatientClient])
async def test_a_server_asks_before_it_answers(kind: type[Client]) -> None:
    """Asked for a sign of life before it has been let in, a client gives one, and hears what it subscribes to."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id": "slow", "max_payload": 1048576, "headers": true}\r\n')
        while line := await reader.readline():
            heard.append(line)
            if line == b"PING\r\n" and b"PONG\r\n" not in heard:
                writer.write(b"PING\r\n")  # as a server does two seconds after a connection came
                heard.append(await reader.readline())
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
            if line.startswith(b"SUB"):
                writer.write(b"MSG news " + line.split()[2] + b" 5\r\nhello\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = kind()
        await client.connect(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", allow_reconnect=False)
        subscription = await client.subscribe("news")
        assert (await subscription.next_msg(5)).data == b"hello"
        await client.close()
    assert b"PONG\r\n" in heard
