"""One measurement of each kind that needs no script: what it says of the machine just now. Blocking; for threads."""

import ipaddress
import shutil
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable

import msgspec
import psutil

from agent.facts import mounted
from agent.platforms import PLATFORM
from schema.checks import DiskMeasure, LoadMeasure, ReachMeasure, ServiceMeasure

PASSING, UNKNOWN = "passing", "unknown"
_PINGS = 3
_WHOLE = 100.0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a measurement says by itself."""

    state: str
    value: float | None = None
    unit: str = ""
    detail: str = ""


def disk(what: DiskMeasure) -> Found:
    """Free space in percent."""
    if what.path:
        try:
            used, where = psutil.disk_usage(what.path).percent, what.path
        except OSError as error:
            return Found(state=UNKNOWN, detail=f"{what.path}: {error.strerror or error}")
    else:
        usages = [(usage.percent, part.mountpoint) for part, usage in mounted()]
        if not usages:
            return Found(state=UNKNOWN, detail="no disk is mounted")
        used, where = max(usages)
    free = round(_WHOLE - used, 1)
    state = _below(free, what.warning, what.error)
    return Found(state=state, value=free, unit="% free", detail=where)


class Load:
    """Measurements of the processor or the memory, the last of them together."""

    def __init__(self, what: LoadMeasure) -> None:
        self._what = what
        self._last: deque[float] = deque(maxlen=what.samples)
        self._times = psutil.cpu_times() if what.of == "cpu" else None

    def __call__(self) -> Found:
        self._last.append(psutil.virtual_memory().percent if self._times is None else self._busy())
        mean = round(sum(self._last) / len(self._last), 1)
        return Found(state=_above(mean, self._what.warning, self._what.error), value=mean, unit="% used")

    def _busy(self) -> float:
        """Since the measurement before: of its own times, for others ask the system about theirs."""
        before, self._times = self._times, psutil.cpu_times()
        passed = [now - then for now, then in zip(self._times, before or self._times, strict=True)]
        names = dict(zip(self._times._fields, passed, strict=True))
        # What a guest took is in user time already.
        total = sum(passed) - names.get("guest", 0.0) - names.get("guest_nice", 0.0)
        idle = names["idle"] + names.get("iowait", 0.0)
        return _WHOLE * max(0.0, total - idle) / total if total > 0 else 0.0


def service(what: ServiceMeasure) -> Found:
    """Whether it runs."""
    runs, says = PLATFORM.service_runs(what.service)
    if runs is None:
        return Found(state=UNKNOWN, detail=says)
    return Found(state=PASSING if runs else what.otherwise, detail=says)


def reach(what: ReachMeasure) -> Found:
    """Whether a port takes a connection, or a host answers."""
    return _ping(what) if what.port is None else _connect(what, what.port)


def _connect(what: ReachMeasure, port: int) -> Found:
    began = PLATFORM.elapsed_s()
    try:
        socket.create_connection((what.host, port), timeout=what.timeout_s).close()
    except OSError as error:
        return Found(state=what.otherwise, detail=f"{what.host}:{port}: {error.strerror or error or 'timed out'}")
    took_ms = round(1000 * (PLATFORM.elapsed_s() - began), 1)
    return Found(state=PASSING, value=took_ms, unit="ms", detail=f"{what.host}:{port}")


def _ping(what: ReachMeasure) -> Found:
    program = shutil.which("ping")
    if program is None:
        return Found(state=UNKNOWN, detail="this machine has no ping program")
    count = "-n" if sys.platform == "win32" else "-c"
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program; the host begins with no dash (`domain.checks`)
            [*_ping_for(what.host, program), count, str(_PINGS), what.host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=what.timeout_s + _PINGS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Found(state=what.otherwise, detail=f"{what.host}: no answer in time")
    except OSError as error:
        return Found(state=UNKNOWN, detail=f"ping: {error.strerror or error}")
    if done.returncode == 0:
        return Found(state=PASSING, detail=what.host)
    said = (done.stderr or done.stdout).decode(errors="replace").strip().rpartition("\n")[2]
    return Found(state=what.otherwise, detail=f"{what.host}: {said or 'no answer'}")


def _ping_for(host: str, program: str) -> list[str]:
    try:
        six = ipaddress.ip_address(host).version == 6  # noqa: PLR2004 - IPv6
    except ValueError:
        six = False
    if not six:
        return [program]
    # macOS has a program of its own for it.
    return [shutil.which("ping6") or program] if sys.platform == "darwin" else [program, "-6"]


def _below(value: float, warning: float | None, error: float | None) -> str:
    if error is not None and value < error:
        return "failing"
    return "warning" if warning is not None and value < warning else PASSING


def _above(value: float, warning: float | None, error: float | None) -> str:
    if error is not None and value > error:
        return "failing"
    return "warning" if warning is not None and value > warning else PASSING


Measured = Callable[[], Found]
