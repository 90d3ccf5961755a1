"""Linux."""

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

from agent.errors import AgentError
from agent.platforms import packages, restarting, services
from agent.platforms.posix import Posix
from agent.platforms.shape import NOT_AN_AGENT, SERVICE_VARIABLE
from schema.software import SoftwareList

_UNIT = Path("/etc/systemd/system/fleetlog-agent.service")
_BOOTED = Path("/run/systemd/system")
"""There is such a directory where systemd is the init system: sd_booted(3)."""
_CHASSIS = Path("/sys/class/dmi/id/chassis_type")
"""As numbered by SMBIOS (DSP0134, 7.4.1)."""
_PORTABLE = frozenset({8, 9, 10, 11, 12, 14, 30, 31, 32})
_RACKED = frozenset({17, 23, 25, 27, 28, 29})
_GRAPHICAL_LOGIN = (Path("/etc/systemd/system/display-manager.service"), Path("/etc/X11/default-display-manager"))
"""Whoever installs a display manager is asked for, or gets, one of these."""
_UNIT_TEXT = """\
[Unit]
Description=Fleetlog agent
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={command}
Restart=always
RestartSec=5
# This machine is no agent: it was refused, or never enrolled. That no start changes, but enrolling it does.
Environment={variable}=1
RestartPreventExitStatus={not_an_agent}
# A stop ends running scripts through the agent, which journals how they ended; what a script left behind on purpose
# (a service that it started) is not the agent's to kill.
KillMode=process
TimeoutStopSec=60

[Install]
WantedBy=multi-user.target
"""


class Linux(Posix):
    """Linux."""

    name = "linux"

    def elapsed_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def scripts_dir(self, state_dir: Path) -> Path:
        """On /run, which is memory: a script's body then never touches a disk."""
        run = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent")
        if run.is_dir() and os.access(run, os.W_OK):
            return run / self._named_after(state_dir)
        return super().scripts_dir(state_dir)

    def system_name(self) -> str:
        try:
            return platform.freedesktop_os_release()["PRETTY_NAME"]
        except (OSError, KeyError):
            return f"Linux {platform.release()}"

    def release(self) -> tuple[str, str]:
        try:
            told = platform.freedesktop_os_release()
        except OSError:
            return "", ""
        return told.get("ID", ""), told.get("VERSION_ID", "")

    def machine_type(self) -> str:
        """By its chassis, where that says it; else by whether it starts into a graphical login.

        A desktop's case, a virtual machine and a container say nothing by themselves. That the default target is
        ``graphical.target`` says nothing either: Debian's servers have it, too.
        """
        try:
            chassis = int(_CHASSIS.read_text())
        except (OSError, ValueError):
            chassis = 0
        if chassis in _RACKED:
            return "server"
        graphical = any(path.exists() for path in _GRAPHICAL_LOGIN)
        return "workstation" if chassis in _PORTABLE or graphical else "server"

    def cpu_model(self) -> str:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in {"model name", "Model"}:
                return value.strip()
        return ""

    def software(self) -> SoftwareList:
        return packages.linux()

    def service_runs(self, service: str) -> tuple[bool | None, str]:
        return services.systemd(service)

    def reboot_needed(self) -> bool | None:
        return restarting.linux_needs()

    def install_service(self, argv: list[str], *, write: bool) -> str:
        command = " ".join(_quoted(part) for part in argv)
        text = _UNIT_TEXT.format(command=command, variable=SERVICE_VARIABLE, not_an_agent=NOT_AN_AGENT)
        if not write:
            return text
        systemctl = shutil.which("systemctl")
        if os.geteuid() != 0 or systemctl is None:
            raise AgentError("Installing the service takes root and systemd. --print shows the unit instead.")
        if not _BOOTED.is_dir():
            raise AgentError("This machine was not started by systemd. --print shows the unit for another manager.")
        _UNIT.write_text(text)
        for step in (["daemon-reload"], ["enable", "--now", _UNIT.name]):
            done = subprocess.run([systemctl, *step], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - a fixed program with fixed arguments
            if done.returncode != 0:
                raise AgentError(f"systemctl {' '.join(step)} failed: {done.stderr.strip()}")
        return text


def _quoted(part: str) -> str:
    """As systemd reads a command line: quotes around blanks, % and $ doubled."""
    part = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{part}"' if any(c.isspace() for c in part) else part
