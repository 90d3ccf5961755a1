"""Background work on a real Valkey."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from command_bus.worker import Job, JobQueue, WorkerService, queue_depths
from gateways.local.jobs import all_jobs
from gateways.local.servers import EmbeddedValkey
from gateways.settings import Settings, SettingsError


def job(run: Callable[[], Mapping[str, Any]]) -> Job:
    return Job(name="work", period_s=3600, run=run)


async def until(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 -- polled, within a timeout
            await asyncio.sleep(0.02)


async def test_runs_what_is_enqueued(valkey_url: str) -> None:
    """A job that one process enqueues is run by the worker, and leaves nothing behind."""
    done = threading.Event()

    def run() -> dict[str, int]:
        done.set()
        return {"seen": 1}

    queue = JobQueue(valkey_url, [job(run)])
    queue.enqueue("work")
    assert (await queue_depths(valkey_url))[0].waiting == 1
    worker = WorkerService(queue, threads=1)
    await worker.start()
    assert await asyncio.to_thread(done.wait, 10)
    async with asyncio.timeout(10):
        while (depth := (await queue_depths(valkey_url))[0]) and depth.waiting + depth.active:  # noqa: ASYNC110 -- polled, within a timeout
            await asyncio.sleep(0.02)
    await worker.stop()
    assert depth.dead == 0


async def test_a_job_that_fails_is_tried_again(valkey_url: str) -> None:
    """An error costs a retry, not the job."""
    tries: list[int] = []

    def run() -> dict[str, int]:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return {}

    queue = JobQueue(valkey_url, [job(run)], min_backoff_ms=10)
    worker = WorkerService(queue, threads=1)
    await worker.start()
    queue.enqueue("work")
    await until(lambda: len(tries) == 3)
    await worker.stop()


async def test_stopping_finishes_what_runs(valkey_url: str) -> None:
    """A job under way when the worker stops is done, not dropped."""
    started, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def run() -> dict[str, int]:
        started.set()
        may_end.wait(10)
        ended.set()
        return {}

    queue = JobQueue(valkey_url, [job(run)])
    worker = WorkerService(queue, threads=1)
    await worker.start()
    queue.enqueue("work")
    assert await asyncio.to_thread(started.wait, 10)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    may_end.set()
    await stopping
    assert ended.is_set()


async def test_valkey_away_and_back(data_dir: Path) -> None:
    """Without Valkey the worker waits and says so; it works again when Valkey is back."""
    server = EmbeddedValkey(data_dir)
    server.start()
    done = threading.Event()

    def run() -> dict[str, int]:
        done.set()
        return {}

    queue = JobQueue(server.url, [job(run)])
    worker = WorkerService(queue, threads=1)
    try:
        await worker.start()
        server.stop()
        with pytest.raises(ConnectionError, match="Valkey is away"):
            queue.enqueue("work")
        with pytest.raises(ConnectionError, match="Valkey is away"):
            await queue_depths(server.url)
        await until(lambda: "waiting for Valkey" in worker.note)
        server.start()
        await until(lambda: worker.note == "")
        queue.enqueue("work")
        assert await asyncio.to_thread(done.wait, 15)
    finally:
        await worker.stop()
        server.stop()


def test_all_jobs_run(postgres_url: str) -> None:
    """Every job does its work on a real database, and forgets only what is long gone."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for age in ("2 days", "1 minute"):
            connection.execute(
                "INSERT INTO fleetlog.processes (id, role, host, pid, version, state, status_url, started_at, seen_at)"
                " VALUES (gen_random_uuid(), 'api', 'h', 1, '0', 'running', '', now(), now() - %s::interval)",
                [age],
            )
        outcomes = {job.name: job.run() for job in all_jobs(postgres_url)}
        assert outcomes["forget_lost_processes"] == {"removed": 1}
        assert outcomes["scrub_outputs"] == {"checked": 0, "damaged": 0}
        assert outcomes["purge_uploads"] == {"removed": 0}
        assert connection.execute("SELECT count(*) FROM fleetlog.processes").fetchone() == (1,)


async def test_the_archive_is_a_job_where_it_has_a_policy(postgres_url: str) -> None:
    """With an age set, a worker moves what ended so long ago; without the owner's address it says what it lacks."""
    given = {"postgres_url": SecretStr(postgres_url), "archive_after_days": 1}
    lacking = Settings(**given)  # type: ignore[arg-type]
    told = lacking.model_copy(update={"postgres_admin_url": SecretStr(postgres_url)})
    job = {job.name: job for job in all_jobs(postgres_url, told)}["archive"]
    assert await asyncio.to_thread(job.run) == {"events": 0, "segments": 0}
    job = {job.name: job for job in all_jobs(postgres_url, lacking)}["archive"]
    with pytest.raises(SettingsError, match="FLEETLOG_POSTGRES_ADMIN_URL"):
        await asyncio.to_thread(job.run)
