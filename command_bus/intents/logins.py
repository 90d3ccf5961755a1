"""Intents about how somebody else logs in: what an administrator does."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field, SecretStr

from command_bus.bus import Intent
from command_bus.context import NewId
from domain.errors import SecretCannotWaitError
from domain.passwords import MAX_LENGTH, MIN_LENGTH
from domain.permissions import Permission


class SetPassword(Intent):
    """Give a user a password, which they have to change as they log in. All their sessions are over."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    password: SecretStr | None = Field(
        default=None,
        min_length=MIN_LENGTH,
        max_length=MAX_LENGTH,
        description="Left out, one is made, and shown in the answer, once.",
    )

    def sealed(self, new_id: NewId) -> tuple[Intent, str | None]:
        """Never: what waits is an event, and no event may hold a password."""
        del new_id
        raise SecretCannotWaitError("A password cannot wait for another person: it would be kept where all can read.")


class ResetSecondFactor(Intent):
    """Take a user's second factor and recovery codes away; they enroll another as they log in."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    reason: str = Field(default="", max_length=2000, description="Why; kept in the log.")


class RevokeUserSessions(Intent):
    """Log a user out, wherever they are logged in. Their API keys stay."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    reason: str = Field(default="", max_length=2000, description="Why; kept in the log.")
