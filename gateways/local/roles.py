"""One process of the platform: one role or several, from the first word to an orderly end."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Protocol

import psycopg
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from command_bus.login_rights import warning_about
from command_bus.pooler import PoolerError, check_addresses
from gateways.cancelling import end
from gateways.local.addresses import Peers
from gateways.local.cores import leave_no_core
from gateways.local.garbage import look_rarely
from gateways.local.patience import PatientHttp, allow_many_files
from gateways.local.peers import ProxyAlone
from gateways.local.processes import ServerError
from gateways.local.roster import Roster
from gateways.local.watchers import NOT_SHOWN, Watchers
from gateways.logs import configure_logs
from gateways.settings import Settings
from gateways.tls import Pair, Renewal, listener_pair, proxies_alone

WATCH_S = 1.0
STATUS_GRACE_S = 1
FIRST_LOOK_S = 0.1
LONGEST_LOOK_S = 5.0

_log = structlog.get_logger(__name__)


class Role(StrEnum):
    """What a process does. The order is that of starting; they stop in the reverse."""

    PROJECTOR = "projector"
    GATEWAY = "gateway"
    WORKER = "worker"
    SCHEDULER = "scheduler"
    API = "api"


STOP_ORDER = ((Role.API,), (Role.SCHEDULER, Role.WORKER, Role.GATEWAY), (Role.PROJECTOR,))
"""Where each has a process of its own: first who takes requests, then side by side those who work, and then the one
that makes what they recorded visible."""


class Service(Protocol):
    """Has a life of its own.

    It may also have `wait()`, which returns or raises when it is over, or `failure`, which is what ended it; and `note`
    or `state`, a word on what it is doing.
    """

    async def start(self) -> None:
        """Begin; waits for what it needs, with back-off."""

    async def stop(self) -> None:
        """Finish what is in flight, and end."""


class RoleFailedError(Exception):
    """A role ended by itself."""

    code = "role_failed"


class PortTakenError(ServerError):
    """Something else listens at that address."""

    code = "port_taken"


def listening_socket(host: str, port: int) -> socket.socket:
    """Take an address.

    Raises:
        PortTakenError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise PortTakenError(
            f"Cannot listen on {host}:{port}: {_reason(error)}. Choose another with --listen or "
            "FLEETLOG_LISTEN_HOST and FLEETLOG_LISTEN_PORT."
        ) from error
    # asyncio turns Nagle's algorithm off on sockets that say that they are TCP, and only on those.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


def _reason(error: OSError) -> str:
    """In the system's own words, without those that `socket.create_server` adds: the address is named already."""
    if isinstance(error, socket.gaierror) or error.errno is None:  # a name that cannot be resolved has codes of its own
        return error.strerror or str(error)
    return os.strerror(error.errno)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpService:
    """An ASGI application behind a listening socket.

    Args:
        app: what answers.
        listener: a listening socket; closed by `stop`.
        grace_s: how long answers under way may take when it stops.
        leave: called when it stops, so that answers that are held back are given.
        trusted_proxies: whose X-Forwarded-For is believed.
        peers: who is heard; None is everybody who comes.
        pair: its certificate, taken up anew whenever its files change; without it, plain text.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        grace_s: float = STATUS_GRACE_S,
        leave: Callable[[], None] | None = None,
        trusted_proxies: str = "",
        peers: Peers | None = None,
        pair: Pair | None = None,
    ) -> None:
        self._listener = listener
        self._leave = leave
        self._renewal = Renewal(pair) if pair is not None else None
        served: Any = app
        if trusted_proxies:
            served = ProxyHeadersMiddleware(served, trusted_proxies)
        if peers is not None:
            # Outermost: it judges whom the connection is from, and not whom a header names.
            served = ProxyAlone(served, peers)
        self._server = _Uvicorn(
            uvicorn.Config(
                served,
                log_config=None,
                access_log=False,
                server_header=False,
                http=PatientHttp,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, int(grace_s)),
                ssl_context_factory=(lambda *_: pair.context) if pair is not None else None,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        if self._renewal is not None:
            await self._renewal.start()
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http")

    async def wait(self) -> None:
        """Return or raise when it is over."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Take no more requests, and finish those under way."""
        if self._renewal is not None:
            await self._renewal.stop()
        self._server.should_exit = True
        if self._leave is not None:
            self._leave()
        if self._task is not None:
            await self._task
        self._listener.close()


