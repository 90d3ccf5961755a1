"""Updates and restarts as commands: what is asked for, and what came of each update."""

import enum
from datetime import timedelta
from uuid import UUID

import msgspec

from domain.errors import InvalidValueError
from domain.ids import derived_id, is_derived

DEFAULT_INSTALL_TIMEOUT_S = 2 * 3600
MAX_INSTALL_TIMEOUT_S = 24 * 3600
MAX_NAMES = 1000
MAX_HELD = 100
MAX_NAME_LENGTH = 200
MAX_REBOOT_DELAY_S = 24 * 3600
MAX_NOTICE_LENGTH = 500


OUTCOMES_OF_UPDATES = frozenset({"installed", "failed", "absent", "held"})
"""Absent: the machine offers no such update."""


class RebootPolicy(enum.StrEnum):
    """What becomes of a machine that is to be restarted after updates were installed."""

    NEVER = "never"
    IF_NEEDED = "if_needed"


class InstallUpdates(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="install_updates"
):
    """Install updates that the machine offers, with its own package manager."""

    names: tuple[str, ...] = ()
    """Those alone; empty: all that it offers."""
    versions: dict[str, str] = {}
    """Of a name, the one version that is meant; another one is left alone."""
    security_only: bool = False
    held: tuple[str, ...] = ()
    """Patterns of names, as ``linux-image-*``, that stay as they are."""
    reboot: RebootPolicy = RebootPolicy.NEVER
    reboot_delay_s: int = 300
    """Whoever is logged in has so long, where it is restarted."""
    timeout_s: int = DEFAULT_INSTALL_TIMEOUT_S


class Reboot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="reboot"):
    """Restart the machine; it has succeeded once the machine is back."""

    delay_s: int = 0
    notice: str = ""
    """What those who are logged in are told."""


class UpdateOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one update."""

    name: str
    version: str = ""
    outcome: str
    """``installed | failed | absent | held``"""
    why: str = ""


class Patched(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What installing updates came to, by what the machine says is installed after it."""

    updates: tuple[UpdateOutcome, ...] = ()
    more: int = 0
    """So many others, of which none failed."""
    installed: int = 0
    reboot_needed: bool | None = None
    """None where the machine cannot say."""


REBOOT_WAITS = timedelta(hours=1)
"""So long, at the least, a restart after updates waits for its machine."""


def reboot_after(command_id: UUID) -> UUID:
    """The command that restarts a machine after an install: one, however often its result is told.

    It is a rollout's where the install is.
    """
    found = derived_id("reboot after", command_id)
    return found if is_derived(command_id) else UUID(int=found.int & ~(0xF << 76) | 8 << 76)


def check_install(spec: InstallUpdates) -> None:
    """Raise InvalidValueError where no machine could do it."""
    if len(spec.names) > MAX_NAMES or len(spec.versions) > MAX_NAMES:
        raise InvalidValueError(f"names: at most {MAX_NAMES}; leave them out to have all that is offered.")
    if len(spec.held) > MAX_HELD:
        raise InvalidValueError(f"held: at most {MAX_HELD} patterns, not {len(spec.held)}.")
    for text in (*spec.names, *spec.versions, *spec.versions.values(), *spec.held):
        if not 1 <= len(text) <= MAX_NAME_LENGTH or not text.isprintable():
            raise InvalidValueError(
                f"names, versions, held: 1 to {MAX_NAME_LENGTH} printable characters each, not {text[:40]!r}."
            )
    if spec.names and not spec.versions.keys() <= set(spec.names):
        raise InvalidValueError("versions: of names that are asked for alone.")
    if not 1 <= spec.timeout_s <= MAX_INSTALL_TIMEOUT_S:
        raise InvalidValueError(f"timeout_s: 1 to {MAX_INSTALL_TIMEOUT_S} s, not {spec.timeout_s}.")
    _check_delay("reboot_delay_s", spec.reboot_delay_s)


def check_reboot(spec: Reboot) -> None:
    """Raise InvalidValueError where no machine could do it."""
    _check_delay("delay_s", spec.delay_s)
    if len(spec.notice) > MAX_NOTICE_LENGTH or not all(c.isprintable() or c == "\n" for c in spec.notice):
        raise InvalidValueError(f"notice: at most {MAX_NOTICE_LENGTH} printable characters.")


def _check_delay(name: str, delay_s: int) -> None:
    if not 0 <= delay_s <= MAX_REBOOT_DELAY_S:
        raise InvalidValueError(f"{name}: 0 to {MAX_REBOOT_DELAY_S} s, not {delay_s}.")
