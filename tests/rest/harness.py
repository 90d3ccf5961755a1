"""The API on real servers, and a client that holds every answer against the document."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import structlog
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from command_bus.authenticating import Authenticator
from command_bus.bus import CommandBus
from command_bus.context import Caller
from command_bus.credential_store import CredentialStore
from command_bus.event_log import LogUnavailableError
from command_bus.handlers.delivery import Deliveries
from command_bus.handlers.enrollment import Enrollment
from command_bus.handlers.login_checks import LoginChecks
from command_bus.handlers.own_logins import OwnLogin
from command_bus.handlers.passkeys import Passkeys
from command_bus.handlers.provider_logouts import ProviderLogouts
from command_bus.handlers.sessions import Sessions
from command_bus.handlers.sso import Sso
from command_bus.ids import new_id, utc_now
from command_bus.intents.api_keys import CreateApiKey
from command_bus.keystore import CREDENTIALS, Keystore
from command_bus.master_keys import GivenKeys, MasterKey
from command_bus.passkey_challenges import PasskeyChallenges
from command_bus.passwords import Cost, PasswordHasher
from command_bus.postgres import app_conninfo, open_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.session_rows import SessionRows
from command_bus.sso_flows import SsoFlows
from command_bus.sso_provider import Provider
from command_bus.sso_terms import SsoTerms
from command_bus.wiring import make_bus
from domain.event import Event
from domain.ids import AgentId
from domain.refusals import AgentRefused, RefusalsCounted, RequestRefused
from domain.roles import Role
from gateways.agents.http import AgentHttp, Bounds
from gateways.agents.key_changes import KeyChanges
from gateways.agents.key_steps import KeySteps
from gateways.agents.keys import load_keys
from gateways.agents.outputs import read_output
from gateways.rest.app import create_app
from gateways.rest.guesses import LOGOUT_HOLDS, Guesses
from gateways.rest.openapi import errors_of
from gateways.rest.parts import ApiParts, People, Readiness, Service
from gateways.rest.problems import MEDIA_TYPE, Problem
from gateways.rest.route import API, JSON, Route
from gateways.rest.routes import ROUTES
from gateways.rest.touches import TouchCounts
from gateways.settings import Settings
from gateways.status import Glances, collect
from projections.catalog import INLINE
from projections.enrollments import counting
from projections.rollout_reads import RolloutReader
from projections.runner import Projector
from projections.wait import PositionWaiter
from schema.wire import Accepted, EnrollRequest, ResultReport, StartedReport, StreamReport

_log = structlog.get_logger(__name__)
KEYS = GivenKeys([MasterKey(bytes(range(32)))])
QUICK = Cost(memory_kib=64, iterations=1)
"""What a hash costs in tests: what it keeps from guessers is not tested, that it is made is."""


class MovableClock:
    """The time, and as much more as the test says."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class InFlightSet:
    """What the test says is on its way to agents."""

    def __init__(self) -> None:
        self.command_ids: set[UUID] = set()

    @asynccontextmanager
    async def hold(self, agent_id: AgentId) -> AsyncIterator[frozenset[UUID]]:
        del agent_id
        yield frozenset(self.command_ids)


class LivePieces:
    """Live output that the test makes up."""

    def __init__(self) -> None:
        self._queues: dict[UUID, asyncio.Queue[Any]] = {}
        self.followed = asyncio.Event()

    @asynccontextmanager
    async def follow(self, command_id: UUID) -> AsyncIterator[AsyncIterator[Any]]:
        queue = self._queues.setdefault(command_id, asyncio.Queue())
        self.followed.set()

        async def pieces() -> AsyncIterator[Any]:
            while True:
                yield await queue.get()

        yield pieces()

    def say(self, piece: Any) -> None:
        self._queues.setdefault(piece.command_id, asyncio.Queue()).put_nowait(piece)


_PATTERNS = [(route, re.compile(re.sub(r"{\w+}", "[^/]+", API + route.path))) for route in ROUTES]


