"""What package managers say is installed, and what they say could be updated: asked by their own programs.

What a program prints is read by functions of their own, so that all of them can be tried anywhere. A manager that fails
or is not there says nothing; who asks is told whether updates are known.
"""

import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from schema.software import Package, SoftwareList, listed

log = logging.getLogger("fleetlog.agent.software")

TIME_OUT_S = 120
_FIELDS = "\t"
_APT_LINE = re.compile(
    r"^Inst (?P<name>\S+) \[(?P<old>[^\]]+)\] \((?P<new>\S+) (?P<origin>.*?)(?: \[(?P<arch>[^\]]+)\])?\)"
)
_DNF_LINE = re.compile(r"^(?P<name>\S+)\.(?P<arch>[^\s.]+)\s+(?P<version>\S+)\s+\S+$")
_PACMAN_LINE = re.compile(r"^(?P<name>\S+) (?P<old>\S+) -> (?P<new>\S+)$")
_APK_LINE = re.compile(r"^(?P<name>.+?)-(?P<version>\d[^-]*-r\d+)\b")
_APK_UPDATE_LINE = re.compile(r"^(?P<name>.+?)-(?P<old>\d[^-]*-r\d+)\s+<\s+(?P<new>\S+)")
_SOFTWAREUPDATE_LINE = re.compile(r"^\s+Title: (?P<title>.*?), Version: (?P<version>[^,]*),", re.MULTILINE)
WINDOWS_PROGRAMS = (
    "[Console]::OutputEncoding = [Text.Encoding]::UTF8; @(Get-ItemProperty"
    " HKLM:\\Software\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\*,"
    " HKLM:\\Software\\WOW6432Node\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\*"
    " -ErrorAction SilentlyContinue | Where-Object { $_.DisplayName -and -not $_.SystemComponent }"
    " | Select-Object DisplayName, DisplayVersion) | ConvertTo-Json -Compress"
)
WINDOWS_UPDATES = (
    "[Console]::OutputEncoding = [Text.Encoding]::UTF8;"
    " $found = (New-Object -ComObject Microsoft.Update.Session).CreateUpdateSearcher().Search("
    "'IsInstalled=0 and IsHidden=0').Updates; @($found | ForEach-Object { [pscustomobject]@{ Title = $_.Title;"
    " KB = @($_.KBArticleIDs); Security = [bool]($_.Categories | Where-Object {"
    " $_.CategoryID -eq '0fa1201d-4330-4fa8-8ae9-b877473b6441' }) } }) | ConvertTo-Json -Compress -Depth 3"
)
"""The category is the one that Windows Update calls Security Updates."""


def linux() -> SoftwareList:
    """Of whichever managers are there; a minute at the most where a disk is slow. Blocks."""
    found: list[Package] = []
    updates: dict[tuple[str, str], tuple[str, bool]] = {}
    known: list[bool] = []
    for source, ask, read, ask_updates, read_updates in _LINUX:
        printed = run(ask)
        if printed is None:
            continue
        packages = [Package(name, version, arch, source) for name, version, arch in read(printed)]
        found += packages
        # An rpm on a Debian machine has no package of its own, and so nothing that could be updated.
        if not packages:
            continue
        offered = run(ask_updates, good=(0, 100)) if ask_updates else None
        known.append(offered is not None)
        for name, arch, version, security in read_updates(offered or ""):
            updates[name, arch] = (version, security)
    return listed(_with_updates(found, updates), updates_known=bool(known) and all(known))


def macos() -> SoftwareList:
    """Applications, and updates of the system."""
    programs = run(["/usr/sbin/system_profiler", "-json", "SPApplicationsDataType"])
    offered = run(["/usr/sbin/softwareupdate", "--list", "--no-scan"])
    found = [*read_applications(programs or ""), *read_softwareupdate(offered or "")]
    return listed(found, updates_known=offered is not None)


def windows(powershell: str) -> SoftwareList:
    """Programs as the registry has them, and updates of the system.

    Args:
        powershell: its path.
    """
    ask = [powershell, "-NoProfile", "-NonInteractive", "-Command"]
    programs, offered = run([*ask, WINDOWS_PROGRAMS]), run([*ask, WINDOWS_UPDATES])
    found = [*read_programs(programs or ""), *read_windows_updates(offered or "")]
    return listed(found, updates_known=offered is not None)