def status_app(healthy: Callable[[], dict[str, str]], watchers: Watchers) -> Starlette:
    """What a role without an API of its own serves to those who watch it.

    Args:
        healthy: the state of each role of this process.
        watchers: who sees more than that it is up.
    """

    async def healthz(request: Request) -> Response:
        shown = {"roles": healthy()} if await watchers.sees(request) else {}
        return JSONResponse({"status": "ok"} | shown)

    async def readyz(request: Request) -> Response:
        roles = healthy()
        ready = all(state == "running" for state in roles.values())
        shown = {"roles": roles} if await watchers.sees(request) else {}
        return JSONResponse({"status": "ready" if ready else "unready"} | shown, 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        if not watchers.open_metrics and not await watchers.sees(request):
            return PlainTextResponse(NOT_SHOWN, 401, {"WWW-Authenticate": "Bearer"})
        return Response(await asyncio.to_thread(generate_latest), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)],
    )


Builder = Callable[[Role, Settings], Service]


def build(role: Role, settings: Settings) -> Service:
    """Put a role together."""
    # Imported here: a process loads what its roles need, and the command line none of it.
    match role:
        case Role.API:
            from gateways.composition.api import build_api  # noqa: PLC0415

            PatientHttp.most_connections = allow_many_files()
            pair = listener_pair(settings, settings.listen_host)
            listener = listening_socket(settings.listen_host, settings.listen_port)
            app = build_api(settings)
            return HttpService(
                app,
                listener,
                grace_s=settings.stop_timeout_s / 2,
                leave=app.state.leave,
                trusted_proxies=settings.trusted_proxies,
                peers=proxies_alone(settings, settings.listen_host),
                pair=pair,
            )
        case Role.PROJECTOR:
            from gateways.composition.projector import build_projector  # noqa: PLC0415

            return build_projector(settings)
        case Role.GATEWAY:
            from gateways.composition.gateway import build_gateway  # noqa: PLC0415

            return build_gateway(settings)
        case Role.WORKER:
            from gateways.composition.worker import build_worker  # noqa: PLC0415

            return build_worker(settings)
        case Role.SCHEDULER:
            from gateways.composition.scheduler import build_scheduler  # noqa: PLC0415

            return build_scheduler(settings)


