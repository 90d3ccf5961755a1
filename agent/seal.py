"""Keeps orders unreadable on disk: AES-256-GCM under a key that is thrown away whenever nothing waits.

Why the key is on the same disk, and why that is sound: docs/decisions/0005-agent-journal.md.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.errors import JournalFullError, StateDamagedError
from agent.platforms import PLATFORM

SEAL_FILE = "journal.key"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class Seal:
    """Seals and opens what waits in the journal."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / SEAL_FILE
        try:
            key = self._path.read_bytes()
        except FileNotFoundError:
            key = self._write_new()
        if len(key) != _KEY_BYTES:
            raise StateDamagedError(f"{self._path} holds no key of {_KEY_BYTES} bytes.")
        self._cipher = AESGCM(key)

    def close_up(self, plain: bytes, name: bytes) -> bytes:
        """Seal ``plain``. ``name`` is bound to it, so that one order's bytes cannot stand in for another's."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, name)

    def open_up(self, sealed: bytes, name: bytes) -> bytes:
        """Open what `close_up` made.

        Raises:
            StateDamagedError: it was altered, or the key is another one.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name)
        except InvalidTag as error:
            raise StateDamagedError(f"An order in the journal does not open with {self._path}.") from error

    def renew(self) -> None:
        """Throw the key away. To be called while nothing sealed waits: what is left of it anywhere stays shut."""
        self._cipher = AESGCM(self._write_new())

    def _write_new(self) -> bytes:
        key = os.urandom(_KEY_BYTES)
        try:
            PLATFORM.write_private(self._path, key)
        except OSError as error:
            raise JournalFullError(f"{self._path} cannot be written: {error}") from error
        return key
