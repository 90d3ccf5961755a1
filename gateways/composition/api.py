"""The API role."""

import time
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import redis.asyncio
from starlette.applications import Starlette

from command_bus.authenticating import Authenticator
from command_bus.bus import CommandBus
from command_bus.credential_store import CredentialStore
from command_bus.handlers.enrollment import Caps
from command_bus.handlers.login_checks import LoginChecks
from command_bus.handlers.own_logins import OwnLogin
from command_bus.handlers.passkeys import Passkeys
from command_bus.handlers.provider_logouts import ProviderLogouts
from command_bus.handlers.sessions import Sessions
from command_bus.handlers.sso import Sso
from command_bus.ids import new_id, utc_now
from command_bus.keystore import CREDENTIALS, Keystore
from command_bus.passkey_challenges import PasskeyChallenges
from command_bus.passwords import PasswordHasher
from command_bus.postgres import BY_INDEX, app_conninfo, make_pool
from command_bus.refusals import RefusalRecords
from command_bus.session_rows import SessionRows
from command_bus.sso_flows import SsoFlows
from command_bus.sso_provider import Provider
from command_bus.touches import Touches
from command_bus.wiring import make_bus
from gateways.agents.greeting import greeting
from gateways.agents.http import FAILURE_BURST, FAILURE_EVERY_S, AgentHttp, Bounds
from gateways.agents.key_changes import KeyChanges
from gateways.agents.key_steps import KeySteps
from gateways.agents.live import LiveOutput
from gateways.agents.masking import Masks
from gateways.agents.outputs import read_output
from gateways.composition.parts import OpenPool, Parts
from gateways.rest.app import ApiParts, create_app
from gateways.rest.errors import BehindError
from gateways.rest.guesses import KEY_HOLDS, KEYS_PREFIX, LOGOUT_HOLDS, LOGOUTS_PREFIX, Guesses
from gateways.rest.key_uses import KeyUses
from gateways.rest.parts import People, Readiness, Service, Watching
from gateways.rest.rates import (
    AGENTS_FAILED,
    AGENTS_SPENT,
    FAILED,
    TOKENS_SPENT,
    FailureLimit,
    Rates,
    SharedRates,
    per_minute,
)
from gateways.rest.touches import TouchCounts
from gateways.retention import as_set
from gateways.settings import Settings, Tls, need
from gateways.sso import sso_terms
from gateways.status import Glances, collect
from projections.catalog import list_status
from projections.enrollments import CatchUp
from projections.errors import PositionTimeoutError
from projections.rollout_reads import RolloutReader
from projections.wait import PositionWaiter

WRONG_KEYS, WRONG_KEY_EVERY_S = 20, 3.0
"""So many an address may send at once, all API processes together; then one more each so many seconds."""
CATCH_UP_S = 10.0
"""How long a decision waits for the read models that it leans on."""


AGENTS_POOL = 4
"""Connections of an API process for agents that check in over HTTP: each of their statements takes a moment."""


def build_api(settings: Settings) -> Starlette:
    """The API role."""
    parts = Parts(settings, "api")
    credentials = build_credentials(parts)
    waiter = PositionWaiter(app_conninfo(parts.postgres_url, name="fleetlog-api-wait"))
    masks = Masks(parts.log, Keystore(parts.pool, parts.master_keys))
    live = LiveOutput(parts.log, masks, parts.postgres_url, parts.nats_urls, "api", parts.authorities)
    # Apart from the pool of people who search: agents are served by index alone, as a gateway serves them.
    agents_pool = make_pool(parts.postgres_url, max_size=AGENTS_POOL, name="fleetlog-api-agents", settings=BY_INDEX)
    refusals = RefusalRecords(parts.log, utc_now, new_id)
    agent_failures = FailureLimit(FAILURE_BURST, FAILURE_EVERY_S, time.monotonic)
    bounds = Bounds(
        caps=Caps(per_token=settings.enrollments_waiting_per_token, in_all=settings.enrollments_waiting),
        agents=per_minute(settings.check_ins_per_minute, time.monotonic),
        tokens=per_minute(settings.enrollments_per_minute, time.monotonic),
    )
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
        failures=agent_failures,
        bounds=bounds,
        catch_up=catching_up(parts, waiter),
        refusals=refusals,
    )
    rates, shared = _rates(settings)
    url = settings.redis_url
    valkey = url.get_secret_value() if url is not None else None
    guesses = Guesses(time.monotonic, valkey)
    key_guesses = Guesses(time.monotonic, valkey, KEYS_PREFIX, KEY_HOLDS)
    logout_guesses = Guesses(time.monotonic, valkey, LOGOUTS_PREFIX, LOGOUT_HOLDS)
    failures = FailureLimit(WRONG_KEYS, WRONG_KEY_EVERY_S, time.monotonic)
    if valkey is not None:
        shared += [SharedRates(failures, valkey, FAILED), SharedRates(agent_failures, valkey, AGENTS_FAILED)]
        paces = ((bounds.agents, AGENTS_SPENT), (bounds.tokens, TOKENS_SPENT))
        shared += [SharedRates(pace, valkey, namespace) for pace, namespace in paces if pace is not None]
    touches = TouchCounts(time.monotonic, valkey)
    rows, idle = SessionRows(parts.pool), timedelta(seconds=settings.session_idle_s)
    authenticator = Authenticator(parts.log, rows, idle)
    server_keys = _server_keys(parts)
    bus = build_bus(parts, waiter, credentials, touches, server_keys)
    return create_app(
        ApiParts(
            bus=bus,
            log=parts.log,
            pool=parts.pool,
            waiter=waiter,
            authenticator=authenticator,
            people=_people(parts, rows, guesses, logout_guesses, bus, credentials),
            server_keys=server_keys,
            retention=as_set(settings),
            status=Glances(partial(collect, settings), time.monotonic),
            clock=utc_now,
            new_id=new_id,
            live=live,
            read_output=partial(read_output, parts.pool),
            readiness=_readiness(parts),
            watching=Watching(loopback=settings.tls is not Tls.PROXY, open_metrics=settings.metrics_open),
            agent_routes=agents.routes(),
            services=[
                *parts.services,
                OpenPool(agents_pool),
                refusals,
                waiter,
                live,
                agents,
                KeyUses(parts.pool, authenticator.take_used),
                *shared,
                guesses,
                key_guesses,
                logout_guesses,
                touches,
            ],
            rates=rates,
            failures=failures,
            key_guesses=key_guesses,
            refusals=refusals,
            on_leave=[agents.leave],
        )
    )