class RoleProcess:
    """The roles of this process.

    Args:
        roles: which.
        settings: of this process.
        builder: puts a role together.
    """

    def __init__(self, roles: Sequence[Role], settings: Settings, builder: Builder = build) -> None:
        self._roles = [role for role in Role if role in set(roles)]
        self._settings = settings
        self._builder = builder
        self._services: dict[Role, Service] = {}
        self._states: dict[Role, str] = dict.fromkeys(self._roles, "starting")
        self._stop_asked = asyncio.Event()
        self._failure: RoleFailedError | None = None

    def ask_to_stop(self) -> None:
        """Have it stop in order."""
        self._stop_asked.set()

    async def run(self) -> None:
        """Start the roles, and stop them in order when asked to, or when one of them fails.

        Raises:
            RoleFailedError: one ended by itself; the others were stopped in order.
        """
        for role in self._roles:
            self._services[role] = self._builder(role, self._settings)
        async with self._announced() as roster:
            watchers = {
                role: asyncio.create_task(self._live(role, roster), name=f"role-{role}") for role in self._roles
            }
            checking = asyncio.create_task(self._check_addresses(), name="check-addresses")
            await self._stop_asked.wait()
            for role in self._roles:
                if self._states[role] == "starting":
                    watchers[role].cancel()  # it waits for something that may never come
                self._states[role] = "stopping"
            roster.changed()
            for role in reversed(self._roles):
                await self._stop(role)
            await end([*watchers.values(), checking])
        if self._failure is not None:
            raise self._failure

    async def _check_addresses(self) -> None:
        """Look, as soon as the database is there, whether a pooler stands where none may: no waiting mends that.

        A login that could change the past is said, once.
        """
        wait_s = FIRST_LOOK_S
        while True:
            try:
                mighty = await check_addresses(self._settings.database_url)
            except psycopg.Error as error:
                _log.debug("addresses_unchecked", error=str(error).strip())
            except PoolerError as error:
                _log.error("wrong_address", error=str(error))
                self._failure = RoleFailedError(str(error))
                self._stop_asked.set()
                return
            else:
                if mighty is not None:
                    _log.warning("login_too_strong", login=mighty, detail=warning_about(mighty))
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_LOOK_S)

    @contextlib.asynccontextmanager
    async def _announced(self) -> AsyncIterator[Roster]:
        listener = listening_socket(self._settings.status_host, 0)
        port = listener.getsockname()[1]
        pair = listener_pair(self._settings, self._settings.status_host)
        watchers = Watchers(self._settings)
        app = status_app(lambda: {str(role): state for role, state in self._states.items()}, watchers)
        peers = proxies_alone(self._settings, self._settings.status_host)
        status = HttpService(app, listener, peers=peers, pair=pair)
        roster = Roster(
            self._settings.database_url,
            [str(role) for role in self._roles],
            f"{'http' if pair is None else 'https'}://{self._settings.status_host}:{port}",
            lambda role: (self._states[Role(role)], self._note(Role(role))),
        )
        await watchers.start()
        await status.start()
        await roster.start()
        try:
            yield roster
        finally:
            await roster.stop()
            await status.stop()
            await watchers.stop()

    def _note(self, role: Role) -> str:
        service: Any = self._services[role]
        note = getattr(service, "note", None) or getattr(service, "state", "")
        return note if isinstance(note, str) and note not in ("running", "stopped") else ""

    async def _live(self, role: Role, roster: Roster) -> None:
        """Start a role and notice its end."""
        service = self._services[role]
        try:
            await service.start()
            self._states[role] = "running"
            roster.changed()
            _log.info("role_running", part=str(role))
            await _over(service)
            if not self._stop_asked.is_set():
                raise RoleFailedError("it ended by itself")  # noqa: TRY301 -- handled like whatever else ends a role
        except Exception as error:  # noqa: BLE001 -- whatever ends a role ends the process, in order
            if self._stop_asked.is_set():
                return  # told by whoever stops it
            _log.exception("role_failed", part=str(role))
            self._failure = RoleFailedError(f"The role {role} failed: {error}")
            self._stop_asked.set()

    async def _stop(self, role: Role) -> None:
        _log.info("role_stopping", part=str(role))
        try:
            async with asyncio.timeout(self._settings.stop_timeout_s):
                await self._services[role].stop()
        except TimeoutError:
            # Whatever it was doing is safe to be cut: what is acknowledged is on disk, the rest is done again.
            _log.warning("role_cut", part=str(role), after_s=self._settings.stop_timeout_s)
        except Exception:  # noqa: BLE001 -- the other roles are stopped all the same
            _log.exception("role_stop_failed", part=str(role))


async def _over(service: Any) -> None:
    """Return or raise when a service has ended."""
    if hasattr(service, "wait"):
        await service.wait()
        return
    while getattr(service, "failure", None) is None:  # noqa: ASYNC110 -- it is set by a thread that knows no loop
        await asyncio.sleep(WATCH_S)
    raise service.failure


def serve(roles: Sequence[Role], settings: Settings, builder: Builder = build) -> int:
    """Run roles in this process until SIGTERM or SIGINT; a second signal ends it at once.

    Returns:
        0 after an orderly end, 1 when a role failed.
    """
    configure_logs(settings.log_level, settings.log_format, role="+".join(roles))
    leave_no_core()
    look_rarely()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(roles, settings, builder))


async def _serve(roles: Sequence[Role], settings: Settings, builder: Builder) -> int:
    process = RoleProcess(roles, settings, builder)
    asked = 0

    def on_signal() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(130)
        process.ask_to_stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await process.run()
    except RoleFailedError as error:
        _log.error("ended", error=str(error))
        return 1
    return 0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop that roles run on; None for asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 -- there is none for Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
