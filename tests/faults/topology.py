"""Every part of a Fleetlog as a process of its own, with a proxy on each way between two of them.

The harness is the supervisor: what a fault kills stays away until the fault is over.
"""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import msgspec
import psutil
import psycopg

from agent.enroll import enroll
from agent.identity import Identity
from command_bus.master_keys import FileKeys
from command_bus.migrate import migrate
from gateways.agents.keys import load_keys
from gateways.agents.nats_config import render_nats_config
from gateways.backup.restore import check, restore
from gateways.local import first_steps
from gateways.local.nats import EmbeddedNats
from gateways.local.postgres import EmbeddedPostgres
from gateways.local.processes import spawn
from gateways.local.server import EmbeddedServer, free_port, sole_use
from gateways.local.servers import temporary_folder
from gateways.local.valkey import EmbeddedValkey
from gateways.master_keys import FILE as SECRETS_FILE
from projections.tables import create_tables
from schema.patches import HANDS_OFF
from tests.faults.clocks import Clocks
from tests.faults.disks import Disk
from tests.faults.proxies import Loop, Proxy, tcp, unix

ROOT = Path(__file__).resolve().parents[2]
ROLES = {
    "projector": ("postgres",),
    "gateway-1": ("postgres", "nats"),
    "gateway-2": ("postgres", "nats"),
    "worker": ("postgres", "valkey"),
    "scheduler": ("postgres", "valkey"),
    "api": ("postgres", "nats", "valkey"),
}
"""And what each talks to. Two gateways, so that one may take over from the other."""
LEASE_S = 2.0
AGENT_DISK_BYTES = 8 * 2**20
POSTGRES_DISK_BYTES = 4 * 2**30
READY_S = 60.0
ENVIRONMENT = {
    "FLEETLOG_LEASE_S": str(int(LEASE_S)),
    "FLEETLOG_STOP_TIMEOUT_S": "4",
    "FLEETLOG_LOG_FORMAT": "json",
    "PYTHONUNBUFFERED": "1",
}


class FaultError(AssertionError):
    """The topology is not as it must be."""


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Wait for something to become true.

    Raises:
        FaultError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise FaultError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(0.02)


class Part:
    """A process that may be killed, stopped, and brought back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it; a process that is gone needs none."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def mend(self) -> None:
        """Have it run, whatever was done to it."""
        self.signal(signal.SIGCONT)


class RolePart(Part):
    """One role."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name)
        self._environment = environment
        self.log = folder / f"{name}.log"
        self.armed = folder / f"{name}.step"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.faults.role", self.name.partition("-")[0], str(self.armed)]
        self.process = spawn(command, log_file=self.log, death_signal=signal.SIGKILL, cwd=ROOT, env=self._environment)

    def mend(self) -> None:
        self.armed.unlink(missing_ok=True)
        super().mend()
        if not self.alive:
            self.start()


class ServerPart(Part):
    """One embedded server."""

    def __init__(self, server: EmbeddedServer) -> None:
        super().__init__(server.name)
        self.server = server

    @property
    def alive(self) -> bool:
        return self.server.running()

    def _processes(self) -> list[psutil.Process]:
        process = self.server._process
        if process is None or process.poll() is not None:
            return []
        one = psutil.Process(process.pid)
        return [one, *one.children(recursive=True)]

    def signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        for process in self._processes()[:1]:
            process.kill()
        process = self.server._process
        if process is not None:
            process.wait(30)

    def mend(self) -> None:
        super().mend()
        if not self.alive:
            self.server.restart()


class TimedPostgres(EmbeddedPostgres):
    """Postgres with a clock that can be set.

    Args:
        data_dir: see `EmbeddedServer`.
        environment: what sets it.
    """

    def __init__(self, data_dir: Path, environment: Mapping[str, str]) -> None:
        super().__init__(data_dir)
        self._added = environment

    def _command(self) -> list[str | Path]:
        return ["env", *(f"{name}={value}" for name, value in self._added.items()), *super()._command()]


