"""Intents about API keys."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from command_bus.intents.grants import Grants, RoleName
from command_bus.intents.times import Moment
from domain.permissions import Permission


class CreateApiKey(Intent):
    """Make an API key. Its text is shown once."""

    needs: ClassVar[Permission] = Permission.KEYS_MANAGE
    fleet_wide: ClassVar[bool] = True

    name: str = Field(max_length=200)
    owner_id: UUID | None = Field(
        default=None,
        description="The user or service account that it speaks for; it never does more than that one may.",
    )
    role: RoleName | None = Field(
        default=None, description="Short for one grant. Without it and `grants`, all that the owner may, or `operator`."
    )
    client_ids: list[UUID] | None = Field(
        default=None, description="With `role`: over these clients; null is over everything.", max_length=1000
    )
    grants: Grants | None = Field(default=None, description="Instead of `role`: what it may do.")
    expires_at: Moment | None = None


class RevokeApiKey(Intent):
    """Void an API key."""

    needs: ClassVar[Permission] = Permission.KEYS_MANAGE
    fleet_wide: ClassVar[bool] = True

    key_id: UUID
    reason: str = Field(default="", max_length=2000)
