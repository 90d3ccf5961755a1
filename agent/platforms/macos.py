"""macOS."""

import os
import platform
import subprocess
from pathlib import Path
from xml.sax.saxutils import escape

from agent.errors import AgentError
from agent.platforms import packages, services
from agent.platforms.posix import Posix
from schema.software import SoftwareList

_LABEL = "dev.fleetlog.agent"
_PLIST = Path(f"/Library/LaunchDaemons/{_LABEL}.plist")
_PLIST_TEXT = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
  <key>Label</key><string>{label}</string>
  <key>ProgramArguments</key><array>{arguments}</array>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
  <key>AbandonProcessGroup</key><true/>
</dict></plist>
"""


class MacOS(Posix):
    """macOS."""

    name = "macos"

    def boot_id(self) -> str:
        return _sysctl("kern.bootsessionuuid")

    def system_name(self) -> str:
        return f"macOS {platform.mac_ver()[0]}"

    def release(self) -> tuple[str, str]:
        return "macos", platform.mac_ver()[0]

    def machine_type(self) -> str:
        """There is no server edition: a Mac that serves is told by a tag."""
        return "workstation"

    def cpu_model(self) -> str:
        return _sysctl("machdep.cpu.brand_string")

    def software(self) -> SoftwareList:
        return packages.macos()

    def service_runs(self, service: str) -> tuple[bool | None, str]:
        return services.launchd(service)

    def reboot_needed(self) -> bool | None:
        """Nothing on a Mac says so but an update that is about to restart it."""
        return None

    def install_service(self, argv: list[str], *, write: bool) -> str:
        arguments = "".join(f"<string>{escape(part)}</string>" for part in argv)
        text = _PLIST_TEXT.format(label=_LABEL, arguments=arguments)
        if not write:
            return text
        if os.geteuid() != 0:
            raise AgentError("Installing the service takes root. --print shows the launchd job instead.")
        _PLIST.write_text(text)
        done = subprocess.run(  # noqa: S603 - a fixed program with fixed arguments
            ["/bin/launchctl", "bootstrap", "system", str(_PLIST)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            raise AgentError(f"launchctl bootstrap failed: {done.stderr.strip()}")
        return text


def _sysctl(name: str) -> str:
    done = subprocess.run(  # noqa: S603 - a fixed program with fixed arguments
        ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
