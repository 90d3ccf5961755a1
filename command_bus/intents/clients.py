"""Intents about clients and sites."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from domain.api_keys import Role


class CreateClient(Intent):
    """Add a client. It starts without sites."""

    needs: ClassVar[Role] = Role.ADMIN
    fleet_wide: ClassVar[bool] = True

    name: str = Field(description="Unique among clients, regardless of case.", max_length=200)


class RenameClient(Intent):
    """Give a client another name."""

    needs: ClassVar[Role] = Role.ADMIN

    client_id: UUID
    name: str = Field(description="Unique among clients, regardless of case.", max_length=200)


class CreateSite(Intent):
    """Add a site to a client."""

    needs: ClassVar[Role] = Role.ADMIN

    client_id: UUID
    name: str = Field(description="Unique within its client, regardless of case.", max_length=200)


class RenameSite(Intent):
    """Give a site another name."""

    needs: ClassVar[Role] = Role.ADMIN

    site_id: UUID
    name: str = Field(description="Unique within its client, regardless of case.", max_length=200)
