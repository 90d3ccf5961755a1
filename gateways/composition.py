"""Puts each role together out of its parts: the one place that knows them all."""

import asyncio
import contextlib
import shlex
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import redis.asyncio
from starlette.applications import Starlette

from command_bus.audit.chain import Interval
from command_bus.audit.exporting import CheckpointExporter, Command, Destination, Folder, Webhook
from command_bus.audit.follower import ChainFollower
from command_bus.audit.leading import Leading
from command_bus.authenticating import Authenticator
from command_bus.bus import CommandBus
from command_bus.credential_store import CredentialStore
from command_bus.handlers.approvals import ApprovalExpiry
from command_bus.handlers.housekeeping import Housekeeping
from command_bus.handlers.login_checks import LoginChecks
from command_bus.handlers.own_logins import OwnLogin
from command_bus.handlers.passkeys import Passkeys
from command_bus.handlers.sessions import Sessions
from command_bus.handlers.sso import Sso
from command_bus.ids import new_id, utc_now
from command_bus.keystore import CREDENTIALS, Keystore
from command_bus.passkey_challenges import PasskeyChallenges
from command_bus.passwords import PasswordHasher
from command_bus.postgres import BY_INDEX, AsyncPool, app_conninfo, make_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.rollouts import FanOut
from command_bus.scheduler import Scheduler
from command_bus.session_rows import SessionRows
from command_bus.sso_flows import SsoFlows
from command_bus.sso_provider import Provider
from command_bus.wiring import make_bus
from command_bus.worker import JobQueue, WorkerService
from gateways.agents.greeting import greeting
from gateways.agents.http import AgentHttp
from gateways.agents.leases import Holds
from gateways.agents.live import LiveOutput
from gateways.agents.outputs import read_output
from gateways.agents.service import GatewayService
from gateways.agents.steps import Steps, nothing
from gateways.agents.trust import Told
from gateways.cancelling import end
from gateways.forward.guard import Guard, networks
from gateways.forward.service import Forwarder
from gateways.local.jobs import all_jobs
from gateways.master_keys import master_keys
from gateways.rest.app import ApiParts, create_app
from gateways.rest.errors import BehindError
from gateways.rest.guesses import KEY_HOLDS, KEYS_PREFIX, Guesses
from gateways.rest.key_uses import KeyUses
from gateways.rest.parts import People, Readiness, Service
from gateways.rest.rates import FAILED, FailureLimit, Rates, SharedRates
from gateways.settings import Settings, need
from gateways.sso import sso_terms
from gateways.status import Glances, collect
from gateways.tls import Authorities
from projections.approvals import due
from projections.catalog import INLINE, list_status
from projections.errors import PositionTimeoutError
from projections.pending import QueueReader
from projections.rollout_reads import RolloutReader
from projections.rollouts import Rollouts
from projections.runner import Projector
from projections.wait import PositionWaiter

WRONG_KEYS, WRONG_KEY_EVERY_S = 20, 3.0
"""So many an address may send at once, all API processes together; then one more each so many seconds."""
CATCH_UP_S = 10.0
"""How long a decision waits for the read models that it leans on."""


AGENTS_POOL = 4
"""Connections of an API process for agents that check in over HTTP: each of their statements takes a moment."""


class OpenPool:
    """A pool with the life of a service."""

    def __init__(self, pool: AsyncPool) -> None:
        self.pool = pool

    async def start(self) -> None:
        await self.pool.open(wait=False)

    async def stop(self) -> None:
        await self.pool.close()


