"""Background work through Dramatiq on Valkey: what may be late, and may run twice.

No command's state is ever in it. A queue that is away, or that was lost, costs a delay of maintenance and no more.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dramatiq
import msgspec
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Retries, ShutdownNotifications, TimeLimit
from prometheus_client import Counter

NAMESPACE = "fleetlog"
QUEUE = "maintenance"
DEAD_MESSAGE_LIFE_MS = 7 * 86_400_000
MAX_RETRIES = 5
TIME_LIMIT_MS = 15 * 60_000
POLL_MS = 200
"""How long a thread of the worker waits for a job before it looks whether it is to stop."""

RUNS = Counter("fleetlog_jobs", "Background jobs run.", ["job", "outcome"])

_log = structlog.get_logger(__name__)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of periodic work."""

    name: str
    period_s: float
    run: Callable[[], Mapping[str, Any]]
    """Does it, in a thread of the worker, and says what came of it; raising has it tried again, with back-off."""


class JobQueue:
    """The queue: enqueues jobs, and holds the actors that run them. Makes no connection before it is used.

    Args:
        url: of Valkey or Redis.
        jobs: all there are.
        namespace: before each key in Valkey.
        min_backoff_ms: before the first retry of a job that failed.
    """

    def __init__(
        self, url: str, jobs: Sequence[Job], *, namespace: str = NAMESPACE, min_backoff_ms: int = 15_000
    ) -> None:
        self.broker = RedisBroker(  # type: ignore[no-untyped-call]  # dramatiq leaves its brokers untyped
            url=url,
            namespace=namespace,
            dead_message_ttl=DEAD_MESSAGE_LIFE_MS,
            middleware=[
                AgeLimit(),
                TimeLimit(time_limit=TIME_LIMIT_MS),
                ShutdownNotifications(),
                Retries(max_retries=MAX_RETRIES, min_backoff=min_backoff_ms),
            ],
        )
        self.periods = {job.name: job.period_s for job in jobs}
        self._actors = {job.name: self._actor(job) for job in jobs}

    def _actor(self, job: Job) -> dramatiq.Actor[[], None]:
        def run() -> None:
            with structlog.contextvars.bound_contextvars(job=job.name):
                try:
                    outcome = job.run()
                except Exception:
                    RUNS.labels(job.name, "failed").inc()
                    raise
                RUNS.labels(job.name, "done").inc()
                _log.info("job_done", **outcome)

        # One that waited for longer than its period is dropped: the next of its kind is there already.
        decorate = dramatiq.actor(
            actor_name=job.name, queue_name=QUEUE, broker=self.broker, max_age=int(job.period_s * 1000)
        )
        return decorate(run)

    def enqueue(self, name: str) -> None:
        """Have a job run by some worker.

        Raises:
            ConnectionError: the queue is away.
        """
        try:
            self._actors[name].send()
        except (redis.ConnectionError, redis.TimeoutError, dramatiq.errors.BrokerConnectionError) as error:
            raise ConnectionError(f"Valkey is away: {error}") from error

    def ping(self) -> None:
        """Look whether Valkey answers.

        Raises:
            ConnectionError: it does not.
        """
        try:
            self.broker.client.ping()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise ConnectionError(f"Valkey is away: {error}") from error

    def close(self) -> None:
        self.broker.close()
        # The client was given its pool, and so leaves the connections in it open.
        self.broker.client.connection_pool.disconnect()


class WorkerService:
    """The service of the worker role.

    Args:
        queue: where jobs come from.
        threads: jobs at once.
        stop_timeout_s: how long jobs under way may take when it stops; what does not end in time runs again elsewhere.
    """

    def __init__(self, queue: JobQueue, *, threads: int = 4, stop_timeout_s: float = 15.0) -> None:
        self._queue = queue
        self._stop_timeout_ms = int(stop_timeout_s * 1000)
        self._worker = dramatiq.Worker(queue.broker, worker_threads=threads, worker_timeout=POLL_MS)
        self._stopping = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self.note = ""
        """What it waits for, for status."""

    async def start(self) -> None:
        """Take jobs, now or as soon as Valkey answers; Dramatiq reconnects by itself afterwards."""
        self._worker.start()
        self._watch = asyncio.create_task(self._watch_queue(), name="worker-watch")

    async def wait(self) -> None:
        """Return or raise when it is over, for whoever has it restarted."""
        if self._watch is not None:
            await asyncio.shield(self._watch)

    async def stop(self) -> None:
        """Take no more, and finish what runs."""
        self._stopping.set()
        if self._watch is not None:
            await self._watch
            await asyncio.to_thread(self._worker.stop, timeout=self._stop_timeout_ms)
        self._queue.close()

    async def _watch_queue(self) -> None:
        while not self._stopping.is_set():
            try:
                await asyncio.to_thread(self._queue.ping)
            except ConnectionError as error:
                if not self.note:
                    _log.warning("worker_waiting", error=str(error))
                self.note = f"waiting for Valkey: {error.__cause__}"
            else:
                if self.note:
                    _log.info("worker_back")
                self.note = ""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._stopping.wait()


class QueueDepth(msgspec.Struct, frozen=True):
    """What one queue holds, for status."""

    name: str
    waiting: int
    active: int
    """Handed to a worker: run by it, or about to be."""
    scheduled: int
    """To be tried (again) later."""
    dead: int
    """Given up after all retries; kept for a week."""


async def queue_depths(url: str, namespace: str = NAMESPACE, timeout_s: float = 2.0) -> list[QueueDepth]:
    """Read the queues' depths.

    Raises:
        ConnectionError: Valkey is away.
    """
    client = redis.asyncio.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    try:
        async with client:
            reserved = 0
            async for key in client.scan_iter(f"{namespace}:__acks__.*.{QUEUE}", count=1000):
                reserved += await client.scard(key)
            return [
                QueueDepth(
                    name=QUEUE,
                    waiting=await client.llen(f"{namespace}:{QUEUE}"),
                    active=reserved,
                    scheduled=await client.hlen(f"{namespace}:{QUEUE}.DQ.msgs"),
                    dead=await client.zcard(f"{namespace}:{QUEUE}.XQ"),
                )
            ]
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise ConnectionError(f"Valkey is away: {error}") from error
