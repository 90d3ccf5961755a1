"""What gateway and agent say to each other of updates and restarts: part of `schema.wire`, in a file of its own."""

import msgspec

HANDS_OFF = "FLEETLOG_AGENT_HANDS_OFF"
"""Set in an agent's environment, it installs nothing and never restarts the machine: several are on it, or others look
after it."""
MAX_OUTCOMES = 300
"""Of one result; of more updates, those that were not installed come first, and the rest is counted."""
MAX_WHY = 300
"""Characters of why an update was not installed."""


class InstallWork(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="install_updates"
):
    """Install updates that the machine itself offers. Nothing of this is ever part of a shell's line."""

    names: list[str] = []
    """Those alone, as the machine's own list of software has them; empty: all."""
    versions: dict[str, str] = {}
    """Of a name, the one version that is meant."""
    security_only: bool = False
    held: list[str] = []
    """Patterns of names that are not to be installed."""
    timeout_s: int


class RebootWork(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="reboot"):
    """Restart the machine, once."""

    delay_s: int = 0
    """Whoever is logged in is told, and has so long."""
    notice: str = ""
    """What they are told."""


class UpdateOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one update."""

    name: str
    version: str = ""
    """That was to be installed."""
    outcome: str
    """``installed | failed | absent`` (the machine offers no such update) ``| held``"""
    why: str = ""


class PatchReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an `InstallWork` came to, by what the machine says is installed after it."""

    updates: list[UpdateOutcome] = []
    more: int = 0
    """So many others, of which none failed."""
    installed: int = 0
    """Of all, so many were installed."""
    reboot_needed: bool | None = None
    """None where the machine cannot say."""