def build_credentials(parts: Parts) -> CredentialStore:
    """What people log in with; so many passwords are hashed at once as are for all of the process."""
    hasher = PasswordHasher(at_once=parts.settings.password_hashes_at_once)
    return CredentialStore(Keystore(parts.pool, parts.master_keys, CREDENTIALS), hasher)


def _people(
    parts: Parts,
    rows: SessionRows,
    guesses: Guesses,
    logout_guesses: Guesses,
    bus: CommandBus,
    credentials: CredentialStore,
) -> People:
    """What people do for themselves."""
    settings = parts.settings
    checks = LoginChecks(parts.log, credentials, guesses, utc_now, new_id)
    life, idle = timedelta(seconds=settings.session_life_s), timedelta(seconds=settings.session_idle_s)
    sessions = Sessions(parts.log, rows, checks, utc_now, new_id, life=life, idle=idle)
    sso = sso_terms(settings)
    provider = None if sso is None else Provider(sso, utc_now, time.monotonic)
    flows = SsoFlows(parts.pool)
    return People(
        sessions=sessions,
        own_login=OwnLogin(parts.log, rows, sessions, checks, credentials, new_id),
        passkeys=Passkeys(parts.log, PasskeyChallenges(parts.pool), sessions, checks, utc_now),
        sso=Sso(parts.log, flows, provider, sessions, checks, bus, utc_now),
        provider_logouts=ProviderLogouts(parts.log, rows, flows, provider, logout_guesses, new_id),
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


def build_bus(
    parts: Parts,
    waiter: PositionWaiter,
    credentials: CredentialStore,
    touches: Touches | None = None,
    server_keys: KeySteps | None = None,
) -> CommandBus:
    """A bus with all handlers.

    Args:
        parts: that it stands on.
        waiter: for decisions that lean on read models: these are brought to where the log is.
        credentials: of people.
        touches: counts the agents that people touch one by one.
        server_keys: takes steps of the server's own keys.
    """
    reads = RolloutReader(parts.pool.connection, catching_up(parts, waiter))
    expiry = timedelta(seconds=parts.settings.command_expiry_s)
    return make_bus(
        parts.log,
        parts.holds,
        reads,
        default_expiry=expiry,
        keystore=Keystore(parts.pool, parts.master_keys),
        credentials=credentials,
        issuer=sso.issuer if (sso := sso_terms(parts.settings)) is not None else None,
        touches=touches,
        server_keys=server_keys,
    )


def catching_up(parts: Parts, waiter: PositionWaiter) -> CatchUp:
    """What brings read models to where the log is, for decisions that lean on them.

    Args:
        parts: whose log.
        waiter: knows how far the read models are.

    Returns:
        A coroutine function that takes names of projections; it raises `BehindError` where they do not come so far.
    """

    async def catch_up(names: Collection[str]) -> None:
        try:
            await waiter.wait(await parts.log.head(), names, CATCH_UP_S)
        except PositionTimeoutError:
            raise BehindError from None

    return catch_up


def _server_keys(parts: Parts) -> KeySteps:
    url = str(parts.postgres_url)  # not through a pooler: what it runs is of sessions of its own
    return KeySteps(KeyChanges(parts.log, url, new_id), url, parts.nats_urls, parts.authorities)


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
