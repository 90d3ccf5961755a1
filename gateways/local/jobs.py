"""The background jobs that there are: upkeep of what is no event."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import psycopg
import structlog

from command_bus.archiving import ArchiveBusyError, archive
from command_bus.authenticating import IDLE
from command_bus.credential_store import sweep_credentials
from command_bus.handlers.destinations import sweep_destination_values
from command_bus.handlers.secrets import sweep_values
from command_bus.handlers.sessions import sweep_sessions
from command_bus.ids import new_id, utc_now
from command_bus.keystore import CREDENTIALS, DESTINATIONS, Keystore
from command_bus.master_keys import NO_KEYS
from command_bus.postgres import AsyncPool, app_conninfo, open_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.session_rows import SessionRows
from command_bus.worker import Job
from gateways.agents.erased_outputs import erase_outputs
from gateways.agents.outputs import purge_uploads, scrub_output, some_outputs
from gateways.agents.retention import remove_beyond, remove_old
from gateways.agents.secrets import handed_out
from gateways.agents.software import purge_software
from gateways.agents.telemetry import purge_telemetry
from gateways.local.roster import forget_lost
from gateways.retention import Retention, as_set, retention_now
from gateways.settings import Settings, need
from projections.catalog import INLINE
from projections.replays import drop_expired

UPLOAD_LIFE = timedelta(hours=24)
"""An upload that no chunk was added to for so long is begun anew by its agent, if it still wants to."""
REQUEST_LIFE = timedelta(hours=1)
"""No request that sets a secret, and no delivery that reads one, is under way for so long."""
SCRUB_PAGE = 200
SEGMENTS_AT_ONCE = 50
"""Of the archive, in one run: some minutes, well within what a job may take."""
_MINUTE = 60.0
T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Scrubber:
    """Reads stored outputs again, some at each run, and compares them with their hashes."""

    def __init__(self, page: int = SCRUB_PAGE) -> None:
        self._page = page
        self._after = ""

    async def run(self, pool: AsyncPool) -> Mapping[str, Any]:
        """Check the next page; after the last comes the first again."""
        digests = await some_outputs(pool, self._after, self._page)
        damaged = []
        for digest in digests:
            if not await scrub_output(pool, digest):
                damaged.append(digest)
                _log.error("output_damaged", sha256=digest)
        self._after = digests[-1] if len(digests) == self._page else ""
        return {"checked": len(digests), "damaged": len(damaged)}


def all_jobs(url: str, settings: Settings | None = None) -> list[Job]:
    """Every background job.

    Args:
        url: the database that they look after.
        settings: what is to be archived or removed, and when.
    """
    scrubber = Scrubber()

    async def purge(pool: AsyncPool) -> Mapping[str, Any]:
        return {"removed": await purge_uploads(pool, UPLOAD_LIFE)}

    async def sweep(pool: AsyncPool) -> Mapping[str, Any]:
        log = PostgresEventLog(url, name="jobs")
        await log.start()
        try:
            # What it drops it never opens.
            values = Keystore(pool, NO_KEYS)
            removed = await sweep_values(log, values, REQUEST_LIFE, utc_now(), partial(handed_out, log, pool))
            removed += await sweep_credentials(log, values.beside(CREDENTIALS), REQUEST_LIFE)
            removed += await sweep_destination_values(log, values.beside(DESTINATIONS), REQUEST_LIFE)
            return {"removed": removed}
        finally:
            await log.stop()

    async def end_sessions(pool: AsyncPool) -> Mapping[str, Any]:
        log = PostgresEventLog(url, inline=INLINE, name="jobs")
        await log.start()
        idle = timedelta(seconds=settings.session_idle_s) if settings is not None else IDLE
        ended = 0
        try:
            while some := await sweep_sessions(log, SessionRows(pool), utc_now(), idle, new_id):
                ended += some
        finally:
            await log.stop()
        return {"ended": ended}

    async def erase(pool: AsyncPool) -> Mapping[str, Any]:
        log = PostgresEventLog(str(url), inline=INLINE, name="jobs")
        await log.start()
        try:
            return {"removed": await erase_outputs(pool, log)}
        finally:
            await log.stop()

    def forget() -> Mapping[str, Any]:
        with psycopg.connect(app_conninfo(url, name="fleetlog-jobs"), autocommit=True) as connection:
            return {"removed": forget_lost(connection)}

    def drop_replays() -> Mapping[str, Any]:
        return {"dropped": drop_expired(app_conninfo(url, name="fleetlog-jobs"))}

    jobs = [
        Job(name="purge_uploads", period_s=30 * _MINUTE, run=lambda: _with_pool(url, purge)),
        Job(name="scrub_outputs", period_s=60 * _MINUTE, run=lambda: _with_pool(url, scrubber.run)),
        Job(name="sweep_secrets", period_s=60 * _MINUTE, run=lambda: _with_pool(url, sweep)),
        Job(name="end_sessions", period_s=10 * _MINUTE, run=lambda: _with_pool(url, end_sessions)),
        Job(name="forget_lost_processes", period_s=60 * _MINUTE, run=forget),
        # Its lock outlives transactions, which a pooler's connections do not: it talks to the server itself.
        Job(name="erase_outputs", period_s=10 * _MINUTE, run=lambda: _with_pool(str(url), erase)),
        Job(name="drop_replays", period_s=10 * _MINUTE, run=drop_replays),
    ]
    if settings is not None:
        jobs.append(Job(name="purge_telemetry", period_s=60 * _MINUTE, run=lambda: _purge_telemetry(url, settings)))
        jobs.append(Job(name="purge_software", period_s=60 * _MINUTE, run=lambda: _purge_software(url, settings)))
        # What holds may be set at any time, so each run asks.
        jobs.append(Job(name="archive", period_s=60 * _MINUTE, run=lambda: _archive(url, settings)))
        jobs.append(
            Job(
                name="remove_outputs",
                period_s=60 * _MINUTE,
                run=lambda: _with_pool(url, lambda pool: remove_outputs(pool, url, settings)),
            )
        )
    return jobs


async def _retention(pool: AsyncPool, settings: Settings) -> Retention:
    async with pool.connection() as connection:
        return await retention_now(connection, as_set(settings))


async def remove_outputs(pool: AsyncPool, url: str, settings: Settings) -> Mapping[str, Any]:
    """Apply the policies for whole outputs."""
    kept = await _retention(pool, settings)
    removed = []
    if kept.output_keep_days is None and kept.output_keep_bytes is None:
        return {"removed": 0, "bytes": 0}
    log = PostgresEventLog(url, inline=INLINE, name="fleetlog-jobs")
    await log.start()
    try:
        if kept.output_keep_days is not None:
            removed.append(await remove_old(pool, log, timedelta(days=kept.output_keep_days)))
        if kept.output_keep_bytes is not None:
            removed.append(await remove_beyond(pool, log, kept.output_keep_bytes))
    finally:
        await log.stop()
    return {"removed": sum(one.outputs for one in removed), "bytes": sum(one.bytes for one in removed)}


def _purge_telemetry(url: str, settings: Settings) -> Mapping[str, Any]:
    async def purge(pool: AsyncPool) -> Mapping[str, Any]:
        return {"removed": await purge_telemetry(pool, timedelta(days=settings.telemetry_keep_days))}

    return _with_pool(url, purge)


def _purge_software(url: str, settings: Settings) -> Mapping[str, Any]:
    async def purge(pool: AsyncPool) -> Mapping[str, Any]:
        return {"removed": await purge_software(pool, timedelta(days=settings.software_keep_days))}

    return _with_pool(url, purge)


def _archive(url: str, settings: Settings) -> Mapping[str, Any]:
    """Move what is due; what one run does not come to, the next one does.

    Raises:
        SettingsError: this worker is not told how to reach the database as its owner.
    """
    kept = _with_pool(url, lambda pool: _retention(pool, settings))
    if kept.archive_after_days is None:
        return {"events": 0, "segments": 0}
    age = timedelta(days=kept.archive_after_days)
    owner_url = need(settings.postgres_admin_url, "postgres_admin_url")
    try:
        done = archive(owner_url, age, settings.archive_dir, most_segments=SEGMENTS_AT_ONCE)
    except ArchiveBusyError:
        return {"busy": True}
    return {"events": done.events, "segments": done.segments}


def _with_pool(url: str, work: Callable[[AsyncPool], Awaitable[T]]) -> T:
    """Run async work from a worker's thread, in an event loop and on a connection of its own."""

    async def run() -> T:
        pool = await open_pool(url, min_size=1, max_size=1, name="fleetlog-jobs")
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(run())