class AgentPart(Part):
    """One agent, with a proxy of its own before NATS, a disk and a clock of its own."""

    def __init__(self, name: str, folder: Path, proxy: Proxy, clock: Mapping[str, str]) -> None:
        super().__init__(name)
        self.state_dir = folder / name
        self.disk = Disk(self.state_dir, AGENT_DISK_BYTES)
        self.log = folder / f"{name}.log"
        self._environment = dict(os.environ) | dict(clock)
        self.proxy = proxy
        self.id = UUID(int=0)
        self.crash_at = ""
        self.transport = "nats"

    def enroll(self, url: str, token: str) -> None:
        identity = enroll(url, token, self.state_dir, name=self.name)
        self.id = identity.agent_id
        mine = msgspec.structs.replace(identity, nats_urls=[f"nats://127.0.0.1:{self.proxy.port}"])
        assert isinstance(mine, Identity)
        mine.save(self.state_dir)

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.agent.process", str(self.state_dir), self.crash_at, self.transport]
        self.process = spawn(command, log_file=self.log, death_signal=signal.SIGKILL, cwd=ROOT, env=self._environment)

    def mend(self) -> None:
        super().mend()
        if not self.alive:
            self.crash_at = ""
            self.start()

    def journal(self) -> dict[str, list[tuple[UUID, int]]]:
        """What its journal holds, by table; read beside it, as a stranger would."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state_dir / 'journal.db'}?mode=ro", uri=True)) as file:
            return {
                table: [
                    (UUID(bytes=command_id), attempt)
                    for command_id, attempt in file.execute(f"SELECT command_id, attempt FROM {table}")  # noqa: S608
                ]
                for table in ("entries", "finished")
            }


class Topology:
    """All of it. A context manager: it starts with nothing and leaves nothing behind."""

    def __init__(self) -> None:
        self.folder = temporary_folder("fleetlog-faults-")
        self.folder.chmod(0o711)
        self.effects = self.folder / "effects"
        self._stack = contextlib.ExitStack()
        self.loop = Loop()
        self.clocks = Clocks(self.folder)
        self.parts: dict[str, Part] = {}
        self.links: dict[str, Proxy] = {}
        self.agents: list[AgentPart] = []
        self.runs = 0
        self._restored = 0
        self.admin_key = ""
        self.site_id = ""

    def __enter__(self) -> Self:
        self.effects.mkdir()
        data = self.folder / "data"
        self._stack.enter_context(sole_use(data))
        self._start_servers(data)
        self._start_roles(data)
        return self

    def __exit__(self, *_: object) -> None:
        self.end_agents()
        for part in self.parts.values():
            if isinstance(part, RolePart):
                part.signal(signal.SIGCONT)
                part.kill()
        for part in self.parts.values():
            if isinstance(part, ServerPart):
                part.signal(signal.SIGCONT)
                part.server.stop()
        self.disk.close()
        for proxy in self.links.values():
            proxy.close()
        self.loop.stop()
        self._stack.close()
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- starting --------------------------------------------------------------------------------------------------

    def _start_servers(self, data: Path) -> None:
        self.disk = Disk(data / "postgres", POSTGRES_DISK_BYTES)
        self.postgres = TimedPostgres(data, self.clocks.environment("postgres"))
        self.postgres.start()
        migrate(self.postgres.owner_url)
        _run(create_tables(self.postgres.owner_url))
        self.nats = EmbeddedNats(data, config=render_nats_config(load_keys(self.postgres.url)))
        self.nats.start()
        self.valkey = EmbeddedValkey(data)
        self.valkey.start()
        for server in (self.postgres, self.nats, self.valkey):
            self.parts[server.name] = ServerPart(server)

    def _start_roles(self, data: Path) -> None:
        self.api_port = free_port()
        for name, servers in ROLES.items():
            told = {server: self._told(f"{name}>{server}", server) for server in servers}
            environment = self._environment(data, told) | self.clocks.environment(name)
            self.parts[name] = RolePart(name, self.folder, environment)
        self.links["admin>api"] = self._link("admin>api", "api")
        self.url = f"http://127.0.0.1:{self.links['admin>api'].port}"
        keys = FileKeys(data / SECRETS_FILE, make=True)
        taken = _run(first_steps.take(self.postgres.url, self.folder / "profile.json", self.url, keys))
        assert taken is not None
        self.admin_key = taken.admin_key
        for part in self.parts.values():
            if isinstance(part, RolePart):
                part.start()
        self.until_ready()
        self.site_id = self.get("/sites")["items"][0]["id"]

    def _told(self, link: str, server: str) -> str:
        self.links[link] = proxy = self._link(link, server)
        match server:
            case "postgres":
                secret = urlsplit(self.postgres.url).password
                return f"postgresql://fleetlog:{secret}@127.0.0.1:{proxy.port}/fleetlog"
            case "nats":
                return f"nats://127.0.0.1:{proxy.port}"
            case _:
                return f"redis://:{urlsplit(self.valkey.url).password}@127.0.0.1:{proxy.port}/0"

    def _link(self, name: str, server: str) -> Proxy:
        seed = len(self.links)
        match server:
            case "postgres":
                path = self.postgres.folder / f".s.PGSQL.{self.postgres.port()}"
                return Proxy(self.loop, unix(lambda: str(path)), seed=seed)
            case "nats":
                return Proxy(self.loop, tcp(self.nats.port), nats=True, seed=seed)
            case "valkey":
                return Proxy(self.loop, tcp(self.valkey.port), seed=seed)
            case "api":
                return Proxy(self.loop, tcp(lambda: self.api_port), seed=seed)
        raise ValueError(name)

    def _environment(self, data: Path, told: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEETLOG_")}
        config = self.folder / "fleetlog.toml"
        config.touch()
        # What a role does not talk to it is not told of either.
        return kept | ENVIRONMENT | {
            HANDS_OFF: "1",
            "FLEETLOG_CONFIG": str(config),
            "FLEETLOG_DATA_DIR": str(data),
            "FLEETLOG_POSTGRES_URL": told["postgres"],
            "FLEETLOG_NATS_URL": told.get("nats", "nats://127.0.0.1:1"),
            "FLEETLOG_NATS_AGENT_URLS": self.nats.url,
            "FLEETLOG_REDIS_URL": told.get("valkey", "redis://127.0.0.1:1/0"),
            "FLEETLOG_LISTEN_PORT": str(self.api_port),
        }  # fmt: skip

    def fresh_agents(self, number: int) -> list[AgentPart]:
        """So many new agents, enrolled and not running; those before them are ended."""
        self.end_agents()
        self.runs += 1
        prefix = f"run-{self.runs}"
        token = self.post("/enrollment-tokens", {"site_id": self.site_id, "max_uses": number})["token"]
        self.agents = [
            AgentPart(
                f"{prefix}-{index}",
                self.folder,
                self._link(f"{prefix}-{index}>nats", "nats"),
                self.clocks.environment(f"agent-{index}"),
            )
            for index in range(number)
        ]
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(lambda agent: agent.enroll(self.url, token), self.agents))
        for agent in self.agents:
            self.links[f"agent-{agent.name.rpartition('-')[2]}>nats"] = agent.proxy
        return self.agents

    def end_agents(self) -> None:
        for agent in self.agents:
            agent.signal(signal.SIGCONT)
            agent.kill()
            agent.proxy.close()
            agent.disk.close()
        self.agents = []

    # -- mending ---------------------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Undo whatever was done to any part, and wait until all of it works."""
        for proxy in self.links.values():
            if proxy.mode != "open":
                proxy.use("open")
        for disk in (self.disk, *(agent.disk for agent in self.agents)):
            if disk.there:
                disk.empty()
        for name in (*ROLES, "postgres", *(f"agent-{index}" for index in range(len(self.agents)))):
            self.clocks.set(name, 0)
        for part in self.parts.values():
            if isinstance(part, ServerPart):
                part.mend()
        for part in [*self.parts.values(), *self.agents]:
            if not isinstance(part, ServerPart):
                part.mend()
        self.until_ready()

    def supervise(self) -> None:
        """Start agents again that have ended: a slow one reaches the step at which it dies when all else is mended."""
        for agent in self.agents:
            agent.mend()

    def restore(self, file: Path) -> None:
        """Lose the database, and have it back as it was in a backup; nobody but agents knows what came after."""
        roles = [part for part in self.parts.values() if isinstance(part, RolePart)]
        for part in [*roles, self.parts["nats"]]:
            part.kill()
        self._restored += 1
        with psycopg.connect(self.postgres.superuser_url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fleetlog'")
            connection.execute(f"ALTER DATABASE fleetlog RENAME TO lost_{self._restored}")
            connection.execute("CREATE DATABASE fleetlog OWNER fleetlog_owner")
        restore(self.postgres.owner_url, file, check(file), tell=lambda _: None)
        self.mend()

    def until_ready(self) -> None:
        until(self._ready, "the API to find every part there", READY_S)

    def _ready(self) -> bool:
        # A role may end by itself where it cannot go on; whoever started it starts it again (decision 9).
        for part in self.parts.values():
            if not part.alive:
                part.mend()
                return False
        try:
            answer = httpx2.get(f"{self.url}/readyz", trust_env=False, timeout=5)
        except httpx2.HTTPError:
            return False
        return answer.status_code == 200 and all(check["ok"] for check in answer.json()["checks"].values())

    # -- asking ----------------------------------------------------------------------------------------------------

    def client(self, timeout_s: float = 10.0) -> httpx2.Client:
        return httpx2.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {self.admin_key}"},
            trust_env=False,
            timeout=timeout_s,
        )

    def get(self, path: str) -> Any:
        with self.client() as client:
            return client.get(path).raise_for_status().json()

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        with self.client() as client:
            return client.post(path, json=dict(body)).raise_for_status().json()

    @contextlib.contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection around all proxies, as the administrator's."""
        with psycopg.connect(self.postgres.url_for("fleetlog"), autocommit=True) as connection:
            yield connection


def _run(work: Any) -> Any:
    """Run a coroutine apart from whatever loop the test has."""
    import asyncio

    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(asyncio.run(work)))
    thread.start()
    thread.join()
    return outcome[0]
