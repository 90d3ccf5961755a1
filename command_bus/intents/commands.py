"""Intents about commands."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, Strict

from command_bus.bus import Intent
from command_bus.intents.scripts import Args, Env, RunAs, Timeout
from command_bus.intents.times import Moment
from domain import commands as domain
from domain import patches
from domain.ids import ScriptId
from domain.permissions import Permission
from domain.scripts import DEFAULT_TIMEOUT_S, Shell


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunScript(_Spec):
    """Run a script. The revision is pinned when the command is queued: the newest unless one is named."""

    kind: Literal["run_script"] = "run_script"
    script_id: UUID
    revision: Annotated[int, Strict(), Field(ge=1)] | None = None
    args: Args | None = Field(default=None, description="Instead of the revision's own.")
    env: Env = Field(default={}, description="Added to the revision's own, and stronger.")
    timeout_s: Timeout | None = None
    run_as: RunAs = None

    def to_domain(self, revision: int) -> domain.RunScript:
        return domain.RunScript(
            script_id=ScriptId(self.script_id),
            revision=revision,
            args=tuple(self.args) if self.args is not None else None,
            env=self.env,
            timeout_s=self.timeout_s,
            run_as=self.run_as,
        )


class RunShell(_Spec):
    """Run one line in a shell."""

    kind: Literal["run_shell"] = "run_shell"
    shell: Shell
    line: str = Field(min_length=1, max_length=domain.MAX_LINE_BYTES)
    env: Env = {}
    timeout_s: Timeout = DEFAULT_TIMEOUT_S
    run_as: RunAs = None

    def to_domain(self) -> domain.RunShell:
        return domain.RunShell(
            shell=self.shell, line=self.line, env=self.env, timeout_s=self.timeout_s, run_as=self.run_as
        )


class Ping(_Spec):
    """Do nothing, durably: proves that the whole path works."""

    kind: Literal["ping"] = "ping"


class CollectFacts(_Spec):
    """Gather the machine's facts now."""

    kind: Literal["collect_facts"] = "collect_facts"


class RotateKey(_Spec):
    """Have the agent make another key for itself, which takes over from the one it has. In the lane `system`."""

    kind: Literal["rotate_key"] = "rotate_key"


PackageName = Annotated[str, Field(min_length=1, max_length=patches.MAX_NAME_LENGTH)]
Delay = Annotated[int, Strict(), Field(ge=0, le=patches.MAX_REBOOT_DELAY_S)]


class InstallUpdates(_Spec):
    """Install updates that the machine offers, with its own package manager. In the lane `system`; never retried."""

    kind: Literal["install_updates"] = "install_updates"
    names: list[PackageName] = Field(
        default=[],
        max_length=patches.MAX_NAMES,
        description="As the machine's list of software has them; left out, all that it offers.",
    )
    versions: dict[PackageName, PackageName] = Field(
        default={}, max_length=patches.MAX_NAMES, description="Of a name, the one version that is meant."
    )
    security_only: bool = False
    held: list[PackageName] = Field(
        default=[],
        max_length=patches.MAX_HELD,
        description="Patterns of names, as `linux-image-*`, that stay as they are.",
    )
    reboot: patches.RebootPolicy = Field(
        default=patches.RebootPolicy.NEVER,
        description="`if_needed`: where the machine says so after it, a command to restart it is queued.",
    )
    reboot_delay_s: Delay = Field(default=300, description="Whoever is logged in has so long, where it is restarted.")
    timeout_s: Annotated[int, Strict(), Field(ge=1, le=patches.MAX_INSTALL_TIMEOUT_S)] = (
        patches.DEFAULT_INSTALL_TIMEOUT_S
    )

    def to_domain(self) -> patches.InstallUpdates:
        return patches.InstallUpdates(
            names=tuple(dict.fromkeys(self.names)),
            versions=self.versions,
            security_only=self.security_only,
            held=tuple(dict.fromkeys(self.held)),
            reboot=self.reboot,
            reboot_delay_s=self.reboot_delay_s,
            timeout_s=self.timeout_s,
        )


