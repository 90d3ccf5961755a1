"""What the API is made of, handed in from outside so that a test holds every piece."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from psycopg_pool import AsyncConnectionPool
from starlette.routing import BaseRoute

from command_bus.access import Standing
from command_bus.authenticating import LiveSession
from command_bus.bus import CommandBus
from command_bus.context import Clock, NewId
from command_bus.event_log import EventLog, Mark
from command_bus.handlers.own_logins import OwnLogin
from command_bus.handlers.passkeys import Passkeys
from command_bus.handlers.provider_logouts import ProviderLogouts
from command_bus.handlers.sessions import Sessions
from command_bus.handlers.sso import Sso
from command_bus.refusals import RefusalRecords
from domain.access import Access, Grant
from domain.event import Recorded
from domain.ids import UserId
from gateways.agents.key_changes import KeyStanding
from gateways.rest.admission import Limits
from gateways.rest.guesses import Guesses
from gateways.rest.rates import FailureLimit, Rates
from gateways.retention import Retention
from gateways.status import Status
from schema import wire

MIB = 1024 * 1024


class Identity(Protocol):
    """Whom an API key or a session speaks for."""

    @property
    def actor(self) -> str: ...
    @property
    def access(self) -> Access: ...
    @property
    def standing(self) -> Standing: ...
    @property
    def grants(self) -> tuple[Grant, ...]: ...
    @property
    def user_id(self) -> UserId | None: ...
    @property
    def session(self) -> LiveSession | None: ...
    @property
    def unattended(self) -> bool: ...


class Authenticator(Protocol):
    async def authenticate(self, text: str, at: datetime, *, using: bool = True) -> Identity:
        """Whom this key or session speaks for; ``using`` keeps a session from being idle.

        Raises:
            UnauthenticatedError: it is neither, or an expired or revoked one.
        """

    def heard(self, recorded: Recorded | Mark) -> None:
        """Something was recorded: what was read before may hold no more."""

    def missed(self) -> None:
        """Something may have been recorded that nobody told of."""


@dataclass(frozen=True, kw_only=True)
class People:
    """What people do for themselves, and what their sessions are held to."""

    sessions: Sessions
    own_login: OwnLogin
    passkeys: Passkeys
    sso: Sso
    provider_logouts: ProviderLogouts
    proof_life: timedelta = timedelta(minutes=10)
    """So long after they have shown themselves they may do what can do harm."""
    proof_agents: int = 50
    """What touches more agents than these can do harm."""
    public_url: str | None = None
    """Where browsers reach the API, if that is not what they write as Host."""


@dataclass(frozen=True, kw_only=True)
class Watching:
    """Who sees how the process fares, besides those who may see the platform."""

    loopback: bool = True
    """Whoever asks from this machine; not where a proxy may stand here."""
    open_metrics: bool = False
    """Metrics, everybody."""


class ServerKeys(Protocol):
    """The server's own keys."""

    async def standings(self, at: int | None = None) -> Sequence[KeyStanding]:
        """Every key there is, or was."""


class Waiter(Protocol):
    """Tells when projections have come to a position."""

    async def wait(self, position: int, names: Collection[str], timeout_s: float) -> None:
        """Return once all of them have; raise PositionTimeoutError if they do not in time."""


class Live(Protocol):
    """Output of running commands as it appears: best effort."""

    def follow(self, command_id: UUID) -> AbstractAsyncContextManager[AsyncIterator[wire.OutputLive]]:
        """What one command prints from now on."""


OutputReader = Callable[[str], AsyncIterator[bytes]]
"""The raw bytes of a stored output, by its SHA-256 in hex; nothing, or a domain error, where it is not held."""


class Service(Protocol):
    """Something with a life of its own: ``start`` waits for what it needs, ``stop`` finishes what is under way."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


Probe = Callable[[], Awaitable[Mapping[str, Any] | None]]
"""Looks at one dependency: returns what is worth showing of it, and raises where it is away."""


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """One line of ``/readyz``."""

    probe: Probe
    needed: bool = True
    """False where the API answers without it, so that its absence is shown and no more."""


@dataclass(frozen=True, kw_only=True)
class ApiParts:
    """Everything `create_app` needs.

    ``services`` are started in order when the application starts (in the background: until then requests are answered
    503, and ``/readyz`` says so) and stopped in reverse order when it ends.
    """

    bus: CommandBus
    log: EventLog
    pool: AsyncConnectionPool
    waiter: Waiter
    authenticator: Authenticator
    read_output: OutputReader
    watching: Watching = Watching()
    people: People
    status: Callable[[], Awaitable[Status]]
    """Looks at every part of the platform; never raises because one is away."""
    clock: Clock
    new_id: NewId
    server_keys: ServerKeys
    """Says which there are."""
    retention: Retention = field(default_factory=Retention)
    """As this process is set; holds where nothing is on record."""
    live: Live | None = None
    agent_routes: Sequence[BaseRoute] = ()
    """`POST /enroll` and `POST /agent/check-in`, with their paths below ``/api/v1``."""
    readiness: Mapping[str, Readiness] = field(default_factory=dict)
    services: Sequence[Service] = ()
    on_leave: Sequence[Callable[[], None]] = ()
    """Called before it stops: whoever holds answers back is to give them now."""
    max_body_bytes: int = MIB
    limits: Limits = field(default_factory=Limits)
    """How much is done at once."""
    rates: Rates | None = None
    """How often each key may come; None means as often as it likes."""
    failures: FailureLimit | None = None
    """Of addresses, where several processes share it; None means one of its own, by what follows."""
    key_guesses: Guesses | None = None
    """Wrong secrets of API keys, where several processes share what they count; None means one of its own."""
    refusals: RefusalRecords | None = None
    """Started and stopped with ``services``; None means one of its own."""
    failed_auth_burst: int = 20
    """So many wrong keys an address may send at once; after that one more every ``failed_auth_every_s``."""
    failed_auth_every_s: float = 3.0
    wait_position_s: float = 10.0
    """How long a read waits for the position that it was asked to see."""
    heartbeat_s: float = 15.0
    """Of event streams."""
    start_grace_s: float = 5.0
    access_log: bool = True
