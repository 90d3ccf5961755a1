"""A worker killed in the middle: the next one goes on, nothing is missing, and what comes twice has the same id."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import psycopg

from gateways.local.roster import list_processes
from tests.forward.receivers import Place, WebReceiver, all_of, until


@asynccontextmanager
async def worker(environment: dict[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`fleetlog serve worker`, killed at the end whatever it does."""
    with log.open("ab") as stream:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateways.cli", "serve", "worker"),
            env={**os.environ, **environment},
            stdout=stream,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_worker_is_killed_in_the_middle(here: Place, valkey_url: str, tmp_path: Path) -> None:
    """With a batch on its way, taken and not answered; how far the next one is stands on its page of metrics."""
    key = tmp_path / "key"
    key.write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    key.chmod(0o600)
    environment = {
        "FLEETLOG_POSTGRES_URL": here.url,
        "FLEETLOG_REDIS_URL": valkey_url,
        "FLEETLOG_SECRETS_KEY_FILE": str(key),
        "FLEETLOG_FORWARD_ALLOWED_NETWORKS": "127.0.0.1",
        "FLEETLOG_DATA_DIR": str(tmp_path),
    }
    log = tmp_path / "log"
    await here.grow(120)
    async with WebReceiver().serving() as receiver:
        one, _ = await here.add({"kind": "webhook", "url": receiver.url, "batch": 7}, name="SIEM")
        receiver.holds = 5
        async with worker(environment, log) as first:
            await until(lambda: len(receiver.requests) >= 5 or first.returncode is not None)
            assert first.returncode is None, log.read_text()
        receiver.go_on.set()
        assert here.row(one)[0] == receiver.positions[4 * 7 - 1]
        async with worker(environment, log):
            await here.grow(20, seed=2)
            head = await here.log.head()
            await until(lambda: here.row(one)[:1] == (head,))
            text = "".join(await metrics(here))
        assert len(receiver.events) - len(receiver.positions) == 7
        assert receiver.positions == [event.position for event in await all_of(here.log)]
    assert 'fleetlog_forward_lag{destination="SIEM"} 0.0' in text
    assert 'fleetlog_forwarded_events_total{destination="SIEM"}' in text
    assert 'fleetlog_forward_failing{destination="SIEM"} 0.0' in text


async def metrics(here: Place) -> list[str]:
    async with await psycopg.AsyncConnection.connect(here.url) as connection:
        urls = {row.status_url for row in await list_processes(connection) if row.lives()}
    async with httpx2.AsyncClient(trust_env=False) as client:
        return [(await client.get(f"{url}/metrics")).text for url in urls]
