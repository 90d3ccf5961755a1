"""The fleet's own keys: what orders are signed with, and what lets gateways into NATS.

They are made once, by whichever process comes first, and live in Postgres: docs/decisions/0004-keys.md.
"""

import asyncio
import base64
import binascii

import msgspec
import psycopg
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command_bus.postgres import app_conninfo

_log = structlog.get_logger()
_ACCOUNT = 0
_USER = 20 << 3
_PURPOSES = ("delivery", "issuer", "gateway", "system")


def nkey(prefix: int, public: bytes) -> str:
    """A public key as NATS writes it: prefix, key and CRC-16 in base 32."""
    body = bytes([prefix]) + public
    checksum = binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body + checksum).rstrip(b"=").decode()


class Key:
    """One Ed25519 key."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)

    @property
    def public_hex(self) -> str:
        return self.public.hex()

    @property
    def account_nkey(self) -> str:
        return nkey(_ACCOUNT, self.public)

    @property
    def user_nkey(self) -> str:
        return nkey(_USER, self.public)


class ServerKeys(msgspec.Struct, frozen=True):
    """All keys of one fleet."""

    delivery: Key
    """Signs deliveries and cancel requests; agents learn its public half when they enroll."""
    issuer: Key
    """Signs the permissions that NATS grants to an agent."""
    gateway: Key
    """Lets gateways and the API into NATS."""
    system: Key
    """Lets gateways hear who connects, and disconnect whom they must."""

    @classmethod
    def from_seeds(cls, seeds: dict[str, bytes]) -> "ServerKeys":
        return cls(*(Key(seeds[purpose]) for purpose in _PURPOSES))


def load_keys(url: str) -> ServerKeys:
    """Read the keys, making those that are missing; two that come at once end with the same.

    Args:
        url: the database, migrated.
    """
    with psycopg.connect(app_conninfo(url, name="fleetlog-keys")) as connection:
        fresh = [Ed25519PrivateKey.generate().private_bytes_raw() for _ in _PURPOSES]
        connection.execute(
            "INSERT INTO fleetlog.server_keys (purpose, seed)"
            " SELECT * FROM unnest(%s::text[], %s::bytea[]) ON CONFLICT DO NOTHING",
            [list(_PURPOSES), fresh],
        )
        rows = connection.execute("SELECT purpose, seed FROM fleetlog.server_keys").fetchall()
    return ServerKeys.from_seeds({purpose: bytes(seed) for purpose, seed in rows})


async def wait_for_keys(url: str) -> ServerKeys:
    """`load_keys`, as soon as the database is there and migrated."""
    wait_s = 0.1
    while True:
        try:
            return await asyncio.to_thread(load_keys, url)
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            _log.info("keys_waiting", error=str(error).strip())
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, 2.0)
