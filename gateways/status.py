"""How every part fares: servers, processes, projections, queues, agents."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import httpx2
import msgspec
import psycopg

from command_bus.audit.records import ChainStatus, ask, chain_status
from command_bus.login_rights import mighty_login, warning_about
from command_bus.postgres import app_conninfo
from command_bus.worker import QueueDepth, queue_depths
from gateways.agents.broker_states import Broker, list_brokers
from gateways.agents.greeting import greetings
from gateways.local.roles import Role
from gateways.local.roster import ProcessRow, list_processes
from gateways.retention import Retention, as_set, retention_now
from gateways.settings import Settings, SettingsError, mask_url, need
from gateways.tls import Authorities, CertificateError, own_name
from projections.agents import AgentCounts, count_agents
from projections.catalog import list_status
from projections.destinations import DestinationState, list_destinations, log_head
from projections.pending import Depths
from projections.pending import queue_depths as pending_depths
from projections.tracking import ProjectionStatus

TIMEOUT_S = 3.0
MAX_LAG_AGE_S = 30.0
"""A projection that is behind and has not moved for so long is not fine."""
MAX_DESTINATIONS = 500
"""So many are shown."""
GLANCE_S = 2.0
"""So long what was seen counts as what is."""
_SERVER = "SELECT now(), current_setting('server_version'), pg_database_size(current_database())"


class Part(msgspec.Struct, frozen=True):
    """A server, or the API as others reach it."""

    name: str
    ok: bool
    detail: str
    """What answers, or why it does not."""
    latency_ms: float | None = None


class Process(msgspec.Struct, frozen=True):
    """A role's process; a role that nobody fills is one without a pid."""

    role: str
    ok: bool
    host: str | None
    pid: int | None
    state: str
    note: str
    status_url: str | None
    started_at: datetime | None
    last_word_s: float | None
    version: str | None


class Projected(msgspec.Struct, frozen=True):
    """A projection."""

    name: str
    ok: bool
    status: str
    position: int
    lag: int
    error: str | None
    error_topic: str | None
    error_position: int | None
    updated_at: datetime


class Chained(msgspec.Struct, frozen=True):
    """The audit chain."""

    ok: bool
    status: str
    """``running``, or ``behind`` if it has not moved for a while though there is something to chain."""
    position: int
    lag: int
    checkpoint: int
    checkpointed_at: datetime | None
    exported: dict[str, int]
    """The last checkpoint that each kind of destination has got."""


