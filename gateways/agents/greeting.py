"""Whether NATS servers are there: they speak first, before anybody has to log in."""

import asyncio
import json
from collections.abc import Sequence
from urllib.parse import urlsplit

_PATIENCE_S = 1.5


async def greeting(urls: Sequence[str]) -> str:
    """The version of whichever of the servers greets first: one that is away keeps nobody waiting.

    Args:
        urls: of the servers.

    Raises:
        OSError: none of them can be reached.
        ValueError: what answers is not NATS.
    """
    asked = [asyncio.create_task(_greeting(url)) for url in urls]
    fault: Exception = ValueError("no address")
    try:
        for first in asyncio.as_completed(asked):
            try:
                return await first
            except (OSError, ValueError) as error:
                fault = error
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    raise fault


async def greetings(urls: Sequence[str]) -> tuple[str, list[str]]:
    """The version of the servers, and which of them are away.

    Raises:
        OSError: all are.
        ValueError: what answers is not NATS.
    """
    said = await asyncio.gather(*map(_greeting, urls), return_exceptions=True)
    versions = [one for one in said if isinstance(one, str)]
    if not versions:
        return await greeting(urls), []
    return versions[0], [url for url, one in zip(urls, said, strict=True) if not isinstance(one, str)]


async def _greeting(url: str) -> str:
    where = urlsplit(url)
    async with asyncio.timeout(_PATIENCE_S):
        reader, writer = await asyncio.open_connection(where.hostname, where.port or 4222)
        try:
            line = await reader.readline()
        finally:
            writer.close()
    if not line.startswith(b"INFO "):
        raise ValueError(f"what answers at {where.hostname}:{where.port} is not NATS")
    return str(json.loads(line[5:])["version"])
