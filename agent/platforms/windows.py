"""Windows."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from agent.errors import AgentError, WorkRefusedError
from agent.platforms import packages, restarting, services
from agent.platforms.shape import Account, Spawn
from schema.software import SoftwareList

assert sys.platform == "win32"  # noqa: S101 - tells the type checker that the rest is for Windows alone
import msvcrt  # noqa: E402 - exists on Windows alone

_INHERITED = (
    "PATH", "PATHEXT", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "TEMP", "TMP", "PROGRAMDATA", "PROGRAMFILES",
    "PROGRAMFILES(X86)", "COMMONPROGRAMFILES", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "USERNAME", "COMPUTERNAME",
    "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "PSMODULEPATH",
)  # fmt: skip


class Windows:
    """Windows."""

    name = "windows"

    def elapsed_s(self) -> float:
        return time.monotonic()

    def boot_id(self) -> str:
        return str(int(psutil.boot_time()))

    def state_dir(self) -> Path:
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "FleetlogAgent"

    def scripts_dir(self, state_dir: Path) -> Path:
        return state_dir / "scripts"

    def leave_no_core(self) -> None:
        """It keeps none unless an administrator asks for them (Windows Error Reporting, LocalDumps)."""

    def make_private_dir(self, path: Path, *, passable: bool = False) -> None:
        """Windows has no search-only bit, and the agent runs nothing as somebody else: always for its owner alone."""
        _ = passable
        path.mkdir(parents=True, exist_ok=True)
        owner = f"{os.environ['USERDOMAIN']}\\{os.environ['USERNAME']}"
        subprocess.run(  # noqa: S603 - our own arguments
            ["icacls", str(path), "/inheritance:r", "/grant:r", f"{owner}:(OI)(CI)F", "*S-1-5-18:(OI)(CI)F"],  # noqa: S607 - on PATH in every Windows
            check=True,
            capture_output=True,
            timeout=30,
        )

    def write_private(self, path: Path, data: bytes) -> None:
        draft = path.with_name(f".{path.name}.new")
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def create_script(self, path: Path, body: bytes, owner: Account | None) -> None:
        """The directory's access list keeps it private; it is inherited."""
        _ = owner
        with path.open("xb") as file:
            file.write(body)

    def lock(self, path: Path) -> int | None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            os.close(fd)
            return None
        return fd

    def account(self, run_as: str | None) -> Account | None:
        if run_as is None or run_as.casefold() == os.environ.get("USERNAME", "").casefold():
            return None
        raise WorkRefusedError("not_permitted", "On Windows the agent runs scripts as its own user only.")

    def argv(self, shell: str) -> list[str]:
        match shell:
            case "powershell":
                return [
                    self._found("powershell"), "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File",
                ]  # fmt: skip
            case "cmd":
                return [self._found("cmd"), "/d", "/c"]
            case "python":
                return [shutil.which("python") or sys.executable]
            case _:
                raise WorkRefusedError("wrong_platform", f"{shell} scripts do not run on Windows.")

    def inline_argv(self, shell: str, line: str) -> list[str]:
        match shell:
            case "powershell":
                return [self._found("powershell"), "-NoProfile", "-NonInteractive", "-Command", line]
            case "python":
                return [shutil.which("python") or sys.executable, "-c", line]
            case _:
                return [*self.argv(shell), line]

    def _found(self, program: str) -> str:
        found = shutil.which(program)
        if found is None:
            raise WorkRefusedError("shell_missing", f"{program} is not installed on this machine.")
        return found

    def environment(self, account: Account | None) -> dict[str, str]:
        _ = account
        return {name: os.environ[name] for name in _INHERITED if name in os.environ}

    def spawn(self, account: Account | None, env: Mapping[str, str]) -> Spawn:
        _ = account, env
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return Spawn(options={"creationflags": flags})

    def system_name(self) -> str:
        return f"Windows {platform.release()} ({platform.version()})"

    def release(self) -> tuple[str, str]:
        return "windows", platform.version()

    def machine_type(self) -> str:
        """By the product type: 1 is a workstation, 2 a domain controller, 3 a server."""
        return "workstation" if sys.getwindowsversion().product_type == 1 else "server"

    def timezone(self) -> str | None:
        """Windows has names of its own for time zones; the offset from UTC is told beside."""
        return None

    def cpu_model(self) -> str:
        return platform.processor()

    def exit_detail(self, returncode: int) -> str:
        _ = returncode
        return ""

    def readable(self, fd: int, timeout_s: float) -> bool:
        """Anonymous pipes cannot be waited for here, only looked at."""
        deadline = time.monotonic() + timeout_s
        handle = msvcrt.get_osfhandle(fd)
        available = ctypes.c_ulong(0)
        while True:
            open_still = ctypes.windll.kernel32.PeekNamedPipe(handle, None, 0, None, ctypes.byref(available), None)
            if not open_still or available.value or time.monotonic() >= deadline:
                return not open_still or bool(available.value)
            time.sleep(0.02)

    def session_of(self, pid: int) -> int | None:
        _ = pid
        return None

    def software(self) -> SoftwareList:
        return packages.windows(self._found("powershell"))

    def service_runs(self, service: str) -> tuple[bool | None, str]:
        return services.windows(service)

    def reboot_needed(self) -> bool | None:
        return restarting.windows_needs()

    def install_service(self, argv: list[str], *, write: bool) -> str:
        """A task that starts with the machine, as SYSTEM: a Python program is no native Windows service."""
        command = subprocess.list2cmdline(argv)
        create = [
            "schtasks",
            "/create",
            "/tn",
            "FleetlogAgent",
            "/sc",
            "onstart",
            "/ru",
            "SYSTEM",
            "/f",
            "/tr",
            command,
        ]
        if write:
            done = subprocess.run(create, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - our own arguments
            if done.returncode != 0:
                raise AgentError(f"schtasks failed: {done.stderr.strip()}")
        return subprocess.list2cmdline(create)
