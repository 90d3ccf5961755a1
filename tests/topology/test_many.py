"""Many of each role at once: they share the work and stand in for each other, and nobody tells them of each other."""

import asyncio
import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.rows import dict_row

from command_bus.postgres import app_conninfo
from command_bus.worker import JobQueue
from gateways.cli.api import Api
from gateways.cli.profile import Profile
from gateways.local.jobs import all_jobs
from gateways.local.platform_file import completed
from gateways.local.server import free_port
from gateways.settings import load_settings
from gateways.status import Process, collect
from tests.topology.harness import ENDINGS, WAIT_S, Machine, Platform

pytestmark = pytest.mark.serial

AGENTS = 60
JOBS = 40
LEAST_SHARE = 0.1
"""Of the work, for one of two or three that are alike; which of them wins each piece is chance."""
API_PORT = free_port()


class More:
    """What runs beside the roles of `up`."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.processes: list[subprocess.Popen[bytes]] = []
        self.gateways = [self.add("gateway"), self.add("gateway")]
        self.worker = self.add("worker")
        self.projector = self.add("projector")
        self.scheduler = self.add("scheduler")
        self.api = self.add("api", "--listen", f"127.0.0.1:{API_PORT}")

    def add(self, role: str, *options: str) -> subprocess.Popen[bytes]:
        self.processes.append(self.platform.serve(role, options=options))
        return self.processes[-1]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            process.wait(WAIT_S)


@pytest.fixture(scope="module")
def more(whole: Platform) -> Iterator[More]:
    """Two more gateways and one more of each other role; they are there when the first test begins."""
    whole.bring_up()
    more = More(whole)
    pids = {process.pid for process in more.processes}
    whole.until(lambda: _there(whole) >= pids, "all of them to be there", WAIT_S)
    yield more
    more.end()
    whole.until_healthy()


def _look(platform: Platform) -> dict[int | None, Process]:
    """What `fleetlog status` would show, without starting it."""
    settings = completed(load_settings(data_dir=platform.folder / "data"))
    return {process.pid: process for process in asyncio.run(collect(settings)).processes}


def _there(platform: Platform) -> set[int | None]:
    return {pid for pid, process in _look(platform).items() if process.ok}


class Load:
    """Simulated agents and commands for them, in a process of their own, and what the log says of them."""

    def __init__(self, platform: Platform, commands: int, *options: str) -> None:
        self._platform = platform
        self._commands = commands
        self._after = self._ask("SELECT coalesce(max(notification_id), 0) AS head FROM fleetlog.events")[0]["head"]
        self._report = platform.folder / "simulate.json"
        self._report.unlink(missing_ok=True)
        self._process = platform.spawn(
            ["simulate", "--json", "--agents", str(AGENTS), "--commands", str(commands), *options],
            self._report,
            settings={"FLEETLOG_URL": platform.url, "FLEETLOG_API_KEY": platform.admin_key},
        )

    def _ask(self, query: Any, *arguments: Any) -> list[dict[str, Any]]:
        with psycopg.connect(app_conninfo(self._platform.addresses.postgres_url), row_factory=dict_row) as connection:
            return connection.execute(query, arguments).fetchall()

    def delivered(self) -> Counter[str]:
        """By gateway, how many deliveries are on record."""
        rows = self._ask(
            "SELECT convert_from(state, 'UTF8')::jsonb ->> 'gateway' AS gateway FROM fleetlog.events"
            " WHERE topic = 'CommandDelivered/1' AND notification_id > %s",
            self._after,
        )
        return Counter(row["gateway"] for row in rows)

    def ended_well(self) -> dict[str, Any]:
        """Wait for the end, and hold it against what may be: by the agents, and by the log."""
        code = self._process.wait(WAIT_S)
        said = self._report.read_text()
        assert code == 0, said
        report: dict[str, Any] = json.loads(said[said.index("{") :])
        assert report["broken"] == {}
        assert (report["queued"], report["ended"], report["runs"]) == (self._commands,) * 3
        assert (report["waiting"], report["unacknowledged"]) == (0, 0)
        stories = self._ask(
            "SELECT originator_id, array_agg(split_part(topic, '/', 1)) AS story FROM fleetlog.events"
            " WHERE notification_id > %s AND topic LIKE 'Command%%' GROUP BY 1",
            self._after,
        )
        assert len(stories) == self._commands
        for row in stories:
            story = Counter(row["story"])
            assert sum(story[kind] for kind in ENDINGS) == 1, story
            assert story["CommandQueued"] == story["CommandDelivered"] == story["CommandStarted"] == 1, story
        return report


def test_work_spreads_by_itself(platform: Platform, more: More) -> None:
    """Three gateways that nobody told of each other all deliver; `status` shows each process, and who stands by."""

    def shown() -> tuple[Counter[str], dict[int, str]]:
        rows = platform.status()["processes"]
        notes = {row["pid"]: row["note"] for row in rows if row["role"] in ("projector", "scheduler")}
        return Counter(row["role"] for row in rows if row["ok"]), notes

    everybody = {"gateway": 3, "worker": 2, "projector": 2, "scheduler": 2, "api": 2}
    notes = {
        platform.role("projector").pid: "",
        platform.role("scheduler").pid: "leading",
        more.projector.pid: "standby",
        more.scheduler.pid: "standing by",
    }
    # A process says what it does a moment after it does it.
    platform.until(lambda: shown() == (everybody, notes), f"{everybody} and {notes}")
    load = Load(platform, 300, "--for", "3s", "--run-s", "0.02")
    load.ended_well()
    delivered = load.delivered()
    assert sum(delivered.values()) == 300
    assert len(delivered) == 3
    assert min(delivered.values()) >= LEAST_SHARE * 300, delivered


def test_one_more_gateway_takes_its_share(platform: Platform, more: More) -> None:
    """Told nothing but where the servers are, it does about as much as those that were there before it."""
    del more
    added = platform.serve("gateway")
    try:
        platform.until(lambda: added.pid in _there(platform), "the new one to be there", WAIT_S)
        load = Load(platform, 400, "--for", "3s", "--run-s", "0.02")
        load.ended_well()
        delivered = load.delivered()
        assert len(delivered) == 4, delivered
        assert min(delivered.values()) >= LEAST_SHARE * 400, delivered
    finally:
        added.terminate()
        added.wait(WAIT_S)


def test_workers_share_the_jobs(platform: Platform, more: More) -> None:
    """Background jobs go to both workers, each job to one."""
    shown = _look(platform)
    workers = [str(shown[pid].status_url) for pid in (platform.role("worker").pid, more.worker.pid)]
    before = [_jobs_done(url) for url in workers]
    queue = JobQueue(platform.addresses.redis_url, all_jobs(platform.addresses.postgres_url))
    for _ in range(JOBS):
        queue.enqueue("purge_uploads")

    def done() -> list[int]:
        return [_jobs_done(url) - base for url, base in zip(workers, before, strict=True)]

    platform.until(lambda: sum(done()) >= JOBS, "all jobs to be done", WAIT_S)
    queue.close()
    assert sum(done()) == JOBS
    assert min(done()) >= LEAST_SHARE * JOBS, done()


def test_two_apis_are_one(platform: Platform, more: More) -> None:
    """What is queued by the one is read and cancelled by the other, and a key is good for both."""
    del more
    machine = platform.machine("off")
    command_id = machine.shell("true")
    with Api(Profile(f"http://127.0.0.1:{API_PORT}", platform.admin_key)) as other:
        assert command_id in [one["id"] for one in other.items(f"/agents/{machine.id}/queue")]
        assert other.post(f"/commands/{command_id}/cancel", {})["state"] == "cancelled"
    # What is read is a moment behind what was written through another.
    path = f"/commands/{command_id}"
    platform.until(lambda: platform.api.get(path)["state"] == "cancelled", "the other to see it", WAIT_S)


def test_the_leading_scheduler_is_killed(platform: Platform, more: More, machines: list[Machine]) -> None:
    """The one that stood by leads at once, and the rollout that was under way goes on."""
    body = {
        "name": "with a killed scheduler",
        "target": {"include": {"agents": [machine.id for machine in machines]}},
        "spec": {"kind": "ping"},
        "waves": [{"count": 1, "manual": True}],
    }
    path = f"/rollouts/{platform.api.post('/rollouts', body)['id']}"
    platform.until(lambda: platform.api.get(path)["counts"]["succeeded"] == 1, "the first wave to be done", WAIT_S)
    with platform.looking_away():
        platform.role("scheduler").kill()
        platform.until(lambda: _look(platform)[more.scheduler.pid].note == "leading", "the other scheduler to lead")
        platform.api.post(f"{path}/release", {})
        platform.until(lambda: platform.api.get(path)["state"] == "completed", "the rollout to complete", WAIT_S)
    assert platform.api.get(path)["counts"]["succeeded"] == len(machines)
    platform.until_healthy()


def test_a_gateway_and_the_leading_projector_are_killed(platform: Platform, more: More) -> None:
    """In the middle of the work: the others take over what they had, nothing is lost or doubled, and `status` tells."""
    load = Load(platform, 400, "--for", "5s", "--run-s", "0.05", "--churn", "2", "--away-s", "1")
    platform.until(lambda: sum(load.delivered().values()) >= 100, "the work to be under way", WAIT_S)
    gateway, standby = more.gateways[0], more.projector
    with platform.looking_away():
        leader = platform.role("projector")
        gateway.kill()
        leader.kill()
        gateway.wait(WAIT_S)
        platform.until(lambda: _look(platform)[standby.pid].note == "", "the other projector to lead")
    load.ended_well()
    found = {row["pid"]: row["state"] for row in platform.status()["processes"]}
    assert found[gateway.pid] == "ended"
    assert found[standby.pid] == "running"
    added = more.add("gateway")
    platform.until_healthy()  # the new one took the killed one's line away
    assert added.pid in _there(platform)
    verified = platform.fleetlog("projections", "verify")
    assert verified.returncode == 0, verified.stdout.decode()


def _jobs_done(url: str) -> int:
    """By a worker, of the job that the test enqueues, in its own words."""
    text = httpx2.get(f"{url}/metrics", trust_env=False, timeout=10).text
    found = re.search(r'^fleetlog_jobs_total{job="purge_uploads",outcome="done"} (\S+)$', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def test_more_of_them_stop_in_order(platform: Platform) -> None:
    """A process that is asked to stop leaves with 0, takes its line away, and the others have its agents at once."""
    process = platform.serve("gateway", "worker")
    platform.until(lambda: process.pid in _there(platform), "it to be there")
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0
    assert process.pid not in _look(platform)
    assert platform.healthy()
