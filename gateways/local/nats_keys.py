"""Which keys the embedded NATS server lets in: looked at every few seconds, since one may take over from another."""

import time

import psycopg
import structlog

from domain.server_keys import Purpose
from gateways.agents.keys import ServerKeys, load_keys

_log = structlog.get_logger(__name__)
LOOK_S = 5.0


class NatsKeys:
    """The keys of one `fleetlog up`.

    Args:
        url: the database, migrated.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.keys: ServerKeys = load_keys(url)
        self._next_look = time.monotonic() + LOOK_S

    def renewed(self) -> bool:
        """Look; returns whether the NATS server's configuration is another now. To be called often."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_S
        before = _shown(self.keys)
        try:
            self.keys = load_keys(self._url)
        except psycopg.OperationalError as error:
            _log.info("keys_waiting", error=str(error).strip())  # Postgres is away; it is looked for elsewhere
            return False
        return _shown(self.keys) != before


def _shown(keys: ServerKeys) -> list[bytes]:
    users = [key.public for purpose in (Purpose.GATEWAY, Purpose.SYSTEM) for key in keys.users[purpose]]
    return [keys.issuer.public, *users]
