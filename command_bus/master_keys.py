"""The master key: what seals the keys that secrets are sealed with. It is never in the database.

It comes from a file, from a setting (the environment), or stays in a key service behind a hook: a command that wraps
and unwraps. A file or setting may name several keys: the first seals, all open, so that one can take another's place
without a moment in which anything is unreadable.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import NoMasterKeyError

KEY_BYTES = 32
HOOK_TIMEOUT_S = 20.0
HOOK_REMEMBERED_S = 60.0
_NONCE_BYTES = 12
_TRY_LATER = 75
"""``EX_TEMPFAIL`` of sysexits.h: a hook's way to say that its service is away."""
_OTHERS_MAY = 0o077


class BadMasterKeyError(NoMasterKeyError):
    """The master key cannot be used."""

    code = "bad_master_key"


class KeyServiceAwayError(NoMasterKeyError):
    """The key service did not answer; try again in a moment."""

    code = "key_service_away"


class MasterKeys(Protocol):
    """Wraps data keys. ``name`` is bound to each, so that one cannot stand in for another."""

    async def wrap(self, data_key: bytes, name: bytes) -> tuple[str, bytes]:
        """Seal a data key; returns which master key it was, and the sealed bytes.

        Raises:
            NoMasterKeyError: there is none, or it cannot be used now.
        """

    async def unwrap(self, key_id: str, wrapped: bytes, name: bytes) -> bytes:
        """Open a data key.

        Raises:
            NoMasterKeyError: not with any key that is here.
        """


class MasterKey(msgspec.Struct, frozen=True):
    """One key."""

    secret: bytes

    @property
    def key_id(self) -> str:
        """Tells keys apart and says nothing of them: 256 random bits cannot be guessed from a hash."""
        return hashlib.sha256(b"fleetlog-master-key\x00" + self.secret).hexdigest()[:16]

    def close_up(self, data_key: bytes, name: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self.secret).encrypt(nonce, data_key, name)

    def open_up(self, wrapped: bytes, name: bytes) -> bytes:
        try:
            return AESGCM(self.secret).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], name)
        except (InvalidTag, ValueError):
            raise BadMasterKeyError(
                f"What master key {self.key_id} is said to have sealed, it does not open."
            ) from None


def parse_keys(text: str, where: str) -> list[MasterKey]:
    """Read keys: 32 bytes in base 64 each, one a line or separated by commas; ``#`` begins a comment.

    Raises:
        BadMasterKeyError: one is no such key; it is not shown.
    """
    words = [word.strip() for line in text.splitlines() for word in line.partition("#")[0].split(",")]
    keys = []
    for word in filter(None, words):
        try:
            secret = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise BadMasterKeyError(
                f"{where}: a master key is {KEY_BYTES} bytes in base 64 (`openssl rand -base64 32`)."
            )
        keys.append(MasterKey(secret))
    return keys


class GivenKeys:
    """Keys that the process was told.

    Args:
        keys: the present one first.
    """

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        self._keys = list(keys)

    async def wrap(self, data_key: bytes, name: bytes) -> tuple[str, bytes]:
        if not self._keys:
            raise NoMasterKeyError
        return self._keys[0].key_id, self._keys[0].close_up(data_key, name)

    async def unwrap(self, key_id: str, wrapped: bytes, name: bytes) -> bytes:
        for key in self._keys:
            if key.key_id == key_id:
                return key.open_up(wrapped, name)
        raise NoMasterKeyError(f"It is sealed with master key {key_id}, which this server does not have.")


