"""A whole Fleetlog that a test may kill, part by part or all at once, and real agents that work meanwhile."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import psutil

from domain.catalog import EVENTS
from gateways.cli.api import Api
from gateways.cli.profile import Profile
from gateways.local import platform_file
from gateways.local.demo_stage import DemoAgent, Stage
from gateways.local.server import free_port

ANNOUNCED = "Ctrl-C stops it."
READY_S = 120.0
"""`up` itself waits for a minute, from when its servers run, before it says what is missing."""
WAIT_S = 60.0
SERVERS = {"postgres": "FLEETLOG_POSTGRES_URL", "nats": "FLEETLOG_NATS_URL", "valkey": "FLEETLOG_REDIS_URL"}
"""What `up` starts unless it is told where it is, and by which setting."""
ENDINGS = {
    name
    for name in EVENTS
    if name.startswith("Command")
    and name.removeprefix("Command")
    in {"Succeeded", "Failed", "TimedOut", "Interrupted", "Rejected", "Cancelled", "Expired"}
}
"""Of a command: exactly one of them is in its story."""


class Machine(DemoAgent):
    """A real agent with little patience, which may be told to kill itself at a step (see `agent.steps`)."""

    def start(self, *, crash_at: str = "", wait: bool = True) -> None:
        log = self._stage.folder / f"{self.name}.log"
        self.process = self._stage.spawn(
            [str(self.state_dir), crash_at], log, [sys.executable, "-m", "tests.agent.process"]
        )
        if wait:
            self._stage.until(lambda: self.online, f"{self.name} to connect (see {log})")

    def shell(self, line: str, **options: Any) -> str:
        """Queue a shell line; returns the command's id."""
        spec = {"kind": "run_shell", "shell": "sh", "line": line}
        return str(self._stage.api.post("/commands", {"agent_id": self.id, "spec": spec, **options})["id"])

    def results_to_send(self) -> int:
        """What its journal holds that the server has not acknowledged."""
        done = self._stage.fleetlog("agent", "status", "--json", "--state-dir", str(self.state_dir))
        return int(json.loads(done.stdout)["results_to_send"])

    def exited(self) -> int:
        assert self.process is not None
        code = self.process.wait(WAIT_S)
        self.process = None
        return code


