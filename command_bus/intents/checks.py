"""Intents about checks."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, Strict

from command_bus.bus import Intent
from command_bus.intents.rollouts import Target
from domain import checks as domain
from domain.permissions import Permission
from domain.scripts import Shell

Percent = Annotated[float, Field(gt=0, lt=100)]
Codes = Annotated[list[Annotated[int, Strict(), Field(ge=1, le=2**32)]], Field(max_length=domain.MAX_CODES)]
Timeout = Annotated[int, Strict(), Field(ge=1, le=domain.MAX_TIMEOUT_S)]
Text = Annotated[str, Field(min_length=1, max_length=domain.MAX_TEXT)]
Reason = Annotated[str, Field(max_length=2000)]


class _What(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Disk(_What):
    """Free space in percent: less than a threshold is a warning, or failing."""

    kind: Literal["disk"] = "disk"
    path: str = Field(
        default="", max_length=domain.MAX_TEXT, description="Where it is mounted, or the drive; empty: the fullest one."
    )
    warning: Percent | None = None
    error: Percent | None = None


class Cpu(_What):
    """How busy the processor is, in percent, on the mean of the last measurements: more is a warning, or failing."""

    kind: Literal["cpu"] = "cpu"
    warning: Percent | None = None
    error: Percent | None = None
    samples: Annotated[int, Strict(), Field(ge=1, le=domain.MAX_SAMPLES)] = 5


class Memory(_What):
    """How much memory is in use, in percent, on the mean of the last measurements: more is a warning, or failing."""

    kind: Literal["memory"] = "memory"
    warning: Percent | None = None
    error: Percent | None = None
    samples: Annotated[int, Strict(), Field(ge=1, le=domain.MAX_SAMPLES)] = 5


class Service(_What):
    """Whether a service runs: a systemd unit, a Windows service, a label of launchd."""

    kind: Literal["service"] = "service"
    service: Text
    severity: domain.Severity = domain.Severity.ERROR


class Reach(_What):
    """Whether a host can be reached from the machine: a port of it over TCP or, without one, by ping."""

    kind: Literal["reach"] = "reach"
    host: Text
    port: Annotated[int, Strict(), Field(ge=1, le=65535)] | None = None
    timeout_s: Annotated[int, Strict(), Field(ge=1, le=60)] = 10
    severity: domain.Severity = domain.Severity.ERROR


class _Run(_What):
    timeout_s: Timeout = 60
    info_codes: Codes = Field(default=[], description="Exit codes that inform.")
    warning_codes: Codes = Field(default=[], description="Exit codes that warn.")
    severity: domain.Severity = Field(
        default=domain.Severity.ERROR, description="Of all exit codes that are neither 0 nor listed."
    )


class Script(_Run):
    """What a script says by its exit code: 0 is passing. The revision is pinned now; the newest unless one is named."""

    kind: Literal["script"] = "script"
    script_id: UUID
    revision: Annotated[int, Strict(), Field(ge=1)] | None = None
    args: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=100)] | None = Field(
        default=None, description="Instead of the revision's own."
    )


class Line(_Run):
    """The same of one line in a shell."""

    kind: Literal["shell"] = "shell"
    shell: Shell
    line: str = Field(min_length=1, max_length=domain.MAX_LINE)


What = Annotated[Disk | Cpu | Memory | Service | Reach | Script | Line, Field(discriminator="kind")]


def permissions_of(what: What | domain.Kind) -> tuple[Permission, ...]:
    """What a kind of check needs besides the permission to make any: to run something, what running it needs."""
    match what:
        case Script() | domain.ScriptCheck():
            return (Permission.COMMANDS_SCRIPT,)
        case Line() | domain.ShellCheck():
            return (Permission.COMMANDS_SHELL,)
        case _:
            return ()


class DefineCheck(Intent):
    """Have something measured again and again on all agents that the target means, now or later."""

    needs: ClassVar[Permission] = Permission.CHECKS_MANAGE

    name: str = Field(min_length=1, max_length=200)
    what: What
    target: Target
    interval_s: Annotated[int, Strict(), Field(ge=domain.MIN_INTERVAL_S, le=domain.MAX_INTERVAL_S)] = Field(
        default=domain.DEFAULT_INTERVAL_S, description="Seconds between two measurements."
    )
    failures: Annotated[int, Strict(), Field(ge=1, le=domain.MAX_IN_A_ROW)] = Field(
        default=1, description="So many measurements in a row that are worse change the state."
    )
    recoveries: Annotated[int, Strict(), Field(ge=1, le=domain.MAX_IN_A_ROW)] = Field(
        default=1, description="The same of measurements that are better."
    )
    description: str = Field(default="", max_length=2000)

    def required(self) -> tuple[Permission, ...]:
        """Besides its own, what the kind of check needs."""
        return self.needs, *permissions_of(self.what)


class PlanCheck(DefineCheck):
    """Say on how many agents a check would be measured now; nothing is recorded."""


class ChangeCheck(DefineCheck):
    """Have it measured like this from now on. What is measured otherwise than before is found anew."""

    check_id: UUID


class DisableCheck(Intent):
    """Measure it nowhere until it is enabled."""

    needs: ClassVar[Permission] = Permission.CHECKS_MANAGE

    check_id: UUID
    reason: Reason = ""


class EnableCheck(Intent):
    """Measure it again."""

    needs: ClassVar[Permission] = Permission.CHECKS_MANAGE

    check_id: UUID


class RemoveCheck(Intent):
    """Measure it nowhere any more, for good."""

    needs: ClassVar[Permission] = Permission.CHECKS_MANAGE

    check_id: UUID
    reason: Reason = ""
