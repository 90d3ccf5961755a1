"""The engine alone, in a process where the gateway's would be: requests, or answers, of bytes that mean nothing.

Its standard input tells it what to do (one line of JSON, a `Task`); where it answers, it does so until that input ends.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from gateways.agents.connection import connect
from gateways.agents.keys import load_keys
from gateways.local.roles import loop_factory

REQUEST_S = 30.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    database_url: str
    """Where the keys are that let it in."""
    nats_url: str
    size: int
    """Of a request, or of an answer."""
    ask: list[str] = []
    """Subjects to send one request each, or ..."""
    serve: str = ""
    """... a subject on which to answer."""
    at_once: int = 256


async def _main() -> None:
    line = await asyncio.to_thread(sys.stdin.readline)
    task = msgspec.json.decode(line, type=Task)
    keys = load_keys(task.database_url)
    client = await connect([task.nats_url], lambda: keys.gateway, "bench-raw")
    if task.serve:
        await _serve(client, task)
    else:
        _say(f"{await _ask(client, task):.6f}")
    await client.close()


async def _serve(client: Client, task: Task) -> None:
    body = bytes(task.size)

    async def answer(message: Msg) -> None:
        await message.respond(body)

    await client.subscribe(task.serve, cb=answer, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await client.flush()
    _say("ready")
    await asyncio.to_thread(sys.stdin.read)


async def _ask(client: Client, task: Task) -> float:
    """Seconds for all of them."""
    body = bytes(task.size)
    left = iter(task.ask)

    async def asker() -> None:
        for subject in left:
            await client.request(subject, body, timeout=REQUEST_S)

    begun = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(task.at_once)))
    return time.perf_counter() - begun


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextlib.asynccontextmanager
async def raw_process(task: Task) -> AsyncIterator[str]:
    """Run a task in a process of its own.

    Yields:
        What it said: that it is ready, or the seconds that its requests took.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateways.bench.raw_nats", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("A process without pipes.")
    try:
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        await process.stdin.drain()
        said = (await process.stdout.readline()).decode().strip()
        if not said:
            raise RuntimeError("The raw side said nothing; its error is above.")
        yield said
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_main())
