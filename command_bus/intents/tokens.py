"""Intents about enrollment tokens."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field, Strict

from command_bus.bus import Intent
from command_bus.intents.times import Moment
from domain.permissions import Permission
from domain.tokens import MAX_USES


class CreateEnrollmentToken(Intent):
    """Make a token that lets machines enroll into one site. Its text is shown once."""

    needs: ClassVar[Permission] = Permission.ENROLLMENT_MANAGE

    site_id: UUID
    max_uses: Annotated[int, Strict(), Field(ge=1, le=MAX_USES)] = 1
    expires_at: Moment | None = Field(default=None, description="Null means 24 hours from now.")
    note: str = Field(default="", max_length=200)


class RevokeEnrollmentToken(Intent):
    """Void a token; machines that enrolled with it stay."""

    needs: ClassVar[Permission] = Permission.ENROLLMENT_MANAGE

    token_id: UUID
    reason: str = Field(default="", max_length=2000)
