"""Hashes of passwords: Argon2id (RFC 9106), a few at once, and the same work whether there is a password or not.

One hash takes 64 MiB and a fifth of a second. So they are worked out by a few threads, and beyond those that wait for
them nobody is let wait: a flood of attempts costs memory that is known beforehand.
"""

import asyncio
import base64
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from command_bus.errors import LoginsBusyError

R = TypeVar("R")
_SALT_BYTES = 16
_HASH_BYTES = 32


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one hash."""

    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 1


class PasswordHasher:
    """Hashes and verifies.

    Args:
        cost: of each hash from now on; those that are kept say themselves what they cost.
        at_once: so many are worked out side by side.
        waiting: so many more may wait for their turn.
    """

    def __init__(self, cost: Cost = Cost(), *, at_once: int = 2, waiting: int = 30) -> None:  # noqa: B008 -- frozen
        self._cost = cost
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._room = threading.BoundedSemaphore(at_once + waiting)
        self.runs = 0
        """How often the work was done."""
        salt, never = (_b64(os.urandom(size)) for size in (_SALT_BYTES, _HASH_BYTES))
        self._nobodys = f"$argon2id$v=19$m={cost.memory_kib},t={cost.iterations},p={cost.lanes}${salt}${never}"

    async def hash(self, password: str) -> str:
        """The password's hash, with its salt and cost, as a PHC string.

        Raises:
            LoginsBusyError: too many wait already.
        """
        cost = self._cost

        def work() -> str:
            kdf = Argon2id(
                salt=os.urandom(_SALT_BYTES),
                length=_HASH_BYTES,
                iterations=cost.iterations,
                lanes=cost.lanes,
                memory_cost=cost.memory_kib,
            )
            return kdf.derive_phc_encoded(password.encode())

        return await self._run(work)

    async def verify(self, password: str, kept: str | None) -> bool:
        """Whether it is the password that was hashed; with nothing to compare it with, the same work for a no.

        Raises:
            LoginsBusyError: too many wait already.
        """

        def work() -> bool:
            try:
                Argon2id.verify_phc_encoded(password.encode(), self._nobodys if kept is None else kept)
            except InvalidKey:
                return False
            return kept is not None

        return await self._run(work)

    async def _run(self, work: Callable[[], R]) -> R:
        if not self._room.acquire(blocking=False):
            raise LoginsBusyError
        self.runs += 1
        future = self._threads.submit(work)
        # Whoever asked may be gone by then; the thread is busy all the same.
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
