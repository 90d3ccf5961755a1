"""What people log in with: hashes of passwords and recovery codes, and secrets of second factors, sealed."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from command_bus.event_log import EventLog, Selection
from command_bus.keystore import Keystore, OnExit, Unreadable
from command_bus.passwords import PasswordHasher
from command_bus.repository import load_many
from domain.erasures import SubjectErased
from domain.errors import NoMasterKeyError
from domain.logins import Login, login_stream
from domain.personal import SubjectKind

_PASSWORD, _TOTP, _RECOVERY = b"p", b"t", b"r"
"""What a value is stands in front of it, sealed with it."""


class CredentialStore:
    """Keeps and reads them, each under the id that an event of the user's login names.

    Args:
        keystore: seals them; of the shelf for credentials.
        hasher: of passwords.
    """

    def __init__(self, keystore: Keystore, hasher: PasswordHasher) -> None:
        self.keystore = keystore
        self._hasher = hasher

    async def keep_password(self, login_id: UUID, value_id: UUID, password: str) -> None:
        """Hash and keep a password.

        Raises:
            NoMasterKeyError: there is nothing to seal it with.
            LoginsBusyError: too many are hashed already.
        """
        hashed = await self._hasher.hash(password)
        await self.keystore.keep(login_id, value_id, _PASSWORD + hashed.encode())

    async def is_password(self, value_id: UUID | None, password: str) -> bool:
        """Whether it is the one that is kept there; the same work is done where none is.

        Raises:
            NoMasterKeyError: it cannot be opened here.
            LoginsBusyError: too many are hashed already.
        """
        kept = await self._read(value_id, _PASSWORD)
        return await self._hasher.verify(password, None if kept is None else kept.decode())

    async def keep_totp(self, login_id: UUID, value_id: UUID, secret: str) -> None:
        """Keep the secret of a second factor; raises as `keep_password`."""
        await self.keystore.keep(login_id, value_id, _TOTP + secret.encode())

    async def totp(self, value_id: UUID | None) -> str | None:
        """The secret that is kept there.

        Raises:
            NoMasterKeyError: it cannot be opened here.
        """
        kept = await self._read(value_id, _TOTP)
        return None if kept is None else kept.decode()

    async def keep_recovery(self, login_id: UUID, value_id: UUID, hashes: Sequence[bytes]) -> None:
        """Keep the hashes of recovery codes; raises as `keep_password`."""
        await self.keystore.keep(login_id, value_id, _RECOVERY + msgspec.msgpack.encode(hashes))

    async def recovery(self, value_id: UUID | None) -> list[bytes]:
        """The hashes that are kept there.

        Raises:
            NoMasterKeyError: they cannot be opened here.
        """
        kept = await self._read(value_id, _RECOVERY)
        return [] if kept is None else msgspec.msgpack.decode(kept, type=list[bytes])

    def settle(self, new: Sequence[UUID], old: Sequence[UUID | None]) -> OnExit:
        """See `Keystore.settle`."""
        return self.keystore.settle(new, [one for one in old if one is not None])

    async def _read(self, value_id: UUID | None, kind: bytes) -> bytes | None:
        # Asked for in any case: how long an answer takes must not tell whether there is a value.
        found = (await self.keystore.open([value_id or UUID(int=0)])).get(value_id or UUID(int=0))
        if isinstance(found, Unreadable):
            raise NoMasterKeyError(f"What people log in with cannot be read here: {found.why}")
        if found is None or found[:1] != kind:
            return None
        return found[1:]


async def sweep_credentials(log: EventLog, keystore: Keystore, age: timedelta) -> int:
    """Drop values that no login names: of requests that came to nothing, or whose process died before it cleaned up.

    Those of a user who is erased go too, whatever their login names.

    Args:
        log: says which values count.
        keystore: of the values.
        age: only those kept so long ago; longer than any request is under way.

    Returns:
        How many were dropped.
    """
    kept = await keystore.older_than(age)
    logins = await load_many(log, Login, sorted({login_id for _, login_id in kept}))
    erased = await _erased_logins(log) if kept else frozenset()
    gone = [one for one, login_id in kept if login_id in erased or one not in logins[login_id].values]
    if gone:
        await keystore.drop(gone)
    return len(gone)


async def _erased_logins(log: EventLog) -> frozenset[UUID]:
    found: set[UUID] = set()
    after = 0
    while page := await log.read(Selection(types=(SubjectErased.__name__,)), after=after, tolerant=True):
        users = (one.event for one in page if isinstance(one.event, SubjectErased))
        found.update(login_stream(event.subject) for event in users if event.kind is SubjectKind.USER)
        after = page[-1].position
    return frozenset(found)