class Assembly:
    """Services that make up one role: started in order, stopped in the reverse; the last one speaks for all.

    Args:
        services: what the role stands on first, the role itself last.
        beside: those of them whose end, too, is the role's.
    """

    def __init__(self, services: Sequence[Service], beside: Sequence[Leading | Forwarder] = ()) -> None:
        self._services = list(services)
        self._beside = list(beside)
        self._started: list[Service] = []

    async def start(self) -> None:
        for service in self._services:
            # Noted before it has started: one that is stopped half-way still has something to close.
            self._started.append(service)
            await service.start()

    async def stop(self) -> None:
        while self._started:
            await self._started.pop().stop()

    async def wait(self) -> None:
        """Return or raise when the role is over; one that cannot end by itself is waited for for ever."""
        over = getattr(self._services[-1], "wait", asyncio.Event().wait)
        tasks = [asyncio.ensure_future(wait()) for wait in (over, *(service.wait for service in self._beside))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(tasks)

    @property
    def note(self) -> str:
        note = getattr(self._services[-1], "note", "")
        return note if isinstance(note, str) else ""


class RolloutProgress:
    """How far the read model of rollouts is.

    Args:
        waiter: knows.
    """

    def __init__(self, waiter: PositionWaiter) -> None:
        self._waiter = waiter

    def position(self) -> int:
        return self._waiter.position(Rollouts.name)

    async def wait_beyond(self, position: int, timeout_s: float) -> None:
        with contextlib.suppress(PositionTimeoutError):
            await self._waiter.wait(position + 1, [Rollouts.name], timeout_s)


class Parts:
    """What every role that reads or writes needs.

    Args:
        settings: of this process.
        name: of the role; in the names of its connections.
        by_index: its statements all have their index, see `BY_INDEX`; those of people who search may not.
    """

    def __init__(self, settings: Settings, name: str, *, by_index: bool = False) -> None:
        self.settings = settings
        self.name = name
        self.postgres_url = settings.database_url
        self.log = PostgresEventLog(self.postgres_url, inline=INLINE, name=name)
        self.pool = make_pool(
            self.postgres_url,
            max_size=settings.postgres_pool,
            name=f"fleetlog-{name}",
            settings=BY_INDEX if by_index else None,
        )
        # Handlers that hold an agent's lease row do so while they append: they must never wait for a connection that
        # those who wait for them have taken. So a pooler, which lends one server process to many, is not for them.
        self.holding_pool = make_pool(str(self.postgres_url), max_size=4, name=f"fleetlog-{name}-hold")
        self.holds = Holds(self.holding_pool)
        self.master_keys = master_keys(settings)
        self.sso = sso_terms(settings)
        hasher = PasswordHasher(at_once=settings.password_hashes_at_once)
        self.credentials = CredentialStore(Keystore(self.pool, self.master_keys, CREDENTIALS), hasher)

    @property
    def services(self) -> list[Service]:
        """To be started in this order and stopped in the reverse."""
        return [OpenPool(self.pool), OpenPool(self.holding_pool), self.log]

    @property
    def nats_urls(self) -> list[str]:
        return [url.strip() for url in need(self.settings.nats_url, "nats_url").split(",")]

    @property
    def agent_nats_urls(self) -> list[str]:
        told = self.settings.nats_agent_urls
        return [url.strip() for url in told.split(",")] if told else self.nats_urls

    @property
    def authorities(self) -> Authorities:
        """Whom to trust at NATS."""
        return Authorities(self.settings.nats_ca_file, self.settings.nats_tls_name)

    @property
    def told(self) -> Told:
        """Whom agents are to trust."""
        return Told(Authorities(self.settings.tls_ca_file), self.authorities)

    def bus(self, waiter: PositionWaiter) -> CommandBus:
        """A bus with all handlers.

        Args:
            waiter: for decisions that lean on read models: these are brought to where the log is.
        """

        async def catch_up(names: Collection[str]) -> None:
            try:
                await waiter.wait(await self.log.head(), names, CATCH_UP_S)
            except PositionTimeoutError:
                raise BehindError from None

        reads = RolloutReader(self.pool.connection, catch_up)
        expiry = timedelta(seconds=self.settings.command_expiry_s)
        return make_bus(
            self.log,
            self.holds,
            reads,
            default_expiry=expiry,
            keystore=Keystore(self.pool, self.master_keys),
            credentials=self.credentials,
            issuer=self.sso.issuer if self.sso is not None else None,
        )

    def housekeeping(self) -> Housekeeping:
        return Housekeeping(self.log, self.holds, QueueReader(self.pool.connection), new_id)

    def approval_expiry(self) -> ApprovalExpiry:
        async def find_due(now: datetime, limit: int) -> list[UUID]:
            async with self.pool.connection() as connection:
                return await due(connection, now, limit)

        return ApprovalExpiry(self.log, find_due, new_id)


def build_api(settings: Settings) -> Starlette:
    """The API role."""
    parts = Parts(settings, "api")
    waiter = PositionWaiter(app_conninfo(parts.postgres_url, name="fleetlog-api-wait"))
    live = LiveOutput(parts.log, parts.postgres_url, parts.nats_urls, "api", parts.authorities)
    # Apart from the pool of people who search: agents are served by index alone, as a gateway serves them.
    agents_pool = make_pool(parts.postgres_url, max_size=AGENTS_POOL, name="fleetlog-api-agents", settings=BY_INDEX)
    agents = AgentHttp(
        parts.log,
        agents_pool,
        parts.postgres_url,
        parts.agent_nats_urls,
        "api",
        clock=utc_now,
        told=parts.told,
        master_keys=parts.master_keys,
        who_is_there=live.who_is_there,
    )
    rates, shared = _rates(settings)
    url = settings.redis_url
    valkey = url.get_secret_value() if url is not None else None
    guesses = Guesses(time.monotonic, valkey)
    key_guesses = Guesses(time.monotonic, valkey, KEYS_PREFIX, KEY_HOLDS)
    failures = FailureLimit(WRONG_KEYS, WRONG_KEY_EVERY_S, time.monotonic)
    if settings.redis_url is not None:
        shared.append(SharedRates(failures, settings.redis_url.get_secret_value(), FAILED))
    rows, idle = SessionRows(parts.pool), timedelta(seconds=settings.session_idle_s)
    authenticator = Authenticator(parts.log, rows, idle)
    bus = parts.bus(waiter)
    return create_app(
        ApiParts(
            bus=bus,
            log=parts.log,
            pool=parts.pool,
            waiter=waiter,
            authenticator=authenticator,
            people=_people(parts, rows, guesses, bus),
            status=Glances(partial(collect, settings), time.monotonic),
            clock=utc_now,
            new_id=new_id,
            live=live,
            read_output=partial(read_output, parts.pool),
            readiness=_readiness(parts),
            agent_routes=agents.routes(),
            services=[
                *parts.services,
                OpenPool(agents_pool),
                waiter,
                live,
                agents,
                KeyUses(parts.pool, authenticator.take_used),
                *shared,
                guesses,
                key_guesses,
            ],
            rates=rates,
            failures=failures,
            key_guesses=key_guesses,
            on_leave=[agents.leave],
        )
    )


def _people(parts: Parts, rows: SessionRows, guesses: Guesses, bus: CommandBus) -> People:
    """What people do for themselves."""
    settings = parts.settings
    checks = LoginChecks(parts.log, parts.credentials, guesses, utc_now, new_id)
    life, idle = timedelta(seconds=settings.session_life_s), timedelta(seconds=settings.session_idle_s)
    sessions = Sessions(parts.log, rows, checks, utc_now, new_id, life=life, idle=idle)
    provider = None if parts.sso is None else Provider(parts.sso, utc_now, time.monotonic)
    return People(
        sessions=sessions,
        own_login=OwnLogin(parts.log, rows, sessions, checks, parts.credentials, new_id),
        passkeys=Passkeys(parts.log, PasskeyChallenges(parts.pool), sessions, checks, utc_now),
        sso=Sso(parts.log, SsoFlows(parts.pool), provider, sessions, checks, bus, utc_now),
        proof_life=timedelta(seconds=settings.proof_life_s),
        proof_agents=settings.proof_agents,
        public_url=settings.public_url,
    )


def _rates(settings: Settings) -> tuple[Rates | None, list[Service]]:
    """How often a key may come, and what has API processes tell each other, where there is Valkey to do it by."""
    per_s = settings.key_requests_per_s
    if not per_s:
        return None, []
    rates = Rates(per_s, max(1, round(2 * per_s)), time.monotonic)
    url = settings.redis_url
    return rates, [] if url is None else [SharedRates(rates, url.get_secret_value())]


def build_gateway(settings: Settings, *, steps: Steps = nothing) -> "Assembly":
    """The gateway role."""
    parts = Parts(settings, "gateway", by_index=True)
    gateway = GatewayService(
        parts.log,
        parts.pool,
        parts.postgres_url,
        parts.nats_urls,
        # Unlike any other, also on a machine that runs several or runs them one after the other.
        f"{socket.gethostname()}-{new_id().hex[-8:]}",
        lease_s=settings.lease_s,
        concurrency=settings.delivery_concurrency,
        uplink_group=settings.uplink_group,
        stop_timeout_s=settings.stop_timeout_s / 2,
        master_keys=parts.master_keys,
        authorities=parts.authorities,
        told=parts.told,
        steps=steps,
    )
    return Assembly([*parts.services, gateway])


def build_scheduler(settings: Settings) -> "Assembly":
    """The scheduler role."""
    parts = Parts(settings, "scheduler", by_index=True)
    queue = JobQueue(need(settings.redis_url, "redis_url"), all_jobs(parts.postgres_url, settings))
    waiter = PositionWaiter(app_conninfo(parts.postgres_url, name="fleetlog-scheduler-wait"))
    rollouts = FanOut(parts.log, parts.holds, RolloutReader(parts.pool.connection), RolloutProgress(waiter), new_id)
    scheduler = Scheduler(
        parts.postgres_url,
        parts.housekeeping(),
        rollouts,
        queue.periods,
        queue.enqueue,
        utc_now,
        also={"undecided": parts.approval_expiry().expire_due},
    )
    return Assembly([*parts.services, waiter, scheduler])


def build_worker(settings: Settings) -> "Assembly":
    """The worker role: background jobs, and beside them what follows the log and has nobody waiting for it."""
    queue = JobQueue(need(settings.redis_url, "redis_url"), all_jobs(settings.database_url, settings))
    worker = WorkerService(queue, threads=settings.worker_threads, stop_timeout_s=settings.stop_timeout_s)
    followers = audit_followers(settings)
    guard = Guard(networks(settings.forward_allowed_networks))
    forwarder = Forwarder(settings.database_url, master_keys(settings), guard)
    return Assembly([*followers, forwarder, worker], beside=[*followers, forwarder])


def audit_followers(settings: Settings) -> list[Leading]:
    """What keeps the audit chain, and what carries its checkpoints away."""
    interval = Interval(settings.audit_checkpoint_events, timedelta(seconds=settings.audit_checkpoint_s))
    chain = ChainFollower(
        app_conninfo(settings.database_url, name="fleetlog-audit"), interval, utc_now, key_file=settings.audit_key_file
    )
    destinations = _destinations(settings)
    if not destinations:
        return [chain]
    return [chain, CheckpointExporter(app_conninfo(settings.database_url, name="fleetlog-export"), destinations)]


def _destinations(settings: Settings) -> list[Destination]:
    found: list[Destination] = []
    if settings.audit_export_dir is not None:
        found.append(Folder(settings.audit_export_dir))
    if settings.audit_export_webhook is not None:
        found.append(Webhook(settings.audit_export_webhook.get_secret_value()))
    if settings.audit_export_command is not None:
        found.append(Command(shlex.split(settings.audit_export_command)))
    return found


def build_projector(settings: Settings) -> Projector:
    """The projector role."""
    return Projector(app_conninfo(settings.database_url, name="fleetlog-projector"))


def _readiness(parts: Parts) -> Mapping[str, Readiness]:
    async def postgres() -> Mapping[str, Any]:
        async with parts.pool.connection(timeout=2.0) as connection:
            await connection.execute("SELECT 1")
        return {}

    async def projector() -> Mapping[str, Any]:
        async with parts.pool.connection(timeout=2.0) as connection:
            states = await list_status(connection)
        stopped = [state.name for state in states if state.error]
        if stopped:
            raise RuntimeError(f"stopped: {', '.join(stopped)}; see `fleetlog projections list`")
        return {"lag": max((state.lag for state in states), default=0)}

    async def nats() -> Mapping[str, Any]:
        await greeting(parts.nats_urls)
        return {}

    async def valkey() -> Mapping[str, Any]:
        async with redis.asyncio.Redis.from_url(need(parts.settings.redis_url, "redis_url")) as client:
            await client.ping()
        return {}

    return {
        "postgres": Readiness(probe=postgres),
        "projector": Readiness(probe=projector, needed=False),
        "nats": Readiness(probe=nats, needed=False),
        "valkey": Readiness(probe=valkey, needed=False),
    }
