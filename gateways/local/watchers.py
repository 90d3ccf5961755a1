"""Who may see how a role's process fares: this machine, and whoever brings a key that may see the platform."""

import asyncio
import contextlib
import time

import structlog
from starlette.requests import Request

from command_bus.authenticating import Authenticator
from command_bus.credentials import KEY_PREFIX, parse
from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLogError
from command_bus.ids import utc_now
from command_bus.postgres_log import PostgresEventLog
from domain.permissions import Permission
from gateways.local.peers import comes_from_here
from gateways.rest.rates import FailureLimit
from gateways.settings import Settings, Tls

PATIENCE_S = 3.0
WRONG_KEYS, WRONG_KEY_EVERY_S = 20, 10.0
"""Of an address: so many at once, and then one more each so many seconds."""
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
        self._opening = asyncio.Lock()
        self._events: PostgresEventLog | None = None
        self._authenticator: Authenticator | None = None

    async def sees(self, request: Request) -> bool:
        """Whether whoever asks may see all."""
        if self._settings.tls is not Tls.PROXY and comes_from_here(request.scope):
            return True
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        address = request.client.host if request.client is not None else ""
        if scheme.lower() != "bearer" or self._limit.wait_s(address) > 0:
            return False
        if parse(KEY_PREFIX, key.strip()) is None:  # whoever says anything has us open nothing
            self._limit.failed(address)
            return False
        try:
            async with asyncio.timeout(PATIENCE_S):
                authenticator = await self._opened()
                who = await authenticator.authenticate(key.strip(), utc_now())
        except UnauthenticatedError:
            self._limit.failed(address)
            _log.warning("wrong_key", address=address)
            return False
        except (TimeoutError, EventLogError) as error:
            _log.warning("key_not_checked", error=str(error) or type(error).__name__)
            return False
        return who.access.scope(Permission.PLATFORM_SEE).everything

    async def stop(self) -> None:
        """Close what was opened."""
        if self._events is not None:
            await self._events.stop()

    async def _opened(self) -> Authenticator:
        async with self._opening:
            if self._authenticator is None:
                async with contextlib.AsyncExitStack() as closing:
                    events = PostgresEventLog(self._settings.database_url, name="status")
                    closing.push_async_callback(events.stop)
                    await events.start()
                    closing.pop_all()
                self._events, self._authenticator = events, Authenticator(events)
            return self._authenticator
