"""Restarting the machine, and whether it waits for that."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from agent.errors import WorkRefusedError
from schema.patches import HANDS_OFF

log = logging.getLogger("fleetlog.agent.restarting")

_TIME_OUT_S = 60
_UBUNTU_SAYS = Path("/run/reboot-required")
_UBUNTU_WOULD_SAY = (
    Path("/usr/share/update-notifier/notify-reboot-required"),
    Path("/etc/kernel/postinst.d/unattended-upgrades"),
)
"""Whoever has one of these has the other written."""
_MODULES = Path("/lib/modules")
_RPM_ASK = (
    *("rpm", "--query", "--queryformat", "%{INSTALLTIME}\\n"),
    *("kernel", "kernel-core", "kernel-rt", "glibc", "linux-firmware", "systemd", "udev", "dbus"),
)
"""As the plugin needs-restarting of dnf judges: one of these is newer than the boot."""
_WAYS = (("shutdown", "-r", "now"), ("systemctl", "reboot"), ("reboot",))
_WINDOWS_KEYS = (
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
)


def must_not_keep_hands_off() -> None:
    """Raise WorkRefusedError where this agent is to leave the machine as it is."""
    if os.environ.get(HANDS_OFF):
        raise WorkRefusedError(
            "hands_off", f"This agent is to install nothing and to restart nothing ({HANDS_OFF} is set)."
        )


def restart() -> str:
    """Tell the machine to restart, now; returns why that cannot be, or nothing. Blocks."""
    must_not_keep_hands_off()
    if sys.platform == "win32":
        return _told(("shutdown", "/r", "/t", "0", "/d", "p:4:1"))
    for way in _WAYS:
        if shutil.which(way[0]) is not None:
            return _told(way)
    return "there is no program here that restarts the machine"


def announce(text: str) -> None:
    """Tell those who are logged in, where there is a program that does. Blocks."""
    argv = ("msg", "*", text) if sys.platform == "win32" else ("wall",)
    if shutil.which(argv[0]) is not None and (why := _told(argv, text)):
        log.warning("nobody was told of the restart: %s", why)


def _told(argv: Sequence[str], text: str = "") -> str:
    program = shutil.which(argv[0])
    if program is None:
        return f"{argv[0]} is not installed"
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs; the text is their input, and never a shell's
            [program, *argv[1:]], input=text.encode(), capture_output=True, timeout=_TIME_OUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}"
    if done.returncode == 0:
        return ""
    said = (done.stderr or done.stdout).decode(errors="replace").strip().rpartition("\n")[2]
    return f"{argv[0]} ended with {done.returncode}: {said}".rstrip(": ")


def linux_needs() -> bool | None:
    """Whether Linux waits for a restart; None where nothing here says so."""
    if _UBUNTU_SAYS.exists():
        return True
    running = _MODULES / os.uname().release if sys.platform != "win32" else None
    if running is not None and not running.exists() and _MODULES.is_dir() and any(_MODULES.iterdir()):
        return True  # its modules went with an update, and others are there
    if shutil.which("rpm") is not None and (newer := newer_than_boot(_printed(_RPM_ASK), psutil.boot_time())):
        return newer
    if any(path.exists() for path in _UBUNTU_WOULD_SAY):
        return False
    return False if shutil.which("dnf") is not None else None


def newer_than_boot(printed: str, booted_at: float) -> bool:
    """Of what rpm prints of the packages that take a restart: whether one was installed since the boot."""
    return any(int(line) > booted_at for line in printed.split() if line.isdecimal())


def windows_needs() -> bool | None:
    """By the two keys of the registry that Windows' own update leaves."""
    if sys.platform != "win32":
        return None
    import winreg  # noqa: PLC0415 - exists on Windows alone

    for name in _WINDOWS_KEYS:
        try:
            winreg.CloseKey(winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, name))
        except FileNotFoundError:
            continue
        return True
    return False


def _printed(argv: Sequence[str]) -> str:
    """What a program prints, of what it knows: rpm ends with 1 where one of several is not there."""
    try:
        done = subprocess.run(list(argv), capture_output=True, timeout=_TIME_OUT_S, check=False, text=True)  # noqa: S603 - a fixed program with fixed arguments
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s did not say when packages were installed: %s", argv[0], error)
        return ""
    return done.stdout
