"""`fleetlog up` as a whole: its first words, its second start, its deaths and its ends."""

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.topology.harness import ANNOUNCED, SERVERS, Machine, Platform

pytestmark = pytest.mark.serial


def test_first_words(whole: Platform) -> None:
    """The first start prints the address, the admin key, who logs in and the line that enrolls, each of them once."""
    whole.bring_up()
    printed = whole.first_words()
    assert f"Fleetlog is running: {whole.url} " in printed
    assert printed.count(whole.admin_key) == 1
    (password,) = re.findall(r"log in as \(shown this once\):  admin, password (\S+) ", printed)
    answer = httpx2.post(
        f"{whole.url}/api/v1/session",
        json={"user": "admin", "password": password, "bearer": True},
        trust_env=False,
    )
    assert (answer.status_code, answer.json()["pending"]) == (201, ["password", "totp"])
    asked = httpx2.post(f"{whole.url}/api/v1/session/passkey/options", trust_env=False)
    assert asked.status_code == 200
    over = httpx2.post(
        f"{whole.url}/api/v1/session/end",
        headers={"Authorization": f"Bearer {answer.json()['token']}"},
        trust_env=False,
    )
    assert over.status_code == 200
    assert printed.count(f"fleetlog agent enroll {whole.url} {whole.token}") == 1
    assert whole.admin_key not in (whole.folder / "data" / "cli.json").read_text()


def test_ready_means_that_the_first_steps_can_be_read(platform: Platform) -> None:
    """Whoever waited for the announcement finds the site that the first start made, without waiting for a position."""
    answer = httpx2.get(
        f"{platform.url}/api/v1/sites", headers={"Authorization": f"Bearer {platform.admin_key}"}, trust_env=False
    )
    assert "Main" in {site["name"] for site in answer.json()["items"]}
    assert platform.away() == set()


def test_the_api_tells_what_status_tells(platform: Platform) -> None:
    """The API looks with the same eyes as the command line: at every server, itself included, and every role."""
    answer = httpx2.get(
        f"{platform.url}/api/v1/status", headers={"Authorization": f"Bearer {platform.admin_key}"}, trust_env=False
    ).json()
    told = json.loads(platform.fleetlog("status", "--json").stdout)
    assert (answer["faults"], answer["ok"], told["ok"]) == ([], True, True)
    for name, key in (("parts", "name"), ("processes", "role"), ("projections", "name")):
        assert [(one[key], one["ok"]) for one in answer[name]] == [(one[key], one["ok"]) for one in told[name]]


def test_a_second_start_is_refused(platform: Platform) -> None:
    """A second `up` on the same data folder ends with one line that says why, and the first goes on."""
    second = platform.fleetlog("up", "--data-dir", str(platform.folder / "data"))
    assert second.returncode == 2
    assert second.stdout == b""
    (line,) = second.stderr.decode().splitlines()
    assert "already_running" in line
    assert f"process {platform.up.pid}" in line
    assert platform.healthy()


@pytest.mark.embedded
def test_status_of_nothing(platform: Platform) -> None:
    """Where nothing was ever started, `status` says so in one line and fails."""
    nowhere = platform.fleetlog("status", "--data-dir", str(platform.folder / "nowhere"))
    assert nowhere.returncode == 2
    assert nowhere.stdout == b""
    (line,) = nowhere.stderr.decode().splitlines()
    assert "no_platform" in line


def test_status_names_a_dead_role_until_it_is_back(platform: Platform) -> None:
    """`status` fails and names a role from the moment it is killed until the supervisor has it running again."""
    platform.until_healthy()
    dead = platform.role("scheduler")
    with platform.looking_away():
        dead.kill()
        status = platform.fleetlog("status", "--json")
        assert status.returncode == 1
        assert [row["role"] for row in json.loads(status.stdout)["processes"] if not row["ok"]] == ["scheduler"]
    platform.until_healthy()
    assert platform.role("scheduler").pid != dead.pid


def lists(platform: Platform) -> dict[str, list[dict[str, Any]]]:
    """What was made once; how many machines are online just now is no part of it."""
    paths = ("/clients", "/sites", "/enrollment-tokens", "/api-keys")
    return {path: [{**one, "online": None} for one in platform.api.items(path)] for path in paths}