class FileKeys:
    """Keys in a file, which is read again whenever it has changed.

    Args:
        path: of the file.
        make: write one with a new key where there is none, as soon as something is to be sealed.
    """

    def __init__(self, path: Path, *, make: bool = False) -> None:
        self._path = path
        self._make = make
        self._seen: tuple[int, int] | None = None
        self._keys = GivenKeys([])

    async def wrap(self, data_key: bytes, name: bytes) -> tuple[str, bytes]:
        if self._make and not self._path.exists():
            await asyncio.to_thread(self._write_new)
        return await (await self._read()).wrap(data_key, name)

    async def unwrap(self, key_id: str, wrapped: bytes, name: bytes) -> bytes:
        return await (await self._read()).unwrap(key_id, wrapped, name)

    async def _read(self) -> GivenKeys:
        return await asyncio.to_thread(self._read_now)

    def _read_now(self) -> GivenKeys:
        try:
            stat = self._path.stat()
            seen = stat.st_mtime_ns, stat.st_size
            if seen != self._seen:
                if os.name == "posix" and stat.st_mode & _OTHERS_MAY:
                    raise BadMasterKeyError(f"{self._path} can be read by others: `chmod 600` it.")
                self._keys, self._seen = GivenKeys(parse_keys(self._path.read_text(), str(self._path))), seen
        except FileNotFoundError:
            raise NoMasterKeyError(f"There is no master key in {self._path}.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise BadMasterKeyError(f"{self._path} cannot be read: {error}") from error
        return self._keys

    def _write_new(self) -> None:
        """Whole and for its owner alone; of two that come at once, both end with the same."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd, draft = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
            with os.fdopen(fd, "wb") as file:
                file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._path)
            Path(draft).unlink()
        except OSError as error:
            raise BadMasterKeyError(f"{self._path} cannot be written: {error}") from error


class HookKeys:
    """Keys in a service behind a command of the administrator's.

    It is run as ``COMMAND wrap`` and ``COMMAND unwrap``, gets the bytes on standard input in base 64, and prints what
    they become in base 64. Exit code 75 means that the service is away and is worth asking again.

    Args:
        command: the command line, without a shell.
        timeout_s: how long one call may take.
        remember_s: what was opened is not asked for again for so long: a rollout opens the same key again and again.
    """

    KEY_ID = "hook"

    def __init__(
        self, command: str, *, timeout_s: float = HOOK_TIMEOUT_S, remember_s: float = HOOK_REMEMBERED_S
    ) -> None:
        self._argv = shlex.split(command)
        self._timeout_s = timeout_s
        self._remember_s = remember_s
        self._opened: dict[bytes, tuple[float, bytes]] = {}

    async def wrap(self, data_key: bytes, name: bytes) -> tuple[str, bytes]:
        # The service knows nothing of names: they are sealed in, and compared when it opens.
        return self.KEY_ID, await self._run("wrap", hashlib.sha256(name).digest() + data_key)

    async def unwrap(self, key_id: str, wrapped: bytes, name: bytes) -> bytes:
        if key_id != self.KEY_ID:
            raise NoMasterKeyError(f"It is sealed with master key {key_id}, and this server has a key service instead.")
        now = time.monotonic()
        self._opened = {one: kept for one, kept in self._opened.items() if kept[0] > now}
        if wrapped not in self._opened:
            self._opened[wrapped] = now + self._remember_s, await self._run("unwrap", wrapped)
        opened = self._opened[wrapped][1]
        digest = hashlib.sha256(name).digest()
        if opened[: len(digest)] != digest:
            raise BadMasterKeyError("What the key service opened belongs to another secret.")
        return opened[len(digest) :]

    async def _run(self, what: str, data: bytes) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                what,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # whatever it says may be about keys
            )
        except OSError as error:
            raise BadMasterKeyError(f"The key service's hook cannot be started: {error}") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                printed, _ = await process.communicate(base64.b64encode(data) + b"\n")
        except TimeoutError:
            raise KeyServiceAwayError(f"The key service did not answer within {self._timeout_s:g} s.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == _TRY_LATER:
            raise KeyServiceAwayError
        if process.returncode:
            raise BadMasterKeyError(f"The key service's hook refused to {what} (exit code {process.returncode}).")
        try:
            return base64.b64decode(printed.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise BadMasterKeyError("The key service's hook printed something that is no base 64.") from None


NO_KEYS: MasterKeys = GivenKeys([])
"""Of processes that were told of none."""
