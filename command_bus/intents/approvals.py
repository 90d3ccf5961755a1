"""Intents about requests that wait for another person."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from domain.permissions import Permission

Reason = Field(default="", max_length=2000, description="Why; kept in the log.")


class ApproveRequest(Intent):
    """Allow what somebody else asked for. It is done at once, by what that one may do now."""

    needs: ClassVar[Permission] = Permission.APPROVALS_DECIDE
    grave: ClassVar[bool] = True

    approval_id: UUID
    reason: str = Reason


class RefuseRequest(Intent):
    """Do not allow what somebody else asked for."""

    needs: ClassVar[Permission] = Permission.APPROVALS_DECIDE

    approval_id: UUID
    reason: str = Reason


class WithdrawRequest(Intent):
    """Take back what one asked for oneself."""

    needs: ClassVar[Permission] = Permission.APPROVALS_SEE

    approval_id: UUID
    reason: str = Reason