def test_everything_is_killed(platform: Platform, off: Machine, machines: list[Machine]) -> None:
    """After `kill -9` of everything the next start has the same data, and finishes what was asked for before."""
    one = machines[0]
    before = lists(platform)
    waiting = [off.shell(f"echo {n} >> {platform.effects}/waiting") for n in range(3)]
    going = platform.folder / "going"
    under_way = one.shell(f"echo run >> {platform.effects}/under-way; while [ ! -e {going} ]; do sleep 0.05; done")
    platform.until(lambda: platform.effect("under-way") == ["run"], "the script to run")
    platform.kill_everything()
    status = platform.fleetlog("status", "--json")
    assert status.returncode == 1
    still_there = {part["name"] for part in json.loads(status.stdout)["parts"] if part["ok"]}
    assert still_there == {name for name in SERVERS if not platform.starts_itself(name)}
    going.touch()
    platform.bring_up()
    assert ANNOUNCED in platform.printed()
    assert "flk_" not in platform.printed()
    # With the key of the first start.
    assert lists(platform) == before
    platform.ended_once(under_way)
    assert platform.effect("under-way") == ["run"]
    off.start()
    for command in waiting:
        platform.ended_once(command)
    assert platform.effect("waiting") == ["0", "1", "2"]
    platform.until_healthy()


def test_the_supervisor_alone_is_killed(platform: Platform, machines: list[Machine]) -> None:
    """After `kill -9` of the supervisor alone the next start outlasts what it left, even what hangs."""
    left = platform.processes()
    platform.role("api").suspend()
    platform.up.kill()
    platform.up.wait()
    platform.bring_up()
    platform.gone(left)
    platform.ended_once(machines[0].shell("true"))
    platform.until_healthy()


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {platform.admin_key}"}
    with httpx2.Client(base_url=f"{platform.url}/api/v1", headers=headers, timeout=60, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_in_order(platform: Platform, off: Machine, client: httpx2.Client, number: signal.Signals) -> None:
    """Asked to stop, it answers what is held back, ends what streams, leaves no process, and exits with 0."""
    command = off.shell("true")
    held: dict[str, Any] = {}

    def wait_for_the_end() -> None:
        held["answer"] = client.get(f"/commands/{command}", params={"wait_s": 60})

    def stream() -> None:
        with client.stream("GET", "/events/stream") as response:
            lines = list(response.iter_lines())
            held["stream"] = lines  # reached only where the stream was ended and not cut

    threads = [threading.Thread(target=target) for target in (wait_for_the_end, stream)]
    for thread in threads:
        thread.start()
    web = platform.machine("web")
    log = platform.folder / f"web-{number}.log"
    polls = platform.spawn(["agent", "run", "--transport", "http", "--state-dir", str(web.state_dir)], log)
    # A run that comes right after another is told to come again at first.
    platform.until(lambda: "connected transport=http" in log.read_text(), "the machine that checks in over HTTP")
    assert web.online
    platform.until(lambda: _under_way(platform) == 4, "three requests, beside the one that asks")
    processes = platform.processes()
    os.kill(platform.up.pid, number)
    for thread in threads:
        thread.join(60)
    assert (held["answer"].status_code, held["answer"].json()["state"]) == (200, "queued")
    assert held["stream"]
    assert platform.up.wait(60) == 0
    platform.gone(processes)
    stops = [line for line in platform.printed().splitlines() if "_stopping" in line]
    order = [next(part for part in _PARTS if f'"{part}"' in line) for line in stops]
    assert order[0] == "api"
    assert sorted(order[1:4]) == ["gateway", "scheduler", "worker"]
    assert order[4:] == ["projector", *filter(platform.starts_itself, ("valkey", "nats", "postgres"))]
    answered = [json.loads(line) for line in platform.printed().splitlines() if '"event": "request"' in line]
    assert [request["status"] for request in answered if "check-in" in request["path"]][-1] == 200, "it was cut"
    polls.kill()
    client.close()


_PARTS = ("projector", "gateway", "worker", "scheduler", "api", "valkey", "nats", "postgres")


def _under_way(platform: Platform) -> int:
    """Requests that the API is answering."""
    metrics = httpx2.get(f"{platform.url}/metrics", trust_env=False).text
    return int(float(re.findall(r"^fleetlog_http_requests_under_way (\S+)$", metrics, re.MULTILINE)[0]))
