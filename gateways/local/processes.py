"""Child processes that do not outlive their parent, and those of a crashed parent found again.

A parent killed with SIGKILL cannot tidy up. On Linux the kernel ends the children in its stead; elsewhere, and in the
moment before, the next start ends what the last one left. A process is told from another that got its number by the
moment it was started.
"""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

SERVICE_USER = "fleetlog"
_PR_SET_PDEATHSIG = 1
_LIBC: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ServerError(Exception):
    """A part of the platform could not be started."""

    code = "server_failed"


class Identity(msgspec.Struct, frozen=True):
    """One process, and no later one of the same number."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "Identity":
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 0.05  # noqa: PLR2004 -- clock ticks are 10 ms
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class RunAs(msgspec.Struct, frozen=True):
    """The account that servers run under when we are root."""

    uid: int
    gid: int


def service_account() -> RunAs | None:
    """The account for server processes: None means ours, since it is not root's.

    Postgres refuses to run as root, and the others need no more rights than it does, so all share an account of
    their own, which is made when it is missing.

    Raises:
        ServerError: it is missing and cannot be made.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            raise ServerError(
                f"The servers need an account that is not root's. Make a user '{SERVICE_USER}', start Fleetlog as an "
                "ordinary user, or configure FLEETLOG_POSTGRES_URL, FLEETLOG_NATS_URL and FLEETLOG_REDIS_URL."
            ) from None
        made = subprocess.run(  # noqa: S603 -- a fixed command line
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVICE_USER],
            check=False,
            capture_output=True,
            text=True,
        )
        try:
            entry = pwd.getpwnam(SERVICE_USER)  # another process may have made it at the same moment
        except KeyError:
            raise ServerError(f"The user '{SERVICE_USER}' could not be made: {made.stderr.strip()}") from None
    return RunAs(uid=entry.pw_uid, gid=entry.pw_gid)


def reachable_by(account: RunAs, path: Path) -> Path | None:
    """The first folder on the way to a path that an account may not pass, or None."""
    for folder in reversed(path.resolve().parents):
        status = folder.stat()
        if status.st_uid == account.uid:
            allowed = status.st_mode & 0o100
        elif status.st_gid == account.gid:
            allowed = status.st_mode & 0o010
        else:
            allowed = status.st_mode & 0o001
        if not allowed:
            return folder
    return None


def spawn(
    command: Sequence[str | Path],
    *,
    log_file: Path | None,
    death_signal: signal.Signals = signal.SIGTERM,
    account: RunAs | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that ends when this process does.

    Call it from a thread that lives as long as the child may: the kernel takes the end of the thread for the end of
    the parent.

    Args:
        command: what to run.
        log_file: appended with what it prints; None leaves it on our own streams.
        death_signal: what the kernel sends it when we are gone.
        account: runs it as somebody else.
        cwd: its working directory.
        env: its environment, instead of ours.
    """
    output = log_file.open("ab") if log_file is not None else None
    try:
        return subprocess.Popen(  # noqa: S603 -- command lines are ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=env,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on, in order
            # After setuid, which clears it; and only a system call, which is safe in a forked child.
            preexec_fn=_dies_with_us(death_signal),  # noqa: PLW1509
            user=account.uid if account is not None else None,
            group=account.gid if account is not None else None,
            extra_groups=[] if account is not None else None,
        )
    finally:
        if output is not None:
            output.close()


def _dies_with_us(death_signal: signal.Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    parent = os.getpid()
    number = int(death_signal)

    def arrange() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died between the fork and the call
            os._exit(1)

    return arrange


def outlast(orphans: Sequence[Identity], patience_s: float) -> None:
    """Wait for processes of an earlier parent to end, and end those that take longer.

    The kernel asked them to when their parent died; where it does not, we do. Not both: a role that is asked twice
    drops what is in flight.

    Args:
        orphans: those that there were.
        patience_s: how long they may finish what is in flight.
    """
    left = [process for process in (orphan.find() for orphan in orphans) if process is not None]
    if _LIBC is None:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
    _, late = psutil.wait_procs(left, timeout=patience_s)
    for process in late:
        end(process, ())


def end(process: psutil.Process, signals: Sequence[tuple[signal.Signals, float]]) -> bool:
    """End a process: each signal in turn, and the seconds that it is given; then SIGKILL.

    Returns:
        False when it took SIGKILL.
    """
    for number, patience_s in signals:
        try:
            process.send_signal(number)
            process.wait(timeout=patience_s)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            continue
        return True
    try:
        process.kill()
        process.wait(timeout=10)
    except psutil.NoSuchProcess:
        pass
    return False
