"""Intents about clients and sites."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from domain.permissions import Permission


class CreateClient(Intent):
    """Add a client. It starts without sites."""

    needs: ClassVar[Permission] = Permission.CLIENTS_MANAGE
    fleet_wide: ClassVar[bool] = True

    name: str = Field(description="Unique among clients, regardless of case.", max_length=200)


class RenameClient(Intent):
    """Give a client another name."""

    needs: ClassVar[Permission] = Permission.CLIENTS_MANAGE

    client_id: UUID
    name: str = Field(description="Unique among clients, regardless of case.", max_length=200)


class CreateSite(Intent):
    """Add a site to a client."""

    needs: ClassVar[Permission] = Permission.SITES_MANAGE

    client_id: UUID
    name: str = Field(description="Unique within its client, regardless of case.", max_length=200)


class RenameSite(Intent):
    """Give a site another name."""

    needs: ClassVar[Permission] = Permission.SITES_MANAGE

    site_id: UUID
    name: str = Field(description="Unique within its client, regardless of case.", max_length=200)