class Platform(Stage):
    """`fleetlog up` on one data folder, over all its starts.

    Args:
        servers: settings that name those that it is not to start.
    """

    def __init__(self, servers: Mapping[str, str] | None = None) -> None:
        super().__init__(lambda _line: None)
        self.servers = dict(servers or {})
        self.port = free_port()
        self.admin_key = ""
        self.token = ""
        self.starts = 0

    @property
    def environment(self) -> dict[str, str]:
        return (
            super().environment
            | self.servers
            | {
                "FLEETLOG_LISTEN_PORT": str(self.port),
                "FLEETLOG_LEASE_S": "2",
                "FLEETLOG_STOP_TIMEOUT_S": "4",
            }
        )

    @property
    def up(self) -> subprocess.Popen[bytes]:
        assert self._up is not None, "the platform was not started"
        return self._up

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def starts_itself(self, server: str) -> bool:
        """Whether `up` starts this server."""
        return SERVERS[server] not in self.servers

    def running(self) -> bool:
        return self._up is not None and self._up.poll() is None

    def bring_up(self) -> None:
        """Start it and wait for its announcement; does nothing while it runs."""
        if self.running():
            return
        self.starts += 1
        self._up = self.spawn(["up", "--data-dir", str(self.folder / "data")], self.log)
        self.until(lambda: ANNOUNCED in self.printed() or not self.running(), "the announcement", READY_S)
        assert self.running(), self.printed()
        if not self.admin_key:
            self.admin_key = re.findall(r"flk_\w+(?:-\w+)*", self.printed())[0]
            self.token = re.findall(r"fleetlog agent enroll \S+ (flt_\S+)", self.printed())[0]
            self._api = Api(Profile(self.url, self.admin_key))

    @property
    def log(self) -> Path:
        """What the present start prints."""
        return self._log_of(self.starts)

    def _log_of(self, start: int) -> Path:
        return self.folder / f"up-{start}.log"

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def first_words(self) -> str:
        """What the first start printed: other tests may have made it start again since."""
        return self._log_of(1).read_text(errors="replace")

    def machine(self, name: str) -> Machine:
        """A machine of the fleet, enrolled with the token of the first start, and off."""
        if name not in self.agents:
            self.agents[name] = Machine(self, name)
            self.agents[name].enroll(self.token)
        machine = self.agents[name]
        assert isinstance(machine, Machine)
        return machine

    # -- more of it ------------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> platform_file.Platform:
        """Where its servers are, as it says itself."""
        found = platform_file.read(self.folder / "data")
        assert found is not None, "the platform does not run"
        return found

    def serve(self, *roles: str, options: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """One more process of these roles beside `up`, told where the servers are and nothing else."""
        at = self.addresses
        log = self.folder / f"serve-{'+'.join(roles)}.log"
        settings = {
            "FLEETLOG_POSTGRES_URL": at.postgres_url,
            "FLEETLOG_NATS_URL": at.nats_url,
            "FLEETLOG_REDIS_URL": at.redis_url,
        }
        return self.spawn(["serve", *roles, *options], log, settings=settings)

    # -- its processes ---------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all that it started, and what that started in turn."""
        supervisor = psutil.Process(self.up.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def role(self, name: str) -> psutil.Process:
        """The process of a role."""
        found = [p for p in psutil.Process(self.up.pid).children() if p.cmdline()[-2:] == ["serve", name]]
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def roles(self) -> dict[str, int]:
        return {name: self.role(name).pid for name in ("projector", "gateway", "worker", "scheduler", "api")}

    def server(self, name: str) -> psutil.Process:
        """The process of an embedded server."""
        state = json.loads((self.folder / "data" / f"{name}.json").read_text())
        return psutil.Process(state["process"]["pid"])

    def nats_port(self) -> int:
        state = json.loads((self.folder / "data" / "nats.json").read_text())
        return int(state["ports"]["main"])

    @contextlib.contextmanager
    def looking_away(self) -> Iterator[None]:
        """As long as the context is open the supervisor stands still, so that what is killed stays away."""
        self.up.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.up.send_signal(signal.SIGCONT)

    def kill_everything(self) -> None:
        """`kill -9` of all processes of the platform; the supervisor first, so that it mends nothing."""
        doomed = self.processes()
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.up.wait(WAIT_S)
        self.gone(doomed)

    def gone(self, processes: list[psutil.Process]) -> None:
        """Wait until these have ended."""
        self.until(lambda: not any(map(_runs, processes)), f"{processes} to end")

    # -- what it says ----------------------------------------------------------------------------------------------

    def checks(self) -> tuple[int, dict[str, Any]]:
        """The status of `/readyz`, and its checks."""
        answer = httpx2.get(f"{self.url}/readyz", trust_env=False, timeout=10)
        return answer.status_code, answer.json()["checks"]

    def away(self) -> set[str]:
        """The parts that `/readyz` says are away."""
        return {name for name, check in self.checks()[1].items() if not check["ok"]}

    def healthy(self) -> bool:
        return self.fleetlog("status").returncode == 0

    def until_healthy(self) -> None:
        self.until(self.healthy, "`fleetlog status` to find nothing down", WAIT_S)

    def ended(self, command_id: str) -> dict[str, Any]:
        """A command once it has ended."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            command: dict[str, Any] = self.api.get(f"/commands/{command_id}", wait_s=10)
            if command["ended_at"] is not None:
                return command
        raise AssertionError(f"{command_id} did not end within {WAIT_S} s: {command}")

    def story(self, command_id: str) -> list[str]:
        """The types of a command's events, by the log itself."""
        return [event["type"] for event in self.api.items("/events", stream_id=command_id)]

    def ended_once(self, command_id: str, state: str = "succeeded") -> None:
        """Wait for a command's end, and hold its story against the one ending that it may have."""
        command = self.ended(command_id)
        assert command["state"] == state, command
        story = self.story(command_id)
        assert len(ENDINGS.intersection(story)) == 1, story
        assert sum(kind in ENDINGS for kind in story) == 1, story


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
