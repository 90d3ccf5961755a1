"""What this machine is. Reported when it changes, so what moves all the time (free space) is rounded or left out."""

import os
import platform
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psutil

from agent import VERSION
from agent.platforms import PLATFORM

_USED_STEP = 5
"""Percent: a disk's use is told in such steps."""
_PSEUDO = frozenset({"squashfs", "overlay", "tmpfs", "devtmpfs", "autofs", "devfs"})


def gather() -> dict[str, Any]:
    """Everything there is to know; takes some milliseconds, and blocks."""
    os_id, os_version = PLATFORM.release()
    sessions = sorted(psutil.users(), key=lambda session: (session.started, session.name))
    return {
        "hostname": socket.gethostname(),
        "os": PLATFORM.system_name(),
        "os_id": os_id,
        "os_version": os_version,
        "machine_type": PLATFORM.machine_type(),
        "timezone": PLATFORM.timezone(),
        "utc_offset_minutes": _utc_offset_minutes(),
        "kernel": platform.release(),
        "arch": arch(),
        "cpu": {
            "model": PLATFORM.cpu_model(),
            "cores": psutil.cpu_count(logical=False),
            "threads": psutil.cpu_count(),
        },
        "memory_bytes": psutil.virtual_memory().total,
        "swap_bytes": psutil.swap_memory().total,
        "disks": _disks(),
        "addresses": _addresses(),
        "users": sorted({session.name for session in sessions}),
        "logged_in_user": sessions[-1].name if sessions else None,  # who came last, where there are several
        "reboot_needed": PLATFORM.reboot_needed(),
        "boot_time": _to_minute(psutil.boot_time()),
        "agent_version": VERSION,
        "agent_user": psutil.Process().username(),
    }


def arch() -> str:
    """The processor's architecture under its most usual name."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def mounted() -> Iterator[tuple[Any, Any]]:
    """Each disk once: its partition and its use, as psutil has them. May block where one does not answer."""
    seen: set[str] = set()
    for part in sorted(psutil.disk_partitions(all=False), key=lambda part: (len(part.mountpoint), part.mountpoint)):
        if part.fstype in _PSEUDO or part.device in seen or not os.path.isdir(part.mountpoint):  # noqa: PTH112 - a name from psutil
            continue
        seen.add(part.device)
        try:
            usage = psutil.disk_usage(part.mountpoint)
        except OSError:  # a card reader without a card, a share that is away: not a disk now
            continue
        yield part, usage


def _disks() -> list[dict[str, Any]]:
    disks = []
    for part, usage in mounted():
        disks.append(
            {
                "mount": part.mountpoint,
                "device": part.device,
                "type": part.fstype,
                "size_bytes": usage.total,
                "used_percent": round(usage.percent / _USED_STEP) * _USED_STEP,
            }
        )
    return disks


def _addresses() -> list[dict[str, str]]:
    families = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
    return [
        {"interface": interface, "family": families[address.family], "address": address.address.partition("%")[0]}
        for interface, addresses in sorted(psutil.net_if_addrs().items())
        for address in sorted(addresses, key=lambda address: (address.family, address.address))
        if address.family in families and not address.address.startswith(("127.", "::1"))
    ]


def _utc_offset_minutes() -> int:
    """Of the machine's own time just now: for machines whose zone has no name that others know."""
    offset = datetime.now(UTC).astimezone().utcoffset()
    return round(offset.total_seconds() / 60) if offset is not None else 0


def _to_minute(seconds: float) -> str:
    """The system computes its boot time from a clock that is being adjusted: seconds of it are noise."""
    return datetime.fromtimestamp(round(seconds / 60) * 60, UTC).isoformat()
