"""The stage of the demonstration: a whole Fleetlog in a temporary folder, and real agent processes on it.

All is done the way a user would: `fleetlog up`, `fleetlog agent ...`, the REST API with a key. The stage knows each
process that it started, marks them by an environment variable for what they start in turn, and leaves none behind.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import uuid4

import psutil

from gateways.cli.api import Api
from gateways.cli.errors import CommandLineError
from gateways.cli.profile import Profile
from gateways.local.server import free_port
from gateways.local.servers import temporary_folder
from schema.patches import HANDS_OFF

READY_S = 40.0
STOP_S = 15.0
POLL_S = 0.05
MARK = "FLEETLOG_DEMO"
PROGRAM = [sys.executable, "-m", "gateways.cli"]
SOURCES = str(Path(__file__).resolve().parents[2])


class StageError(Exception):
    """The demonstration cannot go on."""


class DemoAgent:
    """One real agent: its own state folder, its own process.

    Args:
        stage: where it plays.
        name: what it is called in the fleet.
    """

    def __init__(self, stage: "Stage", name: str) -> None:
        self._stage = stage
        self.name = name
        self.id = ""
        self.state_dir = stage.folder / "agents" / name
        self.process: subprocess.Popen[bytes] | None = None

    def enroll(self, token: str) -> None:
        """Make its key, and let it in with the token."""
        state = str(self.state_dir)
        self._stage.fleetlog(
            "agent", "enroll", self._stage.api.url, token, "--state-dir", state, "--name", self.name, check=True
        )
        self._stage.until(self._is_on_record, f"{self.name} to be on record")

    def _is_on_record(self) -> bool:
        found = [agent["id"] for agent in self._stage.api.items("/agents", q=self.name)]
        self.id = found[0] if found else ""
        return bool(found)

    def start(self) -> None:
        """Run it in the background, and wait until the fleet sees it."""
        log = self._stage.folder / f"{self.name}.log"
        self.process = self._stage.spawn(["agent", "run", "--state-dir", str(self.state_dir)], log)
        self._stage.until(lambda: self.online, f"{self.name} to connect (see {log})")

    @property
    def online(self) -> bool:
        return bool(self._stage.api.get(f"/agents/{self.id}")["online"])

    def kill(self) -> int:
        """``kill -9``: no warning, no goodbye. Returns the process id that is no more."""
        process = self.process
        if process is None:
            raise StageError(f"{self.name} does not run, so it cannot be killed.")
        process.kill()
        process.wait(STOP_S)
        self.process = None
        return process.pid


class Stage:
    """Everything that the scenes play on; a context manager that cleans up whatever happens.

    Args:
        say: takes one line for the audience.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.folder = temporary_folder("fleetlog-demo-")
        # Of a root's folder the servers' own account must be able to pass through; it still cannot look around.
        self.folder.chmod(0o711)  # where root plays, the servers' own account must reach the data in it
        self.effects = self.folder / "effects"
        self.agents: dict[str, DemoAgent] = {}
        self._mark = uuid4().hex
        self._started: list[subprocess.Popen[bytes]] = []
        self._up: subprocess.Popen[bytes] | None = None
        self._api: Api | None = None

    def __enter__(self) -> Self:
        self.effects.mkdir()
        (self.folder / "fleetlog.toml").touch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def api(self) -> Api:
        if self._api is None:
            raise StageError("The platform is not up.")
        return self._api

    @property
    def environment(self) -> dict[str, str]:
        """Of every process here: nothing of the user's own Fleetlog leaks in, and each carries our mark."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEETLOG_")}
        paths = [SOURCES, *filter(None, [kept.get("PYTHONPATH")])]
        return kept | {
            "FLEETLOG_DATA_DIR": str(self.folder / "data"),
            "FLEETLOG_CONFIG": str(self.folder / "fleetlog.toml"),
            "FLEETLOG_PROFILE": str(self.folder / "profile.json"),
            "PYTHONPATH": os.pathsep.join(paths),
            MARK: self._mark,
            HANDS_OFF: "1",  # the machine is the user's own: it is no part of what is shown
        }

    # -- the platform ----------------------------------------------------------------------------------------------

    def bring_up(self) -> None:
        """Start the embedded stack and wait until it is ready."""
        log = self.folder / "up.log"
        data = self.folder / "data"
        listen = f"127.0.0.1:{free_port()}"
        self._up = self.spawn(["up", "--data-dir", str(data), "--listen", listen], log)
        self.until(lambda: self._ready(data / "cli.json"), f"the platform to be ready (see {log})", READY_S)

    def _ready(self, profile: Path) -> bool:
        if self._up is not None and self._up.poll() is not None:
            tail = (self.folder / "up.log").read_text(errors="replace").strip().splitlines()[-5:]
            raise StageError("`fleetlog up` ended by itself: " + " / ".join(tail))
        if not profile.exists():
            return False
        if self._api is None:
            content = json.loads(profile.read_text())
            self._api = Api(Profile(content["url"], content["key"]))
        with contextlib.suppress(CommandLineError):  # not listening yet; asked again in a moment
            return bool(self._api.get("/agents", limit=1)) and self._status_is_good()
        return False

    def _status_is_good(self) -> bool:
        return self.fleetlog("status", "--json").returncode == 0

    def status(self) -> dict[str, Any]:
        """What ``fleetlog status --json`` says."""
        answer: dict[str, Any] = json.loads(self.fleetlog("status", "--json").stdout)
        return answer

    def role_pid(self, role: str) -> int | None:
        """The process id of a role, or None while it does not run."""
        for process in self.status()["processes"]:
            if process["role"] == role and process.get("pid") and psutil.pid_exists(process["pid"]):
                return int(process["pid"])
        return None

    # -- processes ---------------------------------------------------------------------------------------------------

    def fleetlog(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Run the command line to its end."""
        done = subprocess.run(  # noqa: S603 - our own program
            [*PROGRAM, *arguments], env=self.environment, capture_output=True, timeout=READY_S, check=False
        )
        if check and done.returncode != 0:
            words = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise StageError(f"`fleetlog {' '.join(arguments[:2])}` failed: {words[-500:]}")
        return done

    def lines(self, *arguments: str) -> Iterator[str]:
        """Run the command line and pass each line on the moment it is printed; its exit code comes last, as a line."""
        with subprocess.Popen(  # noqa: S603 - our own program
            [*PROGRAM, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            self._started.append(process)
            for line in process.stdout or ():
                yield line.decode(errors="replace").rstrip("\n")
        yield f"exit {process.returncode}"

    def spawn(
        self,
        arguments: list[str],
        log: Path,
        program: Sequence[str] = PROGRAM,
        *,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[bytes]:
        """Start a program in the background, apart from the terminal's Ctrl-C: we end it ourselves, in order."""
        with log.open("ab") as stream:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [*program, *arguments],
                env=self.environment | dict(settings),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
        """Wait for something to become true.

        Raises:
            StageError: it did not in time.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise StageError(f"Waited {timeout_s:.0f} s in vain for {what}.")
            time.sleep(POLL_S)

    # -- effects -----------------------------------------------------------------------------------------------------

    def effect(self, name: str) -> list[str]:
        """The lines that scripts appended to a file: what really happened on the machine, and how often."""
        file = self.effects / name
        return file.read_text().splitlines() if file.exists() else []

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process and remove the folder; a second Ctrl-C must not leave half of it behind."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if self._api is not None:
                self._api.__exit__(None, None, None)
            running = [process for process in self._started if process is not self._up]
            for group in (running, [self._up] if self._up is not None else []):
                _end([psutil.Process(process.pid) for process in group if process.poll() is None])
            for process in self._started:
                process.poll()
            _end(self._marked())
            shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            signal.signal(signal.SIGINT, before)

    def _marked(self) -> list[psutil.Process]:
        """What our processes started and nobody ended: told by the mark in the environment, never by a name."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):  # gone, or somebody else's
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found


def _end(processes: list[psutil.Process]) -> None:
    """Ask, wait, and then insist."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=STOP_S)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=STOP_S)
