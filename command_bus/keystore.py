"""Values that no event holds, sealed, beside the log: one row each, under the id that the event names.

    value --AES-256-GCM, a key of its own--> sealed        that key --master key--> wrapped

Associated data binds each row to its secret and value, so that no row can stand in for another. A new master key seals
the small keys again and touches no value.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import LiteralString
from uuid import UUID

import msgspec
import psycopg
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.sql import SQL, Composed, Identifier

from command_bus.event_log import OutcomeUnknownError
from command_bus.master_keys import KEY_BYTES, BadMasterKeyError, KeyServiceAwayError, MasterKeys
from command_bus.postgres import AsyncPool
from domain.errors import NoMasterKeyError
from schema.arrays import uuids

_log = structlog.get_logger("fleetlog.keystore")
OnExit = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], Awaitable[bool]]
_NONCE_BYTES = 12
_PAGE = 200
_KEEP: LiteralString = """
INSERT INTO fleetlog.{} (value_id, secret_id, key_id, wrapped_key, sealed) VALUES (%s, %s, %s, %s, %s)
"""
_READ: LiteralString = """
SELECT value_id, secret_id, key_id, wrapped_key, sealed FROM fleetlog.{} WHERE value_id = ANY(%s::uuid[])
"""
_PAGE_OF_KEYS: LiteralString = """
SELECT value_id, secret_id, key_id, wrapped_key, ''::bytea FROM fleetlog.{}
WHERE value_id > %s ORDER BY value_id LIMIT %s
"""
# What was wrapped again meanwhile is left alone.
_REWRAP: LiteralString = """
UPDATE fleetlog.{} SET key_id = %s, wrapped_key = %s WHERE value_id = %s AND wrapped_key = %s
"""
_DROP: LiteralString = "DELETE FROM fleetlog.{} WHERE value_id = ANY(%s::uuid[])"
_OLDER: LiteralString = "SELECT value_id, secret_id FROM fleetlog.{} WHERE kept_at < now() - %s"


class Shelf(msgspec.Struct, frozen=True):
    """Where values of one kind are kept."""

    table: str
    context: bytes
    """Bound in with each, so that none can stand in for one of another shelf."""


SECRETS = Shelf("secret_values", b"fleetlog-secret-1\x00")
CREDENTIALS = Shelf("credential_values", b"fleetlog-credential-1\x00")
"""What people log in with: the holder is the stream of a user's login."""
DESTINATIONS = Shelf("destination_values", b"fleetlog-destination-1\x00")
"""What destinations of forwarded events are told in confidence."""


class _Row(msgspec.Struct, frozen=True):
    value_id: UUID
    secret_id: UUID
    key_id: str
    wrapped_key: bytes
    sealed: bytes


class Unreadable(msgspec.Struct, frozen=True):
    """A value that is there and cannot be opened."""

    why: str


class Keystore:
    """Seals and opens values.

    Args:
        pool: connections of the application.
        keys: the master key.
        shelf: where they are kept.
    """

    def __init__(self, pool: AsyncPool, keys: MasterKeys, shelf: Shelf = SECRETS) -> None:
        self._pool = pool
        self._keys = keys
        self._shelf = shelf

    def beside(self, shelf: Shelf) -> "Keystore":
        """The same connections and master key, for values of another kind."""
        return Keystore(self._pool, self._keys, shelf)

    def _sql(self, text: LiteralString) -> Composed:
        return SQL(text).format(Identifier(self._shelf.table))

    def _name(self, secret_id: UUID, value_id: UUID) -> bytes:
        return self._shelf.context + secret_id.bytes + value_id.bytes

    async def keep(self, secret_id: UUID, value_id: UUID, value: bytes) -> None:
        """Seal a value and put it on disk.

        Raises:
            NoMasterKeyError: there is nothing to seal it with.
        """
        data_key = os.urandom(KEY_BYTES)
        name = self._name(secret_id, value_id)
        key_id, wrapped = await self._keys.wrap(data_key, name)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + AESGCM(data_key).encrypt(nonce, value, name)
        async with self._pool.connection() as connection:
            await connection.execute(self._sql(_KEEP), [value_id, secret_id, key_id, wrapped, sealed])

    async def drop(self, value_ids: Sequence[UUID]) -> None:
        """Forget values for good."""
        async with self._pool.connection() as connection:
            await connection.execute(self._sql(_DROP), [uuids(value_ids)])

    async def open(self, value_ids: Sequence[UUID]) -> dict[UUID, bytes | Unreadable]:
        """Open values; those that are not there are absent.

        Raises:
            KeyServiceAwayError: nobody can say just now.
        """
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(self._sql(_READ), [uuids(value_ids)])).fetchall()
        return {row[0]: await self._open(_Row(*row)) for row in rows}

    async def _open(self, row: _Row) -> bytes | Unreadable:
        name = self._name(row.secret_id, row.value_id)
        try:
            data_key = await self._keys.unwrap(row.key_id, row.wrapped_key, name)
            return AESGCM(data_key).decrypt(row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:], name)
        except KeyServiceAwayError:
            raise
        except NoMasterKeyError as error:
            return Unreadable(error.detail)
        except (InvalidTag, ValueError):
            return Unreadable("its sealed value is damaged.")

    async def rewrap(self) -> tuple[str, int]:
        """Seal every value's own key under the present master key.

        Returns:
            Which key that is, and how many values there are.

        Raises:
            NoMasterKeyError: one cannot be opened; those before it are sealed anew, and all are as readable as before.
        """
        count, after = 0, UUID(int=0)
        key_id, _ = await self._keys.wrap(os.urandom(KEY_BYTES), b"")
        while True:
            async with self._pool.connection() as connection:
                found = await connection.execute(self._sql(_PAGE_OF_KEYS), [after, _PAGE])
                rows = [_Row(*row) for row in await found.fetchall()]
            for row in rows:
                name = self._name(row.secret_id, row.value_id)
                data_key = await self._keys.unwrap(row.key_id, row.wrapped_key, name)
                if len(data_key) != KEY_BYTES:
                    raise BadMasterKeyError(f"The key of value {row.value_id} is not {KEY_BYTES} bytes long.")
                key_id, wrapped = await self._keys.wrap(data_key, name)
                async with self._pool.connection() as connection:
                    await connection.execute(self._sql(_REWRAP), [key_id, wrapped, row.value_id, row.wrapped_key])
            count += len(rows)
            if len(rows) < _PAGE:
                return key_id, count
            after = rows[-1].value_id

    def settle(self, new: Sequence[UUID], old: Sequence[UUID]) -> OnExit:
        """What becomes of values once the decision that is about them is recorded or refused.

        Only what surely is not named any more goes: where nobody knows whether the event is on record, all values stay,
        and the sweep finds out which of them counts.

        Args:
            new: those that it names.
            old: those that they take the place of.
        """

        async def settle(
            kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
        ) -> bool:
            gone = old if kind is None else () if issubclass(kind, OutcomeUnknownError) else new
            if gone and (kind is None or issubclass(kind, Exception)):
                try:
                    await self.drop(gone)
                except psycopg.Error as error:  # what was decided stands
                    _log.warning("values_left", value_ids=[str(one) for one in gone], error=str(error).strip())
            return False

        return settle

    async def older_than(self, age: timedelta) -> list[tuple[UUID, UUID]]:
        """(value, secret) of those that were kept so long ago."""
        async with self._pool.connection() as connection:
            found = await connection.execute(self._sql(_OLDER), [age])
            return [(row[0], row[1]) for row in await found.fetchall()]
