"""Intents about machines that wait for approval."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from domain.permissions import Permission

MOST = 100
"""That one request decides, all of them or none."""
Enrollments = Annotated[list[UUID], Field(min_length=1, max_length=MOST)]
Reason = Field(default="", max_length=2000, description="Why; kept in the log. The machine is not told.")


class ApproveEnrollments(Intent):
    """Let machines in that wait for approval: each is an agent from then on. All of them, or none."""

    needs: ClassVar[Permission] = Permission.ENROLLMENT_APPROVE

    enrollments: Enrollments
    reason: str = Reason


class RefuseEnrollments(Intent):
    """Do not let machines in that wait for approval; each is told so, and asks no more. All of them, or none."""

    needs: ClassVar[Permission] = Permission.ENROLLMENT_APPROVE

    enrollments: Enrollments
    reason: str = Reason
