"""Intents about enrollment tokens."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field, Strict

from command_bus.bus import Intent
from command_bus.intents.times import Moment
from domain.permissions import Permission
from domain.tokens import MAX_USES, MAX_WAIT_S, MIN_WAIT_S, Approval


class CreateEnrollmentToken(Intent):
    """Make a token that lets machines enroll into one site. Its text is shown once."""

    needs: ClassVar[Permission] = Permission.ENROLLMENT_MANAGE

    site_id: UUID
    max_uses: Annotated[int, Strict(), Field(ge=1, le=MAX_USES)] = 1
    expires_at: Moment | None = Field(default=None, description="Null means 24 hours from now.")
    note: str = Field(default="", max_length=200)
    approval: Approval = Field(
        default=Approval.NONE,
        description="`required`: a machine that comes waits, and is no agent until somebody approves it.",
    )
    wait_s: Annotated[int, Strict(), Field(ge=MIN_WAIT_S, le=MAX_WAIT_S)] | None = Field(
        default=None, description="With `approval`: how long a machine waits at the most; null means a day."
    )


class RevokeEnrollmentToken(Intent):
    """Void a token; machines that enrolled with it stay, and those that wait for approval by it end."""

    needs: ClassVar[Permission] = Permission.ENROLLMENT_MANAGE

    token_id: UUID
    reason: str = Field(default="", max_length=2000)
