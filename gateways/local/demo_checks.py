"""What is measured on the machines of the demonstration, and what that finds: most is well, and some is not."""

from typing import Any

import msgspec

from gateways.local.demo_machines import Machine
from schema.checks import GivenCheck

_FAILS_BELOW, _WARNS_BELOW = 10, 20
DISK, BACKUP, NGINX = "Disk", "Backup", "nginx"
CHECKS: tuple[dict[str, Any], ...] = (
    {
        "name": DISK,
        "description": "The fullest one.",
        "what": {"kind": "disk", "warning": _WARNS_BELOW, "error": _FAILS_BELOW},
        "target": {"include": {"everything": True}},
    },
    {
        "name": NGINX,
        "what": {"kind": "service", "service": "nginx.service"},
        "target": {"include": {"tags": ["web"]}},
        "failures": 2,
    },
    {
        "name": BACKUP,
        "description": "It says so itself where it is older than a day.",
        "what": {"kind": "shell", "shell": "sh", "line": "backup-age --at-most 24h", "warning_codes": [1]},
        "target": {"include": {"tags": ["db", "backup"]}},
        "interval_s": 3600,
    },
)
"""As the API takes them."""
_STOPPED_EVERY, _LATE_EVERY = 5, 3


class Found(msgspec.Struct, frozen=True):
    """What one of them says of a machine."""

    state: str
    value: float | None = None
    unit: str = ""
    detail: str = ""


def found_on(machine: Machine, check: GivenCheck) -> Found:
    """What a check finds; one that somebody else made always passes."""
    match check.name:
        case name if name == DISK:
            free = 100.0 - machine.used_percent
            state = "failing" if free < _FAILS_BELOW else "warning" if free < _WARNS_BELOW else "passing"
            return Found(state, free, "% free")
        case name if name == NGINX and machine.number % _STOPPED_EVERY == 0:
            return Found("failing", detail="inactive (dead)")
        case name if name == NGINX:
            return Found("passing", detail="active (running)")
        case name if name == BACKUP and machine.number % _LATE_EVERY == 0:
            return Found("warning", 1.0, "exit code", "the last backup is 31 h old")
        case _:
            return Found("passing")
