"""Intents that erase what is personal, for good."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from domain.permissions import Permission

Reason = Field(default="", max_length=2000, description="Why; kept in the log, for ever: name nobody whom it is about.")


class EraseAgent(Intent):
    """Erase what a retired agent told of its machine: names, addresses, facts. It cannot be undone."""

    needs: ClassVar[Permission] = Permission.PERSONAL_ERASE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    agent_id: UUID
    reason: str = Reason


class EraseEnrollment(Intent):
    """Erase what a machine said of itself that was not let in: its host name and address. It cannot be undone."""

    needs: ClassVar[Permission] = Permission.PERSONAL_ERASE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    enrollment_id: UUID
    reason: str = Reason


class EraseUser(Intent):
    """Erase who a disabled user was: name, mail address, where they came from. It cannot be undone."""

    needs: ClassVar[Permission] = Permission.PERSONAL_ERASE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    reason: str = Reason