def run(argv: Sequence[str], *, good: Iterable[int] = (0,)) -> str | None:
    """What a program prints; None if it is not there, fails, or takes longer than two minutes."""
    program = shutil.which(argv[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs with fixed arguments
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIME_OUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "en"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s did not say what is installed: %s", argv[0], error)
        return None
    if done.returncode not in good:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        log.info("%s ended with %d: %s", argv[0], done.returncode, last)
        return None
    return done.stdout.decode(errors="replace")


def _with_updates(
    packages: Iterable[Package], updates: Mapping[tuple[str, str], tuple[str, bool]]
) -> Iterator[Package]:
    for one in packages:
        version, security = updates.get((one.name, one.arch)) or updates.get((one.name, "")) or ("", False)
        yield Package(one.name, one.version, one.arch, one.source, version, security)


# -- what they print -----------------------------------------------------------------------------------------------


def read_dpkg(printed: str) -> Iterator[tuple[str, str, str]]:
    """Of ``dpkg-query --show``: what is installed or held, and not what is removed but for its settings."""
    for line in printed.splitlines():
        status, name, version, arch = ([*line.split(_FIELDS), "", "", ""])[:4]
        if status[1:2] == "i" and name:
            yield name, version, arch


def read_rpm(printed: str) -> Iterator[tuple[str, str, str]]:
    for line in printed.splitlines():
        name, version, arch = ([*line.split(_FIELDS), "", ""])[:3]
        if name and name != "gpg-pubkey":  # rpm keeps the keys that it trusts as if they were packages
            yield name, version.removeprefix("(none):").removeprefix("0:"), arch


def read_pacman(printed: str) -> Iterator[tuple[str, str, str]]:
    for line in printed.splitlines():
        name, _, version = line.partition(" ")
        if version:
            yield name, version, ""


def read_apk(printed: str) -> Iterator[tuple[str, str, str]]:
    for line in printed.splitlines():
        if (found := _APK_LINE.match(line)) is not None:
            yield found["name"], found["version"], ""


def read_apt_updates(printed: str) -> Iterator[tuple[str, str, str, bool]]:
    """Of a simulated ``apt-get dist-upgrade``: held packages are none, and origins name what is for security."""
    for line in printed.splitlines():
        if (found := _APT_LINE.match(line)) is not None:
            yield found["name"].partition(":")[0], "", found["new"], "security" in found["origin"].casefold()


def read_dnf_updates(printed: str) -> Iterator[tuple[str, str, str, bool]]:
    """Of ``dnf check-update``, up to the list of what would go."""
    for line in printed.partition("\nObsoleting")[0].splitlines():
        if (found := _DNF_LINE.match(line)) is not None:
            yield found["name"], found["arch"], found["version"].removeprefix("0:"), False


def read_pacman_updates(printed: str) -> Iterator[tuple[str, str, str, bool]]:
    for line in printed.splitlines():
        if (found := _PACMAN_LINE.match(line)) is not None:
            yield found["name"], "", found["new"], False


def read_apk_updates(printed: str) -> Iterator[tuple[str, str, str, bool]]:
    for line in printed.splitlines():
        if (found := _APK_UPDATE_LINE.match(line)) is not None:
            yield found["name"], "", found["new"], False


def read_applications(printed: str) -> Iterator[Package]:
    """Of macOS's ``system_profiler -json SPApplicationsDataType``."""
    for one in _documents(_document(printed, "SPApplicationsDataType")):
        yield Package(_text(one, "_name"), _text(one, "version"), "", "app")


def read_softwareupdate(printed: str) -> Iterator[Package]:
    """Of macOS's ``softwareupdate --list``."""
    for found in _SOFTWAREUPDATE_LINE.finditer(printed):
        yield Package(found["title"], "", "", "softwareupdate", found["version"] or "available")


def read_programs(printed: str) -> Iterator[Package]:
    """Of `WINDOWS_PROGRAMS`."""
    for one in _documents(_document(printed)):
        yield Package(_text(one, "DisplayName"), _text(one, "DisplayVersion") or "unknown", "", "registry")


def read_windows_updates(printed: str) -> Iterator[Package]:
    """Of `WINDOWS_UPDATES`."""
    for one in _documents(_document(printed)):
        articles = one.get("KB") or []
        numbers = articles if isinstance(articles, list) else [articles]
        known_as = ", ".join(f"KB{number}" for number in numbers) or "available"
        yield Package(_text(one, "Title"), "", "", "windows_update", known_as, one.get("Security") is True)


def _document(printed: str, name: str = "") -> Any:
    """JSON, or a part of it; PowerShell prints nothing for an empty list, and one thing for a list of one."""
    try:
        document = json.loads(printed) if printed.strip() else []
    except ValueError as error:
        log.warning("what is installed cannot be read: %s", error)
        return []
    return document.get(name, []) if name and isinstance(document, dict) else document


def _documents(document: Any) -> Iterator[Mapping[str, Any]]:
    for one in document if isinstance(document, list) else [document]:
        if isinstance(one, dict):
            yield one


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


_LINUX = (
    (
        "dpkg",
        ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}\\t${Package}\\t${Version}\\t${Architecture}\\n"],
        read_dpkg,
        ["apt-get", "--simulate", "--quiet", "--option", "Debug::NoLocking=true", "dist-upgrade"],
        read_apt_updates,
    ),
    (
        "rpm",
        ["rpm", "--query", "--all", "--queryformat", "%{NAME}\\t%{EPOCH}:%{VERSION}-%{RELEASE}\\t%{ARCH}\\n"],
        read_rpm,
        ["dnf", "--quiet", "--cacheonly", "check-update"],
        read_dnf_updates,
    ),
    ("pacman", ["pacman", "--query"], read_pacman, ["pacman", "--query", "--upgrades"], read_pacman_updates),
    ("apk", ["apk", "info", "--verbose"], read_apk, ["apk", "version", "--limit", "<"], read_apk_updates),
)
