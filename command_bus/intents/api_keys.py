"""Intents about API keys."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from command_bus.intents.times import Moment
from domain.api_keys import Role


class CreateApiKey(Intent):
    """Make an API key. Its text is shown once."""

    needs: ClassVar[Role] = Role.ADMIN
    fleet_wide: ClassVar[bool] = True

    name: str = Field(max_length=200)
    role: Role = Role.OPERATOR
    client_ids: list[UUID] | None = Field(
        default=None, description="The tenants it sees; null sees all.", max_length=1000
    )
    expires_at: Moment | None = None


class RevokeApiKey(Intent):
    """Void an API key."""

    needs: ClassVar[Role] = Role.ADMIN
    fleet_wide: ClassVar[bool] = True

    key_id: UUID
    reason: str = Field(default="", max_length=2000)
