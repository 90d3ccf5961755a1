"""The fleet that `fleetlog demo --keep` leaves: as it is promised, on a whole platform, with few machines."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio

from gateways.bench.platform import running_platform
from gateways.cli.api import Api
from gateways.cli.profile import Profile
from gateways.local.demo_checks import CHECKS, DISK
from gateways.local.demo_fleet import DemoFleet, demo_fleet
from gateways.local.demo_history import FINISHED, NOTES, PAUSED, RUNNING
from gateways.local.demo_machines import PLACES, away, machines
from gateways.local.demo_work import SCRIPTS
from tests.conftest import Servers

COUNT = 36

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept(servers: Servers) -> AsyncIterator[tuple[Api, DemoFleet]]:
    with servers() as settings:
        async with running_platform(**settings) as running:
            with Api(Profile(running.platform.api_url, running.key)) as api:
                async with demo_fleet(api, count=COUNT) as fleet:
                    yield api, fleet


async def test_the_fleet_is_there(kept: tuple[Api, DemoFleet]) -> None:
    """Each machine says what it is, under the name, at the site and with the tags that are its own; a tenth is away."""
    api, fleet = kept
    agents = {one["name"]: one for one in await asyncio.to_thread(list, api.items("/agents"))}
    assert agents.keys() == {one.machine.name for one in fleet.machines}
    for one in fleet.machines:
        shown, machine = agents[one.machine.name], one.machine
        assert (shown["client_name"], shown["site_name"]) == (machine.place.client, machine.place.site)
        assert (shown["platform"], shown["os"]) == (machine.model.platform, machine.model.os)
        assert sorted(shown["tags"]) == sorted(machine.model.tags)
    assert {one["platform"] for one in agents.values()} == {"linux", "windows", "macos"}
    off = {one.name for one in away(machines(COUNT))}
    assert len(off) == 4
    assert {name for name, one in agents.items() if not one["online"]} == off
    assert all(agents[name]["pending"] > 0 for name in off)


async def test_what_happened_to_it(kept: tuple[Api, DemoFleet]) -> None:
    """Scripts have revisions; commands have ended well, badly, too late, not yet; each rollout is at its stage."""
    api, fleet = kept
    kept_scripts = await asyncio.to_thread(list, api.items("/scripts"))
    revisions = {one["name"]: (one["folder"], one["revision"]) for one in kept_scripts}
    assert revisions == {script.name: (script.folder, len(script.bodies)) for script in SCRIPTS}
    ids = {one["name"]: one["id"] for one in await asyncio.to_thread(list, api.items("/agents"))}
    for role in {one.machine.model.role for one in fleet.machines} & NOTES.keys():
        noted = next(one.machine.name for one in fleet.machines if one.machine.model.role == role)
        [note] = (await asyncio.to_thread(api.get, f"/agents/{ids[noted]}/notes"))["items"]
        assert note["text"] == NOTES[role]
    rollouts = {one["name"]: one for one in await asyncio.to_thread(list, api.items("/rollouts"))}
    states = {name: one["state"] for name, one in rollouts.items()}
    assert states == {FINISHED: "completed", PAUSED: "paused", RUNNING: "running"}
    assert len(rollouts[RUNNING]["wave_sizes"]) == 3
    assert "failed" in rollouts[PAUSED]["detail"]
    commands = Counter(one["state"] for one in await asyncio.to_thread(list, api.items("/commands")))
    assert commands.keys() >= {"succeeded", "failed", "timed_out", "cancelled", "queued"}
    assert not [one for machine in fleet.machines for one in machine.errors]


async def test_checks_find_something(kept: tuple[Api, DemoFleet]) -> None:
    """Each machine that is there has its list, and says what it finds: a full disk, a service that is stopped."""
    api, fleet = kept
    checks = {one["name"]: one for one in await asyncio.to_thread(list, api.items("/checks"))}
    assert checks.keys() == {check["name"] for check in CHECKS}
    here = {one.machine.name: one for one in fleet.machines if one.online.is_set()}
    wanted = {name for name, one in here.items() if one.machine.used_percent > 90}
    assert wanted
    path = f"/checks/{checks[DISK]['id']}/machines"
    async with asyncio.timeout(60):
        while wanted - {row["name"] for row in await asyncio.to_thread(list, api.items(path, state="failing"))}:  # noqa: ASYNC110 - the platform is another process
            await asyncio.sleep(0.1)
    assert checks[DISK]["machines"] == COUNT


async def test_the_login_opens_the_dashboard(kept: tuple[Api, DemoFleet]) -> None:
    """Name, password and a printed code are all that it takes; a code is good once."""
    api, fleet = kept
    login = fleet.login
    body = {"user": login.name, "password": login.password, "code": login.codes[0]}
    async with httpx2.AsyncClient(base_url=api.url, headers={"Origin": api.url}) as browser:
        answer = await browser.post("/api/v1/session", json=body)
        assert answer.status_code == 201, answer.text
        assert answer.json()["pending"] == []
        assert (await browser.get("/api/v1/agents")).status_code == 200
    async with httpx2.AsyncClient(base_url=api.url, headers={"Origin": api.url}) as another:
        assert (await another.post("/api/v1/session", json=body)).status_code == 401


async def test_names_are_one_machines_each() -> None:
    """However many there are, no two share a name or an address, and each place has some."""
    fleet = machines(1000)
    assert len({one.name for one in fleet}) == len({one.address for one in fleet}) == len(fleet)
    assert {one.place for one in fleet} == set(PLACES)
