"""Whether a service runs, as the system's own programs say; what they print is read by functions of their own."""

import shutil
import subprocess

TIME_OUT_S = 20
NO_SUCH = "there is no such service"


def systemd(unit: str) -> tuple[bool | None, str]:
    """Of a systemd unit: whether it runs (None: nobody can say), and what is said of it."""
    said = _ask(["systemctl", "show", "--property=LoadState,ActiveState,SubState", "--", unit])
    return said if isinstance(said, tuple) else read_systemd(said)


def read_systemd(printed: str) -> tuple[bool | None, str]:
    told = dict(line.partition("=")[::2] for line in printed.splitlines())
    if "ActiveState" not in told:
        return None, "systemd does not say"
    if told.get("LoadState") == "not-found":
        return False, NO_SUCH
    return told["ActiveState"] in ("active", "reloading"), f"{told['ActiveState']} ({told.get('SubState', '')})"


def launchd(label: str) -> tuple[bool | None, str]:
    """The same of a label of launchd."""
    said = _ask(["launchctl", "print", f"system/{label}"])
    return said if isinstance(said, tuple) else read_launchd(said)


def read_launchd(printed: str) -> tuple[bool | None, str]:
    for line in printed.splitlines():
        name, equals, value = line.strip().partition(" = ")
        if equals and name == "state":
            return value == "running", value
    return False, NO_SUCH


def windows(service: str) -> tuple[bool | None, str]:
    """The same of a Windows service."""
    said = _ask(["sc.exe", "query", service])
    return said if isinstance(said, tuple) else read_windows(said)


def read_windows(printed: str) -> tuple[bool | None, str]:
    for line in printed.splitlines():
        name, colon, value = line.strip().partition(":")
        if colon and name.strip() == "STATE":
            number, _, words = value.strip().partition(" ")
            return number == "4", words.strip().lower()
    return False, NO_SUCH


def _ask(argv: list[str]) -> str | tuple[None, str]:
    """What a program prints, whatever its exit code; or why it does not."""
    program = shutil.which(argv[0])
    if program is None:
        return None, f"this machine has no {argv[0]}"
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program; the name stands behind what ends its options
            [program, *argv[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_OUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{argv[0]} does not say: {error}"
    return done.stdout.decode(errors="replace")
