"""What the agent asks of an operating system."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from schema.software import SoftwareList

NOT_AN_AGENT = 78
"""The exit code of ``run`` as a service where the machine is no agent: EX_CONFIG of sysexits(3). Whoever starts it
again and again need not do so for this."""
SERVICE_VARIABLE = "FLEETLOG_AGENT_SERVICE"
"""Set in the environment by whoever starts it again and again."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A user to run as."""

    name: str
    uid: int
    gid: int
    groups: list[int]
    home: str
    shell: str


class Spawn(msgspec.Struct, frozen=True, kw_only=True):
    """How to start one process: the arguments of `subprocess.Popen` that the platform decides."""

    options: dict[str, Any]


class Platform(Protocol):
    """One operating system."""

    name: str
    """``linux | macos | windows``, as the server knows it."""

    def elapsed_s(self) -> float:
        """Seconds on a counter that nobody can set; it includes sleep where the system has such a counter."""

    def boot_id(self) -> str:
        """Another one after each boot."""

    def state_dir(self) -> Path:
        """Where the agent keeps its state unless told otherwise."""

    def scripts_dir(self, state_dir: Path) -> Path:
        """Where bodies of scripts lie while they run: in memory (tmpfs) where the system has such a place."""

    def leave_no_core(self) -> None:
        """Have a crash of this process, and of what it starts, leave no image of memory; a script may ask for one."""

    def make_private_dir(self, path: Path, *, passable: bool = False) -> None:
        """Create a directory for its owner alone; if ``passable``, others may reach a file in it by its name."""

    def write_private(self, path: Path, data: bytes) -> None:
        """Replace a file by one that only its owner reads: whole and on disk, or not at all."""

    def create_script(self, path: Path, body: bytes, owner: Account | None) -> None:
        """Write a new file that only ``owner`` can read; fails if the name is taken."""

    def lock(self, path: Path) -> int | None:
        """Hold a lock until this process ends; None if another process holds it."""

    def account(self, run_as: str | None) -> Account | None:
        """The user to run as; None for the agent's own.

        Raises:
            WorkRefusedError: no such user (``unknown_user``), or this agent may not become it (``not_permitted``).
        """

    def argv(self, shell: str) -> list[str]:
        """The command line that comes before a script's file.

        Raises:
            WorkRefusedError: not on this platform (``wrong_platform``), or not installed (``shell_missing``).
        """

    def inline_argv(self, shell: str, line: str) -> list[str]:
        """The command line that runs one line; raises as `argv` does."""

    def environment(self, account: Account | None) -> dict[str, str]:
        """What a script finds in its environment besides its own variables."""

    def spawn(self, account: Account | None, env: Mapping[str, str]) -> Spawn:
        """How to start a process as ``account``, as the leader of a group of its own."""

    def system_name(self) -> str:
        """The operating system and its release, as people say it."""

    def release(self) -> tuple[str, str]:
        """Which system it is, in one lower-case word, and its version, for filters; empty if it does not say."""

    def machine_type(self) -> str:
        """``server | workstation``."""

    def timezone(self) -> str | None:
        """The machine's time zone by its IANA name; None if it has none."""

    def cpu_model(self) -> str:
        """The processor's name; empty if the system does not say."""

    def software(self) -> SoftwareList:
        """What is installed, and what of it could be updated; takes some seconds, and blocks."""

    def service_runs(self, service: str) -> tuple[bool | None, str]:
        """Whether a service runs, and what the system says of it; None: nobody can say, and why. Blocks."""

    def reboot_needed(self) -> bool | None:
        """Whether the machine waits to be restarted; None where it cannot say."""

    def exit_detail(self, returncode: int) -> str:
        """What an exit code says beyond its number; empty if nothing."""

    def readable(self, fd: int, timeout_s: float) -> bool:
        """Whether reading the pipe would not block; waits for it up to ``timeout_s``."""

    def session_of(self, pid: int) -> int | None:
        """The session that a process belongs to; None if gone or if there is no such thing here."""

    def install_service(self, argv: list[str], *, write: bool) -> str:
        """The text of a service definition; installs it if ``write``.

        Raises:
            AgentError: it cannot be installed here.
        """
