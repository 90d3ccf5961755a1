"""Intents about users and service accounts."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from command_bus.intents.grants import Grants
from domain.permissions import Permission
from domain.users import MAX_EMAIL_LENGTH, UserKind

Reason = Field(default="", max_length=2000, description="Why; kept in the log.")


class CreateUser(Intent):
    """Add a user or a service account."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    name: str = Field(max_length=200, description="Unique among users and service accounts, regardless of case.")
    kind: UserKind = UserKind.PERSON
    email: str = Field(default="", max_length=MAX_EMAIL_LENGTH)
    grants: Grants = Field(default=[], description="What they may do; nothing, while there are none.")


class ChangeUser(Intent):
    """Give a user another name or address."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    name: str | None = Field(default=None, max_length=200, description="Left out, it stays.")
    email: str | None = Field(default=None, max_length=MAX_EMAIL_LENGTH, description="Left out, it stays.")


class GrantRoles(Intent):
    """Set what a user may do, all that is granted here. It holds at once, for the keys of that user, too.

    What the provider's groups stand for is apart from it, and stays until a login that comes without them.
    """

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    grants: Grants


class DisableUser(Intent):
    """Shut a user out at once, with all keys."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    reason: str = Reason


class EnableUser(Intent):
    """Let a disabled user in again."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    reason: str = Reason
