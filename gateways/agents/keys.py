"""The fleet's own keys: what orders are signed with, and what lets gateways into NATS.

They are made once, by whichever process comes first, and live in Postgres: docs/decisions/0004-keys.md. How one takes
over from another is in `gateways.agents.key_changes`; here is what processes use.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence

import msgspec
import psycopg
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command_bus.postgres import app_conninfo
from domain.server_keys import Purpose
from schema import trust

_log = structlog.get_logger()
_ACCOUNT = 0
_USER = 20 << 3
_NOT_MIGRATED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)


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
        self.name = trust.key_name(self.public)

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


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One key as Postgres keeps it."""

    number: int
    public: bytes
    seed: bytes | None
    """None once it is over."""
    announced: bytes | None
    ended: bytes | None


class Chain(msgspec.Struct, frozen=True):
    """Every key of one purpose that there was or is, the oldest first."""

    rows: tuple[KeyRow, ...]

    @property
    def counting(self) -> list[KeyRow]:
        """Those that count."""
        return [row for row in self.rows if row.seed is not None]

    @property
    def public(self) -> list[bytes]:
        """The same, as agents have them."""
        return [row.public for row in self.counting]

    @property
    def newest(self) -> KeyRow:
        return self.rows[-1]

    def told_to(self, known: Sequence[bytes]) -> trust.ServerKeys | None:
        """What an agent has to hear of; None where it accepts what it should.

        Args:
            known: the keys that it says it accepts; an agent that is too old to speak of them is told nothing.
        """
        return None if not known or set(known) == set(self.public) else self.told()

    def told(self) -> trust.ServerKeys:
        """How an agent comes from any of them to those that count."""
        links = [
            trust.KeyLink(previous=before.public, public_key=row.public, signature=row.announced)
            for before, row in zip(self.rows, self.rows[1:], strict=False)
            if row.announced is not None
        ]
        oldest = self.counting[0]
        if oldest.ended is None:
            return trust.ServerKeys(links=links)
        return trust.ServerKeys(links=links, oldest=oldest.public, retired=oldest.ended)


class ServerKeys(msgspec.Struct, frozen=True):
    """All keys of one fleet.

    While one takes over from another, the older of the two is the one that is used: whoever is to check it knows it.
    """

    delivery: Key
    """Signs deliveries and cancel requests; agents learn its public half when they enroll."""
    issuer: Key
    """Signs the permissions that NATS grants to an agent."""
    gateway: Key
    """Lets gateways and the API into NATS."""
    system: Key
    """Lets gateways hear who connects, and disconnect whom they must."""
    chain: Chain
    """Of the delivery key."""
    users: dict[Purpose, list[Key]]
    """For NATS servers: every key that counts, of those that let somebody in."""


def load_keys(url: str) -> ServerKeys:
    """Read the keys, making those that are missing; two that come at once end with the same.

    Args:
        url: the database, migrated.
    """
    with psycopg.connect(app_conninfo(url, name="fleetlog-keys")) as connection:
        fresh = [Ed25519PrivateKey.generate().private_bytes_raw() for _ in Purpose]
        connection.execute(
            "INSERT INTO fleetlog.server_keys (purpose, seed)"
            " SELECT * FROM unnest(%s::text[], %s::bytea[]) ON CONFLICT DO NOTHING",
            [[purpose.value for purpose in Purpose], fresh],
        )
        chains = {purpose: read_chain(connection, purpose) for purpose in Purpose}
    return _keys(chains)


def read_chain(connection: psycopg.Connection, purpose: Purpose) -> Chain:
    """All keys of a purpose but those that no event speaks of."""
    rows = connection.execute(
        "SELECT number, public, seed, announced, ended FROM fleetlog.server_keys"
        " WHERE purpose = %s AND state <> 'made' ORDER BY number",
        [purpose.value],
    ).fetchall()
    return Chain(tuple(_row(*row) for row in rows))


def _row(number: int, public: bytes | None, seed: bytes | None, announced: bytes | None, ended: bytes | None) -> KeyRow:
    # The first was made before any was to take over from it: it is read off its seed.
    known = public if public is not None else Key(bytes(seed or b"")).public
    return KeyRow(number=number, public=known, seed=seed, announced=announced, ended=ended)


def _keys(chains: dict[Purpose, Chain]) -> ServerKeys:
    users = {purpose: _signing(chain.counting) for purpose, chain in chains.items()}
    first = {purpose: keys[0] for purpose, keys in users.items()}
    return ServerKeys(
        first[Purpose.DELIVERY],
        first[Purpose.ISSUER],
        first[Purpose.GATEWAY],
        first[Purpose.SYSTEM],
        chains[Purpose.DELIVERY],
        users,
    )


def _signing(rows: Sequence[KeyRow]) -> list[Key]:
    return [Key(row.seed) for row in rows if row.seed is not None]


async def wait_for_keys(url: str) -> ServerKeys:
    """`load_keys`, as soon as the database is there and migrated."""
    wait_s = 0.1
    while True:
        try:
            return await asyncio.to_thread(load_keys, url)
        except (psycopg.OperationalError, *_NOT_MIGRATED) as error:
            _log.info("keys_waiting", error=str(error).strip())
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, 2.0)


class KeysInUse:
    """The keys as one process has them, which may be others later: whoever uses one asks for it each time.

    Args:
        url: the database.
        keys: as they were read.
    """

    def __init__(self, url: str, keys: ServerKeys) -> None:
        self.url = url
        self.keys = keys

    @property
    def delivery(self) -> Key:
        """What orders are signed with now."""
        return self.keys.delivery

    async def read(self) -> None:
        """Read them again.

        Raises:
            psycopg.Error: they cannot be read; those from before stay.
        """
        before = self.keys
        self.keys = await asyncio.to_thread(load_keys, self.url)
        if self.keys.chain.public != before.chain.public:
            _log.info("keys_changed", counting=len(self.keys.chain.public), signer=self.keys.delivery.public_hex)

    async def look(self) -> None:
        """`read`, where it can be done now."""
        try:
            await self.read()
        except psycopg.Error as error:
            _log.info("keys_waiting", error=str(error).strip())
