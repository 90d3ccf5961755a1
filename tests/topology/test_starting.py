"""Roles that start before what they need."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from command_bus.migrate import migrate
from gateways.agents.keys import load_keys
from gateways.agents.nats_config import render_nats_config
from gateways.local.server import free_port
from gateways.local.servers import EmbeddedNats, EmbeddedPostgres, EmbeddedServer, EmbeddedValkey
from projections.tables import create_tables

pytestmark = pytest.mark.serial
WAIT_S = 60.0


def test_roles_wait_for_what_they_need(data_dir: Path) -> None:
    """Started before any server, roles wait and say what for; they come up as the servers do, without a restart."""
    postgres, valkey = EmbeddedPostgres(data_dir), EmbeddedValkey(data_dir)
    servers: list[EmbeddedServer] = [postgres, valkey]
    port = free_port()
    log = data_dir / "roles.log"
    try:
        postgres.start()
        migrate(postgres.owner_url)
        asyncio.run(create_tables(postgres.owner_url))
        nats = EmbeddedNats(data_dir, config=render_nats_config(load_keys(postgres.url)))
        servers.append(nats)
        valkey.start()
        nats.start()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETLOG_")} | {
            "FLEETLOG_POSTGRES_URL": postgres.url,
            "FLEETLOG_NATS_URL": nats.url,
            "FLEETLOG_REDIS_URL": valkey.url,
            "FLEETLOG_LISTEN_PORT": str(port),
        }
        for server in servers:
            server.stop()
        program = [sys.executable, "-m", "gateways.cli"]
        with log.open("wb") as output:
            roles = subprocess.Popen(
                [*program, "serve", "projector", "gateway", "worker", "scheduler", "api"],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        try:

            def away() -> set[str]:
                try:
                    answer = httpx2.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=10)
                except httpx2.TransportError:
                    assert roles.poll() is None, log.read_text()
                    return {"nobody listens yet"}
                missing = {name for name, check in answer.json()["checks"].items() if not check["ok"]}
                assert answer.status_code == (503 if missing & {"postgres", "api"} else 200)
                return missing

            _until(lambda: away() == {"postgres", "projector", "nats", "valkey", "api"}, away)
            postgres.start()
            _until(lambda: away() == {"nats", "valkey"}, away)
            nats.start()
            _until(lambda: away() == {"valkey"}, away)
            valkey.start()
            _until(lambda: away() == set(), away)

            def down() -> Any:
                done = subprocess.run(
                    [*program, "status", "--json"], env=environment, capture_output=True, timeout=WAIT_S, check=False
                )
                status = json.loads(done.stdout)
                rows = [*status["parts"], *status["processes"], *status["projections"]]
                assert (done.returncode == 0) is status["ok"]
                return [row for row in rows if not row["ok"]]

            _until(lambda: not down(), down)
            roles.send_signal(signal.SIGTERM)
            assert roles.wait(WAIT_S) == 0
        finally:
            roles.kill()
            roles.wait()
    finally:
        for server in servers:
            server.stop()


def _until(condition: Callable[[], bool], told: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)
