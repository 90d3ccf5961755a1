"""Intents about Fleetlog itself: how long it keeps what it need not keep, and its own keys."""

from typing import ClassVar

from pydantic import Field

from command_bus.bus import Intent
from domain.permissions import Permission
from domain.retention import MOST_BYTES, MOST_DAYS, Kept
from domain.server_keys import Purpose


class SetRetention(Intent):
    """Say how long is kept what need not be kept for ever. It holds in place of what processes are set to."""

    needs: ClassVar[Permission] = Permission.RETENTION_MANAGE
    fleet_wide: ClassVar[bool] = True
    grave: ClassVar[bool] = True

    archive_after_days: int | None = Field(
        ge=1, le=MOST_DAYS, description="Commands and rollouts that ended then move to the archive; null: never."
    )
    output_keep_days: int | None = Field(
        ge=1, le=MOST_DAYS, description="Whole outputs that no result has named for so long go for good; null: never."
    )
    output_keep_bytes: int | None = Field(
        ge=0, le=MOST_BYTES, description="Beyond so much in all, those named longest ago go for good; null: none."
    )
    reason: str = Field(default="", max_length=2000)

    @property
    def kept(self) -> Kept:
        return Kept(
            archive_after_days=self.archive_after_days,
            output_keep_days=self.output_keep_days,
            output_keep_bytes=self.output_keep_bytes,
        )


class _KeyStep(Intent):
    needs: ClassVar[Permission] = Permission.SERVER_KEYS_MANAGE
    fleet_wide: ClassVar[bool] = True
    grave: ClassVar[bool] = True

    key: Purpose = Field(description="Of the server's own keys.")


class RotateServerKey(_KeyStep):
    """Make another of the server's own keys, and let it count beside the present one."""


class RetireServerKey(_KeyStep):
    """End the old one of two of the server's own keys for good."""

    force: bool = Field(
        default=False, description="Although agents, or NATS servers, do not know the one that is left."
    )
