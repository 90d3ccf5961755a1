"""What Linux and macOS share."""

import contextlib
import fcntl
import grp
import hashlib
import os
import pwd
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.errors import WorkRefusedError
from agent.platforms.shape import Account, Spawn

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOCALTIME = Path("/etc/localtime")
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")


class Posix:
    """A POSIX system."""

    name = "posix"
    _shells: Mapping[str, tuple[tuple[str, ...], str]] = {
        # name: (programs to look for, the option that takes a line)
        "sh": (("sh",), "-c"),
        "bash": (("bash",), "-c"),
        "python": (("python3", "python"), "-c"),
        "powershell": (("pwsh",), "-Command"),
    }

    def elapsed_s(self) -> float:
        return time.monotonic()

    def state_dir(self) -> Path:
        if os.geteuid() == 0:
            return Path("/var/lib/fleetlog-agent")
        home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return Path(home) / "fleetlog-agent"

    def scripts_dir(self, state_dir: Path) -> Path:
        return state_dir / "scripts"

    def _named_after(self, state_dir: Path) -> str:
        """A name for this state directory's own place elsewhere: two agents must not sweep each other's scripts."""
        return "fleetlog-agent-" + hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:12]

    def timezone(self) -> str | None:
        """What ``TZ`` says, or what /etc/localtime links to; without either, time is UTC."""
        name = os.environ.get("TZ", "").removeprefix(":")
        if not name:
            name = os.path.realpath(_LOCALTIME).partition("zoneinfo/")[2] if _LOCALTIME.exists() else "UTC"
        try:
            return ZoneInfo(name).key
        except (ValueError, OSError, ZoneInfoNotFoundError):
            return None

    def leave_no_core(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    def make_private_dir(self, path: Path, *, passable: bool = False) -> None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711 if passable else 0o700)
        if path.stat().st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to somebody else.")

    def write_private(self, path: Path, data: bytes) -> None:
        draft = path.with_name(f".{path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def create_script(self, path: Path, body: bytes, owner: Account | None) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), owner.uid, owner.gid)
            file.write(body)

    def lock(self, path: Path) -> int | None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def account(self, run_as: str | None) -> Account | None:
        if run_as is None:
            return None
        try:
            entry = pwd.getpwnam(run_as)
        except KeyError:
            raise WorkRefusedError("unknown_user", f"There is no user {run_as!r} on this machine.") from None
        if entry.pw_uid == os.geteuid():
            return None
        if os.geteuid() != 0:
            raise WorkRefusedError(
                "not_permitted",
                f"The agent runs as {pwd.getpwuid(os.geteuid()).pw_name!r}, which may not become {run_as!r}.",
            )
        groups = sorted({entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if run_as in group.gr_mem)})
        return Account(
            name=run_as,
            uid=entry.pw_uid,
            gid=entry.pw_gid,
            groups=groups,
            home=entry.pw_dir,
            shell=entry.pw_shell,
        )

    def argv(self, shell: str) -> list[str]:
        return [self._program(shell)[0], *(("-NoProfile", "-NonInteractive", "-File") if shell == "powershell" else ())]

    def inline_argv(self, shell: str, line: str) -> list[str]:
        program, option = self._program(shell)
        return [program, *(("-NoProfile", "-NonInteractive") if shell == "powershell" else ()), option, line]

    def _program(self, shell: str) -> tuple[str, str]:
        if shell not in self._shells:
            raise WorkRefusedError("wrong_platform", f"{shell} scripts do not run on {self.name}.")
        candidates, option = self._shells[shell]
        path = self._search_path()
        for candidate in candidates:
            if found := shutil.which(candidate, path=path):
                return found, option
        if shell == "python":
            return sys.executable, option
        raise WorkRefusedError("shell_missing", f"{' or '.join(candidates)} is not installed on this machine.")

    def _search_path(self) -> str:
        return os.environ.get("PATH") or _SYSTEM_PATH

    def environment(self, account: Account | None) -> dict[str, str]:
        """As cron and systemd do it: a small clean one, rather than whatever the agent was started with."""
        env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        env.setdefault("PATH", _SYSTEM_PATH)
        env.setdefault("LANG", "C.UTF-8")
        if account is not None:
            name, home, shell = account.name, account.home, account.shell
        else:
            try:
                own = pwd.getpwuid(os.geteuid())
                name, home, shell = own.pw_name, own.pw_dir, own.pw_shell
            except KeyError:  # a user id without an entry, as containers have it
                name, home, shell = str(os.geteuid()), os.environ.get("HOME", "/"), "/bin/sh"
        return env | {"USER": name, "LOGNAME": name, "HOME": home, "SHELL": shell or "/bin/sh"}

    def spawn(self, account: Account | None, env: Mapping[str, str]) -> Spawn:
        home = env.get("HOME", "/")
        options: dict[str, object] = {
            "start_new_session": True,
            "umask": 0o022,
            "cwd": home if os.path.isdir(home) and os.access(home, os.X_OK) else "/",  # noqa: PTH112 - env text, not ours
        }
        if account is not None:
            options |= {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
        return Spawn(options=options)

    def exit_detail(self, returncode: int) -> str:
        if returncode >= 0:
            return ""
        try:
            return f"ended by signal {signal.Signals(-returncode).name}"
        except ValueError:
            return f"ended by signal {-returncode}"

    def readable(self, fd: int, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def session_of(self, pid: int) -> int | None:
        try:
            return os.getsid(pid)
        except (ProcessLookupError, PermissionError):
            return None