class Reboot(_Spec):
    """Restart the machine. In the lane `system`, and never retried; it succeeded once the machine is back."""

    kind: Literal["reboot"] = "reboot"
    delay_s: Delay = Field(default=0, description="Whoever is logged in is told, and has so long.")
    notice: str = Field(default="", max_length=patches.MAX_NOTICE_LENGTH, description="What they are told.")

    def to_domain(self) -> patches.Reboot:
        return patches.Reboot(delay_s=self.delay_s, notice=self.notice)


Spec = Annotated[
    RunScript | RunShell | Ping | CollectFacts | RotateKey | InstallUpdates | Reboot, Field(discriminator="kind")
]


def permissions_of(spec: Spec | domain.Spec) -> tuple[Permission, ...]:
    """What a kind of command needs besides the permission to queue any."""
    match spec:
        case Ping() | CollectFacts() | domain.Ping() | domain.CollectFacts():
            return ()
        case RotateKey() | domain.RotateKey():
            return (Permission.AGENTS_KEYS,)
        case InstallUpdates() | Reboot() | patches.InstallUpdates() | patches.Reboot():
            return (Permission.COMMANDS_PATCH,)
        case RunScript() | domain.RunScript():
            return (Permission.COMMANDS_SCRIPT,)
        case _:
            return (Permission.COMMANDS_SHELL,)


class Retry(BaseModel):
    """When an attempt deserves another."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_attempts: Annotated[int, Strict(), Field(ge=1, le=domain.MAX_ATTEMPTS)] = 1
    on: list[Literal["failed", "timed_out", "interrupted"]] = []
    backoff_s: Annotated[int, Strict(), Field(ge=0, le=604_800)] = 60

    def to_domain(self) -> domain.RetryPolicy:
        return domain.RetryPolicy(
            max_attempts=self.max_attempts,
            on=tuple(domain.CommandState(outcome) for outcome in dict.fromkeys(self.on)),
            backoff_s=self.backoff_s,
        )


Priority = Annotated[int, Strict(), Field(ge=0, le=domain.MAX_PRIORITY, description="0 goes first, 9 last.")]


class QueueCommand(Intent):
    """Queue one command for one agent, online or not."""

    needs: ClassVar[Permission] = Permission.COMMANDS_QUEUE

    agent_id: UUID
    spec: Spec
    lane: str = Field(
        default=domain.DEFAULT_LANE,
        pattern=r"^[A-Za-z0-9_-]{1,40}$",
        description="Commands of one lane run one at a time; lanes run side by side.",
    )
    priority: Priority = domain.DEFAULT_PRIORITY
    not_before: Moment | None = Field(default=None, description="It is not delivered before this time.")
    expires_at: Moment | None = Field(
        default=None, description="It is not delivered from this time on; null means the default after queueing."
    )
    retry: Retry = Retry()
    reason: str = Field(default="", max_length=2000, description="Why; shown in the command's story.")

    def required(self) -> tuple[Permission, ...]:
        """Besides its own, what the kind of command needs."""
        return self.needs, *permissions_of(self.spec)


class CancelCommand(Intent):
    """End a command that waits; ask its agent if it may have it already."""

    needs: ClassVar[Permission] = Permission.COMMANDS_CANCEL

    command_id: UUID
    reason: str = Field(default="", max_length=2000)


class PrioritiseCommand(Intent):
    """Change a waiting command's place in its agent's queue."""

    needs: ClassVar[Permission] = Permission.COMMANDS_QUEUE

    command_id: UUID
    priority: Priority


class RetryCommand(Intent):
    """Queue an ended command once more, as a new command that names the old one."""

    needs: ClassVar[Permission] = Permission.COMMANDS_QUEUE

    command_id: UUID
    expires_at: Moment | None = None
    reason: str = Field(default="", max_length=2000)
