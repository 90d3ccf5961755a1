"""Intents about scripts."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, Strict

from command_bus.bus import Intent
from domain.agents import Platform
from domain.permissions import Permission
from domain.scripts import DEFAULT_TIMEOUT_S, MAX_ARGS, MAX_BODY_BYTES, MAX_ENV, MAX_TIMEOUT_S, Revision, Shell

Timeout = Annotated[
    int, Strict(), Field(ge=1, le=MAX_TIMEOUT_S, description="Seconds until its process tree is ended.")
]
Args = Annotated[list[str], Field(max_length=MAX_ARGS)]
Env = Annotated[dict[str, str], Field(max_length=MAX_ENV)]
RunAs = Annotated[str | None, Field(max_length=256, description="A user of the machine; null runs as the agent does.")]


Folder = Annotated[
    str, Field(max_length=200, description="Where it lies, as `Backup/Linux`; empty where it lies in no folder.")
]


class ScriptContent(BaseModel):
    """One revision: code, and how to run it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shell: Shell
    body: str = Field(min_length=1, max_length=MAX_BODY_BYTES)
    args: Args = []
    env: Env = {}
    timeout_s: Timeout = DEFAULT_TIMEOUT_S
    platforms: list[Platform] = Field(default=[], max_length=3, description="Empty means all of them.")
    run_as: RunAs = None

    def to_domain(self) -> Revision:
        return Revision(
            shell=self.shell,
            body=self.body,
            args=tuple(self.args),
            env=self.env,
            timeout_s=self.timeout_s,
            platforms=tuple(dict.fromkeys(self.platforms)),
            run_as=self.run_as,
        )


class CreateScript(Intent):
    """Add a script with its first revision."""

    needs: ClassVar[Permission] = Permission.SCRIPTS_MANAGE
    fleet_wide: ClassVar[bool] = True

    name: str = Field(max_length=200, description="Unique among scripts, regardless of case.")
    description: str = Field(default="", max_length=10_000)
    folder: Folder = ""
    content: ScriptContent


class ReviseScript(Intent):
    """Add the next revision; those before it stay as they are."""

    needs: ClassVar[Permission] = Permission.SCRIPTS_MANAGE
    fleet_wide: ClassVar[bool] = True

    script_id: UUID
    content: ScriptContent


class RenameScript(Intent):
    """Give a script another name, description or folder."""

    needs: ClassVar[Permission] = Permission.SCRIPTS_MANAGE
    fleet_wide: ClassVar[bool] = True

    script_id: UUID
    name: str | None = Field(default=None, max_length=200, description="Left out, it stays.")
    description: str | None = Field(default=None, max_length=10_000, description="Left out, it stays.")
    folder: Folder | None = Field(default=None, description="Left out, it stays; empty takes it out of its folder.")


class ArchiveScript(Intent):
    """Take a script out of use; what was queued before still runs."""

    needs: ClassVar[Permission] = Permission.SCRIPTS_MANAGE
    fleet_wide: ClassVar[bool] = True

    script_id: UUID


class RestoreScript(Intent):
    """Bring an archived script back."""

    needs: ClassVar[Permission] = Permission.SCRIPTS_MANAGE
    fleet_wide: ClassVar[bool] = True

    script_id: UUID


class FavourScript(Intent):
    """Have a script among your favourites, or no longer."""

    needs: ClassVar[Permission] = Permission.SCRIPTS_SEE

    script_id: UUID
    favourite: bool = Field(default=True, description="False takes it out.")
