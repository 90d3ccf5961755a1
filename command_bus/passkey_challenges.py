"""What devices are asked to sign: made here, and taken once."""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

from command_bus.postgres import AsyncPool

LIFE = timedelta(minutes=2)
_BYTES = 32


class PasskeyChallenges:
    """The table of them.

    Args:
        pool: connections of the application.
    """

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool

    async def make(self, user_id: UUID | None, now: datetime) -> bytes:
        """A new one; those whose time is up go.

        Args:
            user_id: who adds a passkey, or what stands for the session whose person shows themselves once more; None
                where somebody logs in.
            now: the time.
        """
        challenge = secrets.token_bytes(_BYTES)
        async with self._pool.connection() as connection:
            await connection.execute("DELETE FROM fleetlog.passkey_challenges WHERE expires_at <= %s", [now])
            await connection.execute(
                "INSERT INTO fleetlog.passkey_challenges (challenge, user_id, expires_at) VALUES (%s, %s, %s)",
                [challenge, user_id, now + LIFE],
            )
        return challenge

    async def take(self, challenge: bytes, user_id: UUID | None, now: datetime) -> bool:
        """Whether it was made for this, and not taken before; of two that come with one, the table gives it to one."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "DELETE FROM fleetlog.passkey_challenges "
                "WHERE challenge = %s AND user_id IS NOT DISTINCT FROM %s AND expires_at > %s RETURNING 1",
                [challenge, user_id, now],
            )
            return await found.fetchone() is not None