def route_of(method: str, path: str) -> Route | None:
    """The declaration that answers a request; the more literal one, where two could."""
    found = [route for route, pattern in _PATTERNS if route.method == method and pattern.fullmatch(path)]
    return min(found, key=lambda route: len(route.path_names), default=None)


async def hold_against_document(response: httpx2.Response) -> None:
    """Every answer of every test is what the document says: the models are built by hand, so this keeps them true."""
    if response.request.method in ("HEAD", "OPTIONS"):
        return
    route = route_of(response.request.method, response.request.url.path)
    kind = response.headers.get("content-type", "").partition(";")[0]
    if response.status_code >= 400 and not response.request.url.path.startswith("/readyz"):
        assert kind == MEDIA_TYPE
        problem = Problem.model_validate_json(await response.aread())
        assert problem.status == response.status_code
        if route is not None and response.status_code != 405:
            listed = {(error.code, error.status) for error in errors_of(route)}
            assert (problem.code, problem.status) in listed, f"{route.method} {route.path} does not list it: {problem}"
    elif route is not None:
        assert response.status_code == route.status
        assert kind == route.media_type
        assert "x-request-id" in response.headers
        if route.response is not None and kind == JSON:
            route.response.model_validate_json(await response.aread(), strict=True)
        if route.etag:
            assert re.fullmatch(r'"\d+"', response.headers["etag"])


async def _say_refusals(response: httpx2.Response) -> None:
    if response.is_error:
        _log.info("refused", method=response.request.method, url=str(response.url), said=(await response.aread())[:500])


class Api(msgspec.Struct):
    """A running API with its parts, and the fleet that tests make through it."""

    url: str
    log: PostgresEventLog
    bus: CommandBus
    in_flight: InFlightSet
    live: LivePieces
    admin_key: str
    server: Any
    pool: Any
    waiter: PositionWaiter
    clients: list[httpx2.AsyncClient] = []
    agents: AgentHttp | None = None
    clock: Any = None
    """Moves on when the test says so."""
    hasher: Any = None
    provider: Any = None
    """As this API asks it."""
    guesses: Any = None
    logout_guesses: Any = None

    def client(self, key: str | None = None, *, check: bool = True, **headers: str) -> httpx2.AsyncClient:
        """A client with a key; the administrator's by default, none if it is empty.

        What it reads is as of the log's head, whoever wrote that: else each test would race with the read models.
        """
        key = self.admin_key if key is None else key
        client = httpx2.AsyncClient(
            base_url=self.url + API,
            headers=({"Authorization": f"Bearer {key}"} if key else {}) | headers,
            event_hooks={
                "request": [self._see_what_is_recorded],
                "response": [_say_refusals, *([hold_against_document] if check else [])],
            },
            timeout=20,
            trust_env=False,
            verify=False,
        )
        self.clients.append(client)
        return client

    async def _see_what_is_recorded(self, request: httpx2.Request) -> None:
        told = request.headers.get("Fleetlog-Wait-Position", "1")  # who says 0 waits for nothing
        if request.method != "GET" or not told.isascii() or not told.isdecimal() or not int(told):
            return
        with contextlib.suppress(LogUnavailableError):  # one that is away has nothing to wait for
            request.headers["Fleetlog-Wait-Position"] = str(max(int(told), await self.log.head()))

    async def done_since(self, position: int) -> list[Event]:
        """What came of it: all that is on record since then, but for who was refused."""
        events = [one.event for one in await self.log.read(after=position)]
        return [one for one in events if not isinstance(one, RequestRefused | AgentRefused | RefusalsCounted)]

    async def key(self, role: Role = Role.ADMIN, client_ids: list[UUID] | None = None) -> str:
        return await self.key_that_may(role=role, client_ids=client_ids)

    async def key_that_may(self, **fields: Any) -> str:
        """A key by the fields of its intent; ``grants`` or ``role``."""
        caller = Caller(actor="system", correlation_id=new_id())
        done = await self.bus.dispatch(
            CreateApiKey.model_validate({"name": "test", "unattended": True} | fields), caller
        )
        return str(done.answer["key"])

    def enrollment(self, **more: Any) -> Enrollment:
        """What lets machines in, without HTTP in front."""

        async def catch_up(names: Collection[str]) -> None:
            await self.waiter.wait(await self.log.head(), names, 10.0)

        return Enrollment(self.log, utc_now, new_id, counting(self.pool.connection, catch_up), **more)

    @property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.log, utc_now)


