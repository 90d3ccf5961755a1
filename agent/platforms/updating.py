"""How each package manager is told to install what it offers.

A chosen update was on the machine's own list a moment ago. Its name is an argument of a program, after ``--`` where the
program knows that, and never a part of a shell's line; what a manager could not have listed itself is not passed on.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from schema.software import Package

LOCK_WAIT_S = 600
"""So long a manager waits for another one that is at work."""
RESULTS = "fleetlog-results "
"""Begins the line in which the script for Windows says what came of each update."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:@-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:~_^-]*")
_APT = (
    *("apt-get", "--yes", "--quiet"),
    *("--option", "Dpkg::Options::=--force-confdef", "--option", "Dpkg::Options::=--force-confold"),
    *("--option", f"DPkg::Lock::Timeout={LOCK_WAIT_S}"),
)
"""Settings that somebody has changed stay as they are: nobody is there to be asked."""
_SOFTWAREUPDATE_LABEL = re.compile(
    r"^\* Label: (?P<label>.+)\n\s+Title: (?P<title>.*?), Version: (?P<version>[^,]*),", re.MULTILINE
)
CHOSEN_VARIABLE = "FLEETLOG_CHOSEN"
WINDOWS_INSTALL = (
    "[Console]::OutputEncoding = [Text.Encoding]::UTF8; $ErrorActionPreference = 'Stop';"
    f" $wanted = @(Get-Content -Raw -Encoding UTF8 -LiteralPath $env:{CHOSEN_VARIABLE} | ConvertFrom-Json);"
    " $session = New-Object -ComObject Microsoft.Update.Session;"
    " $found = $session.CreateUpdateSearcher().Search('IsInstalled=0 and IsHidden=0').Updates;"
    " $chosen = New-Object -ComObject Microsoft.Update.UpdateColl;"
    " foreach ($one in $found) { if ($wanted -ccontains $one.Title) {"
    " if (-not $one.EulaAccepted) { $one.AcceptEula() }; [void]$chosen.Add($one) } };"
    " if ($chosen.Count -eq 0) { exit 0 };"
    " $fetch = $session.CreateUpdateDownloader(); $fetch.Updates = $chosen; [void]$fetch.Download();"
    " $install = $session.CreateUpdateInstaller(); $install.Updates = $chosen; $done = $install.Install();"
    " $told = @(for ($i = 0; $i -lt $chosen.Count; $i++) { $r = $done.GetUpdateResult($i);"
    " [pscustomobject]@{ Title = $chosen.Item($i).Title; Code = [int]$r.ResultCode; Why = ('0x{0:X8}' -f $r.HResult)"
    f" }} }}); '{RESULTS}' + (ConvertTo-Json -Compress -InputObject $told)"
)
"""What is chosen comes by a file: no title is ever code. 2 is installed, 3 installed with errors."""


def refreshing(source: str) -> Sequence[str]:
    """What brings a manager's lists up to date; empty where its own install does that, or Windows and macOS."""
    return {
        "dpkg": (*_APT, "update"),
        "rpm": ("dnf", "--quiet", "makecache", "--refresh"),
        "pacman": ("pacman", "--sync", "--refresh", "--noconfirm"),
        "apk": ("apk", "update", "--wait", str(LOCK_WAIT_S)),
    }.get(source, ())


def repairing(source: str) -> Sequence[str]:
    """What ends that a manager was ended half-way before; does nothing elsewhere."""
    if source == "dpkg":
        return ("dpkg", "--force-confdef", "--force-confold", "--configure", "--pending")
    return ()


def installing(  # noqa: PLR0911 - one for each manager
    source: str, chosen: Sequence[Package], offered: Sequence[Package], powershell: str
) -> Sequence[str]:
    """What installs the chosen ones of what a manager offers.

    Args:
        source: the manager, as in the machine's list.
        chosen: at least one.
        offered: all that it offers.
        powershell: its path, on Windows.
    """
    names = [one.name for one in chosen]
    match source:
        case "dpkg":
            return (*_APT, "--only-upgrade", "install", "--", *(f"{one.name}={one.update}" for one in chosen))
        case "rpm":
            return ("dnf", "--assumeyes", "upgrade", *(f"{one.name}-{one.update}.{one.arch}" for one in chosen))
        case "pacman":
            # Arch is one whole: all goes forward but for what is left out by name.
            left = [one.name for one in offered if one.name not in set(names)]
            return ("pacman", "--sync", "--sysupgrade", "--noconfirm", *(("--ignore", ",".join(left)) if left else ()))
        case "apk":
            return ("apk", "upgrade", "--wait", str(LOCK_WAIT_S), "--", *names)
        case "softwareupdate":
            return ("softwareupdate", "--install", "--verbose")  # with labels, see `labels`
        case "windows_update":
            return (powershell, "-NoProfile", "-NonInteractive", "-Command", WINDOWS_INSTALL)
        case _:
            return ()


def passable(one: Package) -> bool:
    """Whether a manager that takes names as arguments could have listed it so itself."""
    if one.source in ("softwareupdate", "windows_update"):
        return one.name.isprintable() and not one.name.startswith("-")
    arch = one.arch == "" or _NAME.fullmatch(one.arch) is not None
    return arch and _NAME.fullmatch(one.name) is not None and _VERSION.fullmatch(one.update) is not None


def labels(printed: str, chosen: Sequence[Package]) -> list[str]:
    """Of ``softwareupdate --list``: by what it wants the chosen ones to be called."""
    wanted = {(one.name, one.update) for one in chosen}
    return [
        found["label"].strip()
        for found in _SOFTWAREUPDATE_LABEL.finditer(printed)
        if (found["title"], found["version"] or "available") in wanted
    ]


def read_windows_results(line: str) -> dict[str, str]:
    """Of the line that `RESULTS` begins: from title to why it was not installed, empty where it was."""
    told = json.loads(line.removeprefix(RESULTS))
    found: dict[str, str] = {}
    for one in told if isinstance(told, list) else [told]:
        ok = one.get("Code") in (2, 3)
        found[str(one.get("Title", ""))] = "" if ok else f"Windows Update says {one.get('Why')} ({one.get('Code')})"
    return found


def write_chosen(path: Path, chosen: Sequence[Package]) -> Mapping[str, str]:
    """Write down what is chosen for the script for Windows; returns the variable that names the file."""
    path.write_text(json.dumps([one.name for one in chosen]), encoding="utf-8")
    return {CHOSEN_VARIABLE: str(path)}
