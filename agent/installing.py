"""Installs updates: a program of its own, which the agent starts and, should it take too long, ends with all it began.

    python -m agent.installing WORK OUTCOME

Looks what the machine offers, chooses, has each package manager install what was chosen of it, and looks again: what
came of an update is what the machine says then, whatever a manager printed. WORK holds an `InstallWork`; OUTCOME is
first what was chosen, and at the end what came of it.
"""

import fnmatch
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from agent.platforms import PLATFORM, packages, updating
from schema.patches import MAX_OUTCOMES, MAX_WHY, InstallWork, PatchReport, UpdateOutcome
from schema.software import Package, SoftwareList

_HALF_DONE = "it had not been installed when it was ended"
_UNATTENDED = {"DEBIAN_FRONTEND": "noninteractive", "APT_LISTCHANGES_FRONTEND": "none", "NEEDRESTART_MODE": "l"}
_FAULT = ("E:", "Error", "error", "ERROR", "dpkg: error")
decode_work = msgspec.json.Decoder(InstallWork).decode


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be installed, and what was asked for and is not."""

    updates: list[Package]
    others: list[UpdateOutcome] = []
    failed: dict[str, str] = {}
    """From the manager to why it failed."""
    refused: dict[str, str] = {}
    """From a name to what its manager said of it."""
    done: bool = False
    """Every manager was asked."""


decode_chosen = msgspec.json.Decoder(Chosen).decode


def choose(work: InstallWork, software: SoftwareList) -> Chosen:
    """Of what the machine offers, what is meant; what was named and is not offered, or is held, is told so."""
    offered = [one for one in software.packages if one.update and updating.passable(one)]
    wanted = set(work.names) | set(work.versions)
    updates: list[Package] = []
    others: list[UpdateOutcome] = []
    for one in offered:
        if wanted and one.name not in wanted:
            continue
        if work.security_only and not one.security:
            continue
        if (version := work.versions.get(one.name, one.update)) != one.update:
            why = f"the machine offers {one.update}"
            others.append(UpdateOutcome(name=one.name, version=version, outcome="absent", why=why))
        elif holding := next((held for held in work.held if fnmatch.fnmatchcase(one.name, held)), ""):
            why = f"held by {holding}" if holding != one.name else ""
            others.append(UpdateOutcome(name=one.name, version=one.update, outcome="held", why=why))
        else:
            updates.append(one)
    missing = wanted - {one.name for one in updates} - {one.name for one in others}
    others += [
        UpdateOutcome(name=name, version=work.versions.get(name, ""), outcome="absent", why="the machine offers none")
        for name in sorted(missing)
    ]
    return Chosen(updates=updates, others=others)


def judge(chosen: Chosen, after: SoftwareList) -> PatchReport:
    """What came of what was chosen, by what the machine says is installed now."""
    now: dict[tuple[str, str, str], set[str]] = {}
    offered = {(one.name, one.update) for one in after.packages if one.update}
    for one in after.packages:
        now.setdefault((one.source, one.name, one.arch), set()).add(one.version)
    outcomes = [*chosen.others]
    for one in chosen.updates:
        if one.version:
            installed = one.update in now.get((one.source, one.name, one.arch), ())
        else:
            # An update of the system: where its manager says nothing of it, it is no more offered once it is installed.
            told = chosen.refused.get(one.name)
            installed = told == "" if told is not None else chosen.done and (one.name, one.update) not in offered
        why = "" if installed else chosen.refused.get(one.name) or chosen.failed.get(one.source) or _HALF_DONE
        if not installed and chosen.done and why == _HALF_DONE:
            why = "its package manager left it as it was"
        outcomes.append(
            UpdateOutcome(
                name=one.name,
                version=one.update,
                outcome="installed" if installed else "failed",
                why=why[:MAX_WHY],
            )
        )
    rank = {"failed": 0, "absent": 1, "held": 2, "installed": 3}
    outcomes.sort(key=lambda one: (rank[one.outcome], one.name, one.version))
    return PatchReport(
        updates=outcomes[:MAX_OUTCOMES],
        more=len(outcomes[MAX_OUTCOMES:]),
        installed=sum(one.outcome == "installed" for one in outcomes),
        reboot_needed=PLATFORM.reboot_needed(),
    )


def in_words(report: PatchReport) -> str:
    """What it came to, in a line."""
    counts = {"installed": report.installed}
    for outcome in ("failed", "absent", "held"):
        counts[outcome] = sum(one.outcome == outcome for one in report.updates)
    words = {"installed": "installed", "failed": "failed", "absent": "not offered", "held": "held"}
    said = ", ".join(f"{count} {words[outcome]}" for outcome, count in counts.items() if count)
    return (said or "nothing to install") + ("; a restart is needed" if report.reboot_needed else "")


def main(work_path: Path, outcome_path: Path, look: Callable[[], SoftwareList] = PLATFORM.software) -> int:
    """Install; returns 0 where nothing failed."""
    work = decode_work(work_path.read_bytes())
    for source in sorted({one.source for one in look().packages}):
        for argv in (updating.refreshing(source), updating.repairing(source)):
            if argv:
                _run(argv)
    offers = look()
    chosen = choose(work, offers)
    _write(outcome_path, chosen)
    failed: dict[str, str] = {}
    refused: dict[str, str] = {}
    for source in dict.fromkeys(one.source for one in chosen.updates):
        mine = [one for one in chosen.updates if one.source == source]
        others = [one for one in offers.packages if one.source == source and one.update]
        argv = list(updating.installing(source, mine, others, _shell()))
        variables: Mapping[str, str] = {}
        if source == "softwareupdate":
            argv += updating.labels(packages.run(["softwareupdate", "--list", "--no-scan"]) or "", mine)
        elif source == "windows_update":
            variables = updating.write_chosen(work_path.with_suffix(".chosen"), mine)
        code, lines = _run(argv, variables)
        if code != 0:
            failed[source] = _why(argv[0], code, lines)
        for line in lines:
            if line.startswith(updating.RESULTS):
                refused |= updating.read_windows_results(line)
    ended = msgspec.structs.replace(chosen, failed=failed, refused=refused, done=True)
    _write(outcome_path, ended)
    report = judge(ended, look())
    sys.stdout.write(in_words(report) + "\n")
    return 1 if any(one.outcome == "failed" for one in report.updates) else 0


def _shell() -> str:
    return shutil.which("powershell") or ""


def _write(path: Path, chosen: Chosen) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(chosen))
    draft.replace(path)


def _run(argv: Sequence[str], variables: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
    """Run a program, its output passed on as it comes; returns its exit code and its last lines."""
    sys.stdout.write(f"$ {' '.join(argv)}\n"[:2000])
    sys.stdout.flush()
    program = shutil.which(argv[0])
    if program is None:
        return 127, [f"{argv[0]} is not installed"]
    lines: list[str] = []
    with (
        subprocess.Popen(  # noqa: S603 - fixed programs; names are arguments of their own, see `updating.passable`
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "en", **_UNATTENDED, **(variables or {})},
        ) as process
    ):
        assert process.stdout is not None  # noqa: S101 - for the type checker
        for raw in process.stdout:
            sys.stdout.buffer.write(raw)
            sys.stdout.flush()
            lines.append(raw.decode(errors="replace").rstrip())
            del lines[:-200]
    return process.returncode, lines


def _why(program: str, code: int, lines: Iterable[str]) -> str:
    """The first complaint that a manager printed, or its exit code."""
    told = next((line for line in lines if line.startswith(_FAULT)), "")
    return told or f"{program} ended with {code}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
