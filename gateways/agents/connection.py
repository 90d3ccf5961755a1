"""Fleetlog's own connections to NATS."""

import asyncio
import base64
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence

import nats.errors
import structlog
from nats.aio.client import Client, Srv

from gateways.agents import metrics
from gateways.agents.keys import Key
from gateways.agents.patience import PatientClient
from gateways.tls import SYSTEM, Authorities, CertificateError

_log = structlog.get_logger()
_RECONNECT_S = 0.2
_CONNECT_S = 5
_PENDING_BYTES = 64 * 1024 * 1024
_PING_EVERY_S = 10
LONGEST_WAIT_S = 2.0
_PERMISSION = "permissions violation"
_QUOTES = "'"
"""A server's errors come in them."""


class _KeyClient(PatientClient):
    """A client that shows a key: nats-py can do so from a seed in a file only, and then wants a further package."""

    def __init__(self, key: Callable[[], Key], authorities: Authorities) -> None:
        super().__init__()
        self._key = key
        self._authorities = authorities

    @property
    def _public_nkey(self) -> str:
        """For each connection anew, as below."""
        return self._key().user_nkey

    @_public_nkey.setter
    def _public_nkey(self, value: str | None) -> None:
        """nats-py sets it to None as it begins."""

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """For each connection anew, for the authority may be another by then."""
        return self._authorities.context()

    async def _attempt_reconnect(self) -> None:
        """Without waiting until the old connection has sent all: one that stands still does not for a long time."""
        self.abort()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: Srv) -> None:
        """Letting go of a try before it that failed: nats-py forgets it, and leaves it open."""
        self.abort()
        await super()._connect_to_server(s)

    async def _process_err(self, err_msg: str) -> None:
        """Connect anew whatever the server ends a connection for: nats-py stays away for good after most errors."""
        if _PERMISSION in err_msg.lower() or not self.options["allow_reconnect"]:
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error(f"nats: {err_msg.strip(_QUOTES)}")
        await self._error_cb(error)
        await self._process_op_err(error)


async def _nothing_to_see() -> None:
    """The key stays."""


async def connect(
    urls: Sequence[str],
    key: Callable[[], Key],
    name: str,
    *,
    authorities: Authorities = SYSTEM,
    on_reconnect: Callable[[], Awaitable[None]] | None = None,
    on_dropped: Callable[[], None] = lambda: None,
    look: Callable[[], Awaitable[None]] = _nothing_to_see,
) -> Client:
    """Connect, waiting for the server with back-off, and stay connected: it reconnects for ever.

    Args:
        urls: of the servers; any of them will do.
        key: one that the server's configuration names; asked for at each connection.
        name: shown in the server's list of connections.
        authorities: whom to trust where the address says ``tls://`` or ``wss://``.
        on_reconnect: called after each time the connection came back.
        on_dropped: called for each message that found its queue here full.
        look: looks whether the key is another now; called when the connection was lost or not let in.
    """
    client = _KeyClient(key, authorities)
    wait_s = 0.05

    async def on_error(error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            metrics.DROPPED.inc()
            on_dropped()
        _log.debug("nats_error", error=str(error) or type(error).__name__, connection=name)
        if "authorization" in str(error).lower():
            await look()

    async def on_disconnected() -> None:
        _log.warning("nats_disconnected", connection=name)
        await look()

    async def on_reconnected() -> None:
        _log.info("nats_reconnected", connection=name)
        if on_reconnect is not None:
            await on_reconnect()

    while True:
        try:
            await client.connect(
                list(urls),
                name=name,
                # The token only makes nats-py answer the server's challenge; the key is what counts.
                token="fleetlog",  # noqa: S106
                signature_cb=lambda nonce: base64.b64encode(key().sign(nonce.encode())),
                connect_timeout=_CONNECT_S,
                max_reconnect_attempts=-1,
                # Before the agents: whoever of them asks to be let in while no gateway is there asks in vain.
                reconnect_time_wait=_RECONNECT_S,  # type: ignore[arg-type]  # it is slept for; a float will do
                ping_interval=_PING_EVERY_S,
                max_outstanding_pings=3,
                pending_size=_PENDING_BYTES,
                error_cb=on_error,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
                tls_hostname=authorities.name,
            )
        except (nats.errors.Error, OSError, TimeoutError, CertificateError) as error:
            _log.info("nats_waiting", error=str(error) or type(error).__name__, connection=name)
            await client.close()
            await look()
            client = _KeyClient(key, authorities)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))  # noqa: S311 -- spreads retries, hides nothing
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        else:
            return client


async def lets_in(url: str, key: Key, authorities: Authorities = SYSTEM) -> bool:
    """Whether a NATS server lets a key in; False also where it cannot be reached.

    Args:
        url: of the server.
        key: to try.
        authorities: whom to trust there.
    """
    client = _KeyClient(lambda: key, authorities)
    try:
        await client.connect(
            url,
            name="fleetlog-key-check",
            token="fleetlog",  # noqa: S106 -- as above
            signature_cb=lambda nonce: base64.b64encode(key.sign(nonce.encode())),
            connect_timeout=_CONNECT_S,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            error_cb=_unheard,
            tls_hostname=authorities.name,
        )
    except (nats.errors.Error, OSError, TimeoutError, CertificateError) as error:
        _log.info("key_not_let_in", url=url, error=str(error) or type(error).__name__)
        return False
    finally:
        await client.close()
    return True


async def _unheard(error: Exception) -> None:
    _log.debug("nats_error", error=str(error) or type(error).__name__)
