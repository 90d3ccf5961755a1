"""Intents about roles."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, Strict

from command_bus.bus import Intent
from domain import roles
from domain.permissions import Permission


class Limits(BaseModel):
    """How much one action may touch; null does not limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_agents: Annotated[int, Strict(), Field(ge=1, le=roles.MAX_AGENTS)] | None = Field(
        default=None, description="More agents than these no single action may touch."
    )

    approval_above: Annotated[int, Strict(), Field(ge=0, le=roles.MAX_AGENTS)] | None = Field(
        default=None, description="An action that touches more waits for another person."
    )
    approval_for: list[Permission] = Field(
        default=[], max_length=len(Permission), description="Each use of these waits for another person."
    )

    def to_domain(self) -> roles.Limits:
        return roles.Limits(
            max_agents=self.max_agents,
            approval_above=self.approval_above,
            approval_for=tuple(sorted(set(self.approval_for))),
        )


class CreateRole(Intent):
    """Make a role: a named set of permissions."""

    needs: ClassVar[Permission] = Permission.ROLES_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    name: str = Field(max_length=200, description="Unique among roles, regardless of case.")
    permissions: list[Permission] = Field(max_length=len(Permission))
    limits: Limits = Limits()


class ChangeRole(Intent):
    """Set what a role allows, all of it. It holds at once for whoever has it."""

    needs: ClassVar[Permission] = Permission.ROLES_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    role_id: UUID
    name: str | None = Field(default=None, max_length=200, description="Left out, it stays.")
    permissions: list[Permission] | None = Field(
        default=None, max_length=len(Permission), description="Left out, they stay."
    )
    limits: Limits | None = Field(default=None, description="Left out, they stay.")


class RetireRole(Intent):
    """Take a role out of use: it allows nothing any more, whoever has it."""

    needs: ClassVar[Permission] = Permission.ROLES_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    role_id: UUID
    reason: str = Field(default="", max_length=2000)
