"""What is run, as answers show it: what was asked for, and what its placeholders stand for."""

from typing import Annotated

from pydantic import Field

from command_bus.intents.commands import CollectFacts, InstallUpdates, Ping, Reboot, RotateKey, RunScript, RunShell
from domain.placeholders import ScopeKind
from gateways.rest.route import Model


class DataModel(Model):
    """What the placeholders of a command stand for."""

    placeholders: list[str] = Field(default=[], description="Those that are no secrets, as `agent.name`.")
    given: dict[str, str] = Field(default={}, description="Their values, fixed when the command was queued.")
    secrets: list[str] = Field(default=[], description="Names of secrets, in lower case; read when it is delivered.")
    widest: ScopeKind = Field(
        default=ScopeKind.FLEET,
        description="Secrets of more than that do not count: whoever asked may do nothing there.",
    )


class ScriptSpec(RunScript):
    """A script of a fixed revision."""

    data: DataModel | None = None


class ShellSpec(RunShell):
    """A line in a shell."""

    data: DataModel | None = None


ShownSpec = Annotated[
    ScriptSpec | ShellSpec | Ping | CollectFacts | RotateKey | InstallUpdates | Reboot, Field(discriminator="kind")
]
