"""`fleetlog simulate` against a whole platform: many agents in one process, held to what they are promised."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from command_bus.postgres import app_conninfo
from gateways.bench.platform import Running, running_platform
from gateways.cli.api import Api
from gateways.cli.profile import Profile
from gateways.simulate.fleet import TooManyError, allow_files
from tests.cli.terminal import Terminal
from tests.conftest import Servers

AGENTS = 50
PATIENCE_S = 60

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(servers: Servers) -> AsyncIterator[Running]:
    with servers() as settings:
        async with running_platform(**settings) as running:
            yield running


@pytest.fixture
def terminal(running: Running, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("FLEETLOG_DATA_DIR", str(running.folder / "data"))
    return Terminal(running.platform.api_url, running.key)


async def simulated(terminal: Terminal, *options: str) -> dict[str, Any]:
    process = await terminal.start("simulate", "--json", "--agents", str(AGENTS), *options)
    async with asyncio.timeout(PATIENCE_S):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    said: dict[str, Any] = json.loads(out)
    return said


def api(running: Running) -> Api:
    return Api(Profile(running.platform.api_url, running.key))


async def test_many_agents_at_once(running: Running, terminal: Terminal) -> None:
    """Fifty agents enroll by token, lose connections, some away to the end: each command runs once, and has its end."""
    report = await simulated(
        terminal, "--for", "6s", "--commands", "200", "--offline", "0.2", "--churn", "10", "--away-s", "0.5",
        "--run-s", "0.02", "--failing", "0.2", "--seed", "7",
    )  # fmt: skip
    assert report["broken"] == {}
    assert report["agents"] == AGENTS
    assert (report["queued"], report["ended"], report["not_queued"]) == (200, 200, 0)
    assert (report["received"], report["runs"]) == (200, 200)
    assert (report["waiting"], report["unacknowledged"]) == (0, 0)
    assert report["churned"] > 0
    assert report["connections"] >= AGENTS + report["churned"]
    assert report["outcomes"].keys() == {"succeeded", "failed"}
    assert sum(report["outcomes"].values()) == 200
    with api(running) as http:
        (site,) = [site for site in http.items("/sites") if site["name"] == "Simulated"]
        ended = [command["state"] for command in http.items("/commands") if command["site_id"] == site["id"]]
    assert {state: ended.count(state) for state in set(ended)} == report["outcomes"]


async def test_agents_that_are_adopted(terminal: Terminal) -> None:
    """With the database at hand they are recorded in bulk; the site made for the first run serves the second."""
    report = await simulated(terminal, "--adopt", "--for", "1s", "--commands", "50", "--run-s", "0")
    assert report["broken"] == {}
    assert (report["agents"], report["ended"]) == (AGENTS, 50)


async def test_agents_that_are_far_away(running: Running, terminal: Terminal) -> None:
    """What they say comes later, in order, and nothing is lost by it."""
    report = await simulated(
        terminal, "--adopt", "--for", "2s", "--commands", "100", "--run-s", "0", "--latency-s", "0.4", "--seed", "8"
    )
    assert (report["broken"], report["ended"], report["runs"]) == ({}, 100, 100)
    with api(running) as http:
        newest = list(itertools.islice(http.items("/commands"), 100))
    took = [_moment(one["delivered_at"]) - _moment(one["queued_at"]) for one in newest]
    assert min(took) >= timedelta(seconds=0.2)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_it_finds_what_was_done_behind_its_back(running: Running, terminal: Terminal) -> None:
    """An agent that is retired while its command waits never gets it: that is a breach, and the exit code says so."""
    process = await terminal.start(
        "simulate", "--agents", "3", "--for", "600s", "--commands", "1", "--offline", "1", "--settle", "3s", "--json"
    )
    with api(running) as http:
        before = {command["id"] for command in http.items("/commands")}
        agent_id = ""
        async with asyncio.timeout(PATIENCE_S):
            while not agent_id:
                fresh = [one for one in http.items("/commands") if one["state"] == "queued" and one["id"] not in before]
                agent_id = fresh[0]["agent_id"] if fresh else ""
                await asyncio.sleep(0.05)
        http.post(f"/agents/{agent_id}/retire", {"reason": "a test"})
    process.send_signal(2)
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    report = json.loads(out)
    assert process.returncode == 1
    assert report["broken"] == {"kept": 1}
    assert [UUID(breach["agent_id"]) for breach in report["breaches"]] == [UUID(agent_id)]


async def test_no_more_agents_than_connections() -> None:
    """Where the system does not allow as many open files, that is said before anything is done."""
    with pytest.raises(TooManyError, match="ulimit -n"):
        allow_files(2**40)


async def test_hellos_are_heard(running: Running, terminal: Terminal) -> None:
    """What the agents are to the platform: online while the simulation runs, and offline after it."""
    await simulated(terminal, "--adopt", "--for", "1s")

    def online() -> int:
        with psycopg.connect(app_conninfo(running.platform.postgres_url)) as connection:
            row = connection.execute("SELECT count(*) FROM agents WHERE online").fetchone()
        return int(row[0]) if row else -1

    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(online):  # noqa: ASYNC110 -- another process writes it
            await asyncio.sleep(0.05)