async def made(client: httpx2.AsyncClient, path: str, body: dict[str, Any], **headers: str) -> Any:
    """POST, and read what it made."""
    response = await client.post(path, json=body, headers=headers)
    assert response.is_success, response.text
    client.headers["Fleetlog-Wait-Position"] = response.headers["Fleetlog-Position"]
    return response.json()


async def metric(api: Api, name: str, **labels: str) -> float:
    """What Prometheus would read; 0 where nothing was counted yet."""
    text = (await api.client("", check=False).get(f"{api.url}/metrics")).text
    lines = "".join(f"{line}\n" for line in text.splitlines() if line.startswith(name))
    samples = [sample for family in text_string_to_metric_families(lines) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


class Fleet(msgspec.Struct):
    """A client with a site and agents, made through the API."""

    api: Api
    http: Any
    client_id: str
    site_id: str

    @classmethod
    async def make(cls, api: Api, http: httpx2.AsyncClient, name: str) -> "Fleet":
        client = await made(http, "/clients", {"name": name})
        site = await made(http, f"/clients/{client['id']}/sites", {"name": "Main"})
        return cls(api, http, client["id"], site["id"])

    async def agent(self, hostname: str = "web-07", platform: str = "linux") -> str:
        token = await made(self.http, "/enrollment-tokens", {"site_id": self.site_id})
        enrolled = await self.api.enrollment().enroll(
            EnrollRequest(
                token=token["token"],
                public_key=new_id().hex * 2,
                proof="",
                hostname=hostname,
                platform=platform,
                arch="x86_64",
                agent_version="0.1.0",
            )
        )
        self.http.headers["Fleetlog-Wait-Position"] = str(enrolled.position)
        return str(enrolled.agent_id)

    async def command(self, agent_id: str, **more: Any) -> str:
        body = {"agent_id": agent_id, "spec": {"kind": "ping"}} | more
        return str((await made(self.http, "/commands", body))["id"])

    async def accept(self, agent_id: str, command_id: str) -> None:
        reply = Accepted(command_id=UUID(command_id), attempt=1, status="accepted")
        await self.api.deliveries.accepted(AgentId(UUID(agent_id)), [reply], "test", None)

    async def start(self, agent_id: str, command_id: str) -> None:
        report = StartedReport(command_id=UUID(command_id), attempt=1, started_at=datetime.now(UTC))
        await self.api.deliveries.started(AgentId(UUID(agent_id)), report, "test")

    async def finish(self, agent_id: str, command_id: str, outcome: str = "succeeded", **more: Any) -> None:
        now = datetime.now(UTC)
        report = ResultReport(
            command_id=UUID(command_id),
            attempt=more.pop("attempt", 1),
            outcome=outcome,
            exit_code=0,
            started_at=now,
            finished_at=now,
            stdout=more.pop("stdout", StreamReport()),
            **more,
        )
        await self.api.deliveries.finished(AgentId(UUID(agent_id)), report, "test")


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    """The application behind a real server on a free port, in this loop."""
    # asyncio turns Nagle's algorithm off on sockets that say that they are TCP, and only on those.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(20):
            while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        server.should_exit = True
        await serving
        listener.close()


async def sse(response: httpx2.Response) -> AsyncIterator[tuple[str | None, str, Any]]:
    """The events of a stream, by the letter of the specification: (id, name, data)."""
    event: dict[str, str] = {}
    async for line in response.aiter_lines():
        if not line:
            if "data" in event:
                yield event.get("id"), event.get("event", "message"), json.loads(event["data"])
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            event[name] = event[name] + "\n" + value.lstrip(" ") if name == "data" and name in event else value[1:]


def alone(url: Any, **more: Any) -> Settings:
    """An installation with this database, in which nothing else is up, unless it is said where that is."""
    nobody = {"nats_url": "nats://127.0.0.1:1", "redis_url": "redis://127.0.0.1:1/0", "listen_port": 1}
    return Settings(**({"postgres_url": str(url)} | nobody | more))


@asynccontextmanager
async def composed(
    url: str,
    *,
    first: Service | None = None,
    agents: bool = False,
    bounds: Bounds = Bounds(),  # noqa: B008 -- frozen
    terms: Mapping[str, Any] = MappingProxyType({}),
    sso: SsoTerms | None = None,
    **changes: Any,
) -> AsyncIterator[Api]:
    """The API on this database, its projector beside it.

    Args:
        url: the database.
        first: what it has to wait for.
        agents: serve them too: enrollment and check-ins.
        bounds: of those.
        terms: of people's sessions.
        sso: the provider that people log in through.
        changes: to its parts.
    """
    log = PostgresEventLog(url, inline=INLINE, name="test")
    waiter = PositionWaiter(app_conninfo(url))
    pool = await open_pool(url, name="rest")
    in_flight, live = InFlightSet(), LivePieces()

    async def catch_up(names: Collection[str]) -> None:
        await waiter.wait(await log.head(), names, 10.0)

    hasher = PasswordHasher(QUICK)
    credentials = CredentialStore(Keystore(pool, KEYS, CREDENTIALS), hasher)
    reads = RolloutReader(pool.connection, catch_up)
    issuer = sso.issuer if sso is not None else None
    nats_urls = ["nats://127.0.0.1:1"]
    server_keys = KeySteps(KeyChanges(log, str(url), new_id), str(url), nats_urls)
    bus = make_bus(
        log,
        in_flight,
        reads,
        keystore=Keystore(pool, KEYS),
        credentials=credentials,
        issuer=issuer,
        touches=TouchCounts(),
        server_keys=server_keys,
    )

    async def postgres() -> dict[str, Any]:
        return {"position": await log.head()}

    rows = SessionRows(pool)
    guesses = Guesses(time.monotonic)
    clock = MovableClock()
    checks = LoginChecks(log, credentials, guesses, clock, new_id)
    sessions = Sessions(log, rows, checks, clock, new_id)
    own_login = OwnLogin(log, rows, sessions, checks, credentials, new_id)
    passkeys = Passkeys(log, PasskeyChallenges(pool), sessions, checks, clock)
    provider = Provider(sso, clock, time.monotonic) if sso is not None else None
    flows = SsoFlows(pool)
    through = Sso(log, flows, provider, sessions, checks, bus, clock)
    logout_guesses = Guesses(time.monotonic, holds=LOGOUT_HOLDS)
    logouts = ProviderLogouts(log, rows, flows, provider, logout_guesses, new_id)
    people = People(
        sessions=sessions, own_login=own_login, passkeys=passkeys, sso=through, provider_logouts=logouts, **terms
    )
    services: list[Service] = [*([first] if first else []), log, waiter, Projector(app_conninfo(url))]
    served = None
    if agents:
        load_keys(url)
        served = AgentHttp(log, pool, url, ["nats://127.0.0.1:4222"], "test", bounds=bounds, catch_up=catch_up)
        services.append(served)
        changes |= {"agent_routes": served.routes(), "on_leave": [served.leave]}
    parts = ApiParts(
        bus=bus,
        log=log,
        pool=pool,
        waiter=waiter,
        authenticator=Authenticator(log, rows),
        people=people,
        server_keys=server_keys,
        status=Glances(partial(collect, alone(url)), time.monotonic),
        read_output=partial(read_output, pool),
        clock=clock,
        new_id=new_id,
        live=live,
        readiness={"postgres": Readiness(probe=postgres)},
        services=services,
        failed_auth_burst=1000,
        access_log=False,
    )
    app = create_app(replace(parts, **changes))
    async with running(app) as (address, server):
        api = Api(
            address, log, bus, in_flight, live, "", server, pool, waiter, [], served, clock, hasher, provider, guesses
        )
        api.logout_guesses = logout_guesses
        yield api
        for client in api.clients:
            await client.aclose()
    await pool.close()