class Forwarded(msgspec.Struct, frozen=True):
    """A destination of forwarded events."""

    name: str
    ok: bool
    status: str
    kind: str
    position: int
    lag: int
    sent: int
    failing_since: datetime | None
    error: str
    tries_at: datetime | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; ``ok`` is true when nothing is down."""

    ok: bool
    parts: list[Part]
    brokers: list[Broker]
    """The NATS servers, as gateways last heard of them; one that is silent is no fault by itself."""
    processes: list[Process]
    projections: list[Projected]
    chain: Chained | None
    forwarding: list[Forwarded]
    pending: Depths | None
    """The commands that wait, over all agents; None when Postgres is away."""
    database_bytes: int | None
    """What the database takes on disk; None when Postgres is away."""
    retention: Retention
    queues: list[QueueDepth]
    agents: AgentCounts | None

    def faults(self) -> list[str]:
        """A line for each thing that is down."""
        found = [f"{part.name}: {part.detail}" for part in self.parts if not part.ok]
        found += [
            f"{process.role}: {process.state}{process.note and ', ' + process.note}"
            for process in self.processes
            if not process.ok
        ]
        found += [
            f"projection {item.name}: {item.status} {item.error or ''}".strip()
            for item in self.projections
            if not item.ok
        ]
        if self.chain is not None and not self.chain.ok:
            found.append(f"audit chain: {self.chain.status} by {self.chain.lag} positions")
        found += [
            f"forwarding to {item.name}: {item.status}, {item.lag} positions behind. {item.error}".strip()
            for item in self.forwarding
            if not item.ok
        ]
        return found


class _Read(msgspec.Struct, frozen=True):
    """What Postgres tells."""

    version: str
    brokers: list[Broker]
    processes: list[ProcessRow]
    projections: list[ProjectionStatus]
    chain: ChainStatus
    forwarding: list[Forwarded]
    pending: Depths
    agents: AgentCounts
    database_bytes: int
    retention: Retention
    mighty: str | None
    now: datetime


async def collect(settings: Settings) -> Status:
    """Look at every part at once; never raises because one is away.

    Raises:
        SettingsError: an address is not known.
    """
    postgres_url = need(settings.postgres_url, "postgres_url")
    nats_urls = need(settings.nats_url, "nats_url")
    read: list[_Read] = []
    queues: list[QueueDepth] = []

    async def postgres() -> str:
        read.append(await _read(postgres_url, as_set(settings)))
        warning = f"; {warning_about(read[0].mighty)}" if read[0].mighty is not None else ""
        return f"Postgres {read[0].version}{warning}"

    async def valkey() -> str:
        queues.extend(await queue_depths(need(settings.redis_url, "redis_url"), timeout_s=TIMEOUT_S))
        return "answers"

    parts = list(
        await asyncio.gather(
            _look("postgres", postgres),
            _look("nats", lambda: _nats(nats_urls)),
            _look("valkey", valkey),
            _look("api", lambda: _api(settings)),
        )
    )
    told = read[0] if read else None
    processes = _processes(told.processes if told is not None else [])
    projections = [_projected(item, told.now) for item in told.projections] if told is not None else []
    chain = _chained(told.chain) if told is not None else None
    forwarding = told.forwarding if told is not None else []
    looked_at: tuple[Part | Process | Projected | Forwarded, ...] = (*parts, *processes, *projections, *forwarding)
    well = [one.ok for one in looked_at]
    return Status(
        ok=all(well) and (chain is None or chain.ok),
        parts=parts,
        brokers=told.brokers if told is not None else [],
        processes=processes,
        projections=projections,
        chain=chain,
        forwarding=forwarding,
        pending=told.pending if told is not None else None,
        database_bytes=told.database_bytes if told is not None else None,
        retention=told.retention if told is not None else as_set(settings),
        queues=queues,
        agents=told.agents if told is not None else None,
    )


async def _look(name: str, probe: Callable[[], Awaitable[str]]) -> Part:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            detail = await probe()
    except TimeoutError:
        return Part(name, ok=False, detail=f"no answer within {TIMEOUT_S:g} s")
    except (psycopg.Error, OSError, httpx2.HTTPError, CertificateError, SettingsError, ValueError) as error:
        return Part(name, ok=False, detail=" ".join(str(error).split()) or type(error).__name__)
    return Part(name, ok=True, detail=detail, latency_ms=round((time.perf_counter() - began) * 1000, 1))


async def _read(url: str, otherwise: Retention) -> _Read:
    conninfo = app_conninfo(url, name="fleetlog-status")
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        row = await (await connection.execute(_SERVER)).fetchone()
        now, version, size = row or (None, "", 0)
        return _Read(
            version=str(version).partition(" ")[0],
            brokers=await list_brokers(connection),
            processes=await list_processes(connection),
            projections=await list_status(connection),
            chain=await ask(lambda: nullcontext(connection), chain_status()),
            forwarding=await _forwarding(connection),
            pending=await pending_depths(connection),
            agents=await count_agents(connection, client_ids=None),
            database_bytes=size,
            retention=await retention_now(connection, otherwise),
            mighty=await mighty_login(connection),
            now=now,
        )


async def _forwarding(connection: psycopg.AsyncConnection[Any]) -> list[Forwarded]:
    page = await list_destinations(connection, limit=MAX_DESTINATIONS)
    head = await log_head(connection)
    return [
        Forwarded(
            name=row.name,
            ok=row.state is not DestinationState.FAILING,
            status=str(row.state),
            kind=str(msgspec.to_builtins(row.to)["kind"]),
            position=row.position,
            lag=max(0, head - row.position),
            sent=row.sent,
            failing_since=row.failing_since,
            error=row.error,
            tries_at=row.tries_at,
        )
        for row in page.items
    ]


async def _nats(urls: str) -> str:
    servers = [url.strip() for url in urls.split(",")]
    version, away = await greetings(servers)
    missing = f"; {len(away)} of {len(servers)} away: {mask_url(','.join(away))}" if away else ""
    return f"NATS {version}{missing}"


async def _api(settings: Settings) -> str:
    url = settings.api_url
    # Certificates are read where there is something to verify: that takes longer than all the rest.
    verify = Authorities(settings.tls_ca_file).context() if url.startswith("https:") else False
    # A certificate that was brought is for a name, and this machine may be asked by its address.
    brought = settings.tls_cert_file if settings.public_url is None and verify else None
    name = await asyncio.to_thread(own_name, brought) if brought is not None else None
    async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=verify) as client:
        answer = await client.get(f"{url}/readyz", extensions={"sni_hostname": name} if name is not None else {})
    document = answer.json()
    if not isinstance(document, dict) or "status" not in document:
        raise ValueError(f"what answers at {url} is not ready to say how it is (status {answer.status_code})")
    # Behind a proxy, or by another machine's address, it says no more than whether it is ready.
    checks = document.get("checks", {})
    bad = [f"{name}: {check.get('error', 'down')}" for name, check in checks.items() if not check["ok"]]
    if answer.is_error:
        raise ValueError("; ".join(bad) or f"status {answer.status_code}")
    return "; ".join([url, *bad])


def _processes(rows: list[ProcessRow]) -> list[Process]:
    here = socket.gethostname()
    states = ["ended" if row.host == here and not row.lives() else "lost" if row.lost else row.state for row in rows]
    found = [
        Process(
            role=row.role,
            ok=state == "running",
            host=row.host,
            pid=row.pid,
            state=state,
            note=row.note,
            status_url=row.status_url,
            started_at=row.started_at,
            last_word_s=round(row.age_s, 1),
            version=row.version,
        )
        for row, state in zip(rows, states, strict=True)
    ]
    there = {process.role for process in found}
    missing = [
        Process(
            role=str(role),
            ok=False,
            host=None,
            pid=None,
            state="missing",
            note="no process has this role",
            status_url=None,
            started_at=None,
            last_word_s=None,
            version=None,
        )
        for role in Role
        if role not in there
    ]
    return found + missing


def _projected(item: ProjectionStatus, now: datetime) -> Projected:
    stuck = item.lag > 0 and (now - item.updated_at).total_seconds() > MAX_LAG_AGE_S
    return Projected(
        name=item.name,
        ok=item.status == "running" and not stuck,
        status="behind" if stuck and item.status == "running" else item.status,
        position=item.position,
        lag=item.lag,
        error=item.error,
        error_topic=item.error_topic,
        error_position=item.error_position,
        updated_at=item.updated_at,
    )


def _chained(chain: ChainStatus) -> Chained:
    moved_at = max((at for at in (chain.waiting_since, chain.chained_at) if at is not None), default=chain.now)
    stuck = chain.lag > 0 and (chain.now - moved_at).total_seconds() > MAX_LAG_AGE_S
    return Chained(
        ok=not stuck,
        status="behind" if stuck else "running",
        position=chain.position,
        lag=chain.lag,
        checkpoint=chain.checkpoint,
        checkpointed_at=chain.checkpointed_at,
        exported={one.kind: one.checkpoint for one in chain.exports},
    )


class Glances:
    """One look for all who ask within a moment: a page that many leave open costs the servers no more than one.

    Args:
        look: what to see with.
        clock: seconds that only grow.
    """

    def __init__(self, look: Callable[[], Awaitable[Status]], clock: Callable[[], float]) -> None:
        self._look = look
        self._clock = clock
        self._lock = asyncio.Lock()
        self._seen: Status | None = None
        self._seen_at = 0.0

    async def __call__(self) -> Status:
        async with self._lock:
            if self._seen is None or self._clock() - self._seen_at >= GLANCE_S:
                self._seen = await self._look()
                self._seen_at = self._clock()
            return self._seen


def to_json(status: Status) -> dict[str, Any]:
    """For programs."""
    document: dict[str, Any] = msgspec.to_builtins(status)
    return document
