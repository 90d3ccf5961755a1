"""Who may see how a role's process fares: this machine, and whoever brings a key that may see the platform."""

import asyncio
import contextlib
import time
from uuid import UUID

import structlog
from starlette.requests import Request

from command_bus.authenticating import Authenticator
from command_bus.credentials import KEY_PREFIX, parse
from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLogError
from command_bus.ids import new_id, utc_now
from command_bus.postgres_log import PostgresEventLog
from command_bus.refusals import RefusalRecords
from domain.permissions import Permission
from domain.refusals import Door, RequestRefused
from gateways.local.peers import comes_from_here
from gateways.rest.errors import TooManyFailuresError
from gateways.rest.guesses import place_of
from gateways.rest.rates import FAILED, FailureLimit, SharedRates
from gateways.settings import Settings, Tls
from projections.catalog import INLINE

PATIENCE_S = 3.0
WRONG_KEYS, WRONG_KEY_EVERY_S = 20, 10.0
"""Of an address: so many at once, and then one more each so many seconds; at this process and the API's together."""
NOT_SHOWN = "Bring an API key that may `platform.see` (Authorization: Bearer), or set FLEETLOG_METRICS_OPEN=true.\n"
_log = structlog.get_logger("fleetlog.watchers")


class Watchers:
    """Judges requests to a role's status listener. The database is asked once a key is brought, and not before.

    Args:
        settings: of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self.open_metrics = settings.metrics_open
        self._settings = settings
        self._limit = FailureLimit(WRONG_KEYS, WRONG_KEY_EVERY_S, time.monotonic)
        url = settings.redis_url
        self.shared = None if url is None else SharedRates(self._limit, url.get_secret_value(), FAILED)
        self._opening = asyncio.Lock()
        self._events: PostgresEventLog | None = None
        self._authenticator: Authenticator | None = None
        self._refusals: RefusalRecords | None = None

    async def start(self) -> None:
        """Count wrong keys together with other processes, where there is Valkey."""
        if self.shared is not None:
            await self.shared.start()

    async def sees(self, request: Request) -> bool:
        """Whether whoever asks may see all."""
        if self._settings.tls is not Tls.PROXY and comes_from_here(request.scope):
            return True
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        address = request.client.host if request.client is not None else ""
        place = place_of(address)
        if scheme.lower() != "bearer":
            return False
        if self._limit.wait_s(place) > 0:
            if self._refusals is not None:
                self._refusals.count(Door.KEY, TooManyFailuresError.code)
            return False
        parsed = parse(KEY_PREFIX, key.strip())
        if parsed is None:  # whoever says anything has us open nothing
            self._limit.failed(place)
            return False
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._opens(key.strip(), parsed[0], address)
        except (TimeoutError, EventLogError) as error:
            _log.warning("key_not_checked", error=str(error) or type(error).__name__)
            return False

    async def _opens(self, key: str, key_id: UUID, address: str) -> bool:
        authenticator, refusals = await self._opened()
        try:
            who = await authenticator.authenticate(key, utc_now())
        except UnauthenticatedError as error:
            place = place_of(address)
            self._limit.failed(place)
            _log.warning("wrong_key", address=address)
            owner_id = error.extra.get("owner_id")
            refused = RequestRefused(door=Door.KEY, code=error.code, key_id=key_id, user_id=owner_id, address=address)
            await refusals.refused(refused, (str(key_id), place))
            return False
        return who.access.scope(Permission.PLATFORM_SEE).everything

    async def stop(self) -> None:
        """Close what was opened, and record what was counted."""
        if self.shared is not None:
            await self.shared.stop()
        if self._refusals is not None:
            await self._refusals.stop()
        if self._events is not None:
            await self._events.stop()

    async def _opened(self) -> tuple[Authenticator, RefusalRecords]:
        async with self._opening:
            if self._authenticator is None or self._refusals is None:
                async with contextlib.AsyncExitStack() as closing:
                    events = PostgresEventLog(self._settings.database_url, inline=INLINE, name="status")
                    closing.push_async_callback(events.stop)
                    await events.start()
                    refusals = RefusalRecords(events, utc_now, new_id)
                    await refusals.start()
                    closing.pop_all()
                self._events, self._authenticator, self._refusals = events, Authenticator(events), refusals
            return self._authenticator, self._refusals
