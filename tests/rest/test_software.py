"""What is installed on machines: what is recorded of it, what is shown, what is found by it, and what is forgotten."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from command_bus.context import Caller
from command_bus.event_log import Selection
from command_bus.ids import new_id, utc_now
from command_bus.intents.erasures import EraseAgent
from domain.ids import AgentId, ClientId
from domain.roles import Role
from domain.software import MOST_NAMED, AgentSoftwareReported, software_stream
from gateways.agents.software import (
    SoftwareNotKeptError,
    SoftwareReports,
    SoftwareTooSoonError,
    purge_software,
    read_software,
)
from schema.software import Package, SoftwareList, digest, listed, pack
from tests.rest.harness import Api, Fleet


def told(*packages: Package, known: bool = True) -> SoftwareList:
    return listed(packages, updates_known=known)


BEFORE = told(
    Package("bash", "5.1"), Package("nginx", "1.22", update="1.24", security=True), Package("vim", "9", update="9.1")
)
AFTER = told(Package("bash", "5.2"), Package("Nginx", "1.24"), Package("emacs", "29"), known=False)


class Teller:
    """Reports for a fleet's machines, at a time that moves on with each."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._at = utc_now()
        self.reports = SoftwareReports(fleet.api.log, fleet.api.pool, lambda: self._at, new_id)

    async def tell(self, agent_id: str, software: SoftwareList, *, later: timedelta = timedelta(minutes=2)) -> bool:
        self._at += later
        key, client_id = AgentId(UUID(agent_id)), ClientId(UUID(self._fleet.client_id))
        return await self.reports.reported(key, client_id, pack(software))


async def events(api: Api, agent_id: str) -> list[Any]:
    stream = Selection(stream_id=software_stream(AgentId(UUID(agent_id))))
    return [one.event for one in await api.log.read(stream)]


async def test_the_event_says_what_changed(api: Api, fleet: Fleet) -> None:
    """Names and versions of what came, went and changed; of very many the first, and how many there are."""
    agent_id, teller = await fleet.agent("web-01"), Teller(fleet)
    assert await teller.tell(agent_id, BEFORE)
    with pytest.raises(SoftwareTooSoonError):
        await teller.tell(agent_id, AFTER, later=timedelta(minutes=-2))
    assert await teller.tell(agent_id, AFTER)
    assert not await teller.tell(agent_id, AFTER)
    assert await teller.tell(agent_id, told(*(Package(f"package-{number:04}", "1") for number in range(500))))
    first, second, third = await events(api, agent_id)
    assert first == AgentSoftwareReported(sha256=digest(BEFORE), packages=3, updates=2, security_updates=1)
    assert second == AgentSoftwareReported(
        sha256=digest(AFTER),
        packages=3,
        updates=None,
        security_updates=None,
        installed=2,
        removed=2,
        changed=1,
        changes={
            "installed": {"Nginx": "1.24", "emacs": "29"},
            "removed": {"nginx": "1.22", "vim": "9"},
            "changed": {"bash": ["5.1", "5.2"]},
        },
    )
    assert (third.installed, third.removed, third.updates) == (500, 3, 0)
    assert len(third.changes["installed"]) == MOST_NAMED
    timeline = (await fleet.http.get(f"/agents/{agent_id}/timeline")).json()["items"]
    said = [one["text"] for one in timeline if one["type"] == "AgentSoftwareReported"]
    assert said[1:] == [
        "Software of the machine: installed 2 (Nginx, emacs); changed 1 (bash); removed 2 (nginx, vim).",
        "Agent reported 3 packages, 2 of them with an update.",
    ]


async def test_two_who_hear_it_at_once_make_one_event(api: Api, fleet: Fleet) -> None:
    """An agent repeats what was not answered, and another gateway may get that."""
    agent_id, teller = await fleet.agent("web-01"), Teller(fleet)
    outcomes = await asyncio.gather(*(teller.tell(agent_id, BEFORE) for _ in range(6)))
    assert sorted(outcomes) == [False] * 5 + [True]
    assert len(await events(api, agent_id)) == 1


async def test_it_is_shown_page_by_page_and_as_it_was(api: Api, fleet: Fleet) -> None:
    """All of it, a part of a name, what could be updated; as of then, too; and in words where there is none."""
    agent_id, teller = await fleet.agent("web-01"), Teller(fleet)
    path = f"/agents/{agent_id}/software"
    none = await fleet.http.get(path)
    assert (none.status_code, none.json()["code"]) == (404, "no_software")
    await teller.tell(agent_id, BEFORE)
    then = await api.log.head()
    await teller.tell(agent_id, AFTER)
    shown = (await fleet.http.get(path)).json()
    assert [one["name"] for one in shown["items"]] == ["Nginx", "bash", "emacs"]
    assert (shown["packages"], shown["updates"], shown["security_updates"]) == (3, None, None)
    before = (await fleet.http.get(path, params={"at": then, "limit": 2})).json()
    assert (before["packages"], before["updates"], before["security_updates"]) == (3, 2, 1)
    assert [one["version"] for one in before["items"]] == ["5.1", "1.22"]
    rest = (await fleet.http.get(path, params={"at": then, "limit": 2, "cursor": before["next"]})).json()
    assert ([one["name"] for one in rest["items"]], rest["next"]) == (["vim"], None)
    assert [
        [one["name"] for one in (await fleet.http.get(path, params={"at": then} | query)).json()["items"]]
        for query in ({"q": "I"}, {"updates": True}, {"q": "i", "updates": True, "limit": 1}, {"q": "nothing"})
    ] == [["nginx", "vim"], ["nginx", "vim"], ["nginx"], []]
    listed_one = (await fleet.http.get("/agents")).json()["items"][0]
    assert (listed_one["packages"], listed_one["updates"]) == (3, None)


async def test_machines_are_found_by_it(fleet: Fleet) -> None:
    """By a name in any case, and by how much could be updated; in the list, the counts, and what a rollout aims at."""
    one, two, three = [await fleet.agent(f"web-0{number}") for number in (1, 2, 3)]
    teller = Teller(fleet)
    await teller.tell(one, BEFORE)
    await teller.tell(two, BEFORE)
    await teller.tell(three, AFTER)

    async def found(**query: Any) -> list[str]:
        names = [agent["name"] for agent in (await fleet.http.get("/agents", params=query)).json()["items"]]
        assert (await fleet.http.get("/agents/counts", params=query)).json()["total"] == len(names)
        return names

    assert await found(software="NGINX") == ["web-01", "web-02", "web-03"]
    assert await found(software="emacs") == ["web-03"]
    assert await found(software="ngin") == []
    assert await found(updates=2) == ["web-01", "web-02"]
    assert await found(updates=3) == []
    assert await found(security_updates=1) == ["web-01", "web-02"]
    plan = {
        "target": {"include": {"matching": {"software": "vim", "updates": 1}}},
        "spec": {"kind": "ping"},
        "name": "r",
    }
    started = await fleet.http.post("/rollouts", json=plan)
    assert started.json()["targeted"] == 2
    shown = (await fleet.http.get(f"/rollouts/{started.json()['id']}")).json()
    assert shown["target"]["include"]["matching"] == {"software": "vim", "updates": 1}


async def test_a_list_stays_while_a_machine_has_it_and_a_while_after(api: Api, fleet: Fleet) -> None:
    """The present one whatever its age; the one before from when it was replaced."""
    agent_id, teller = await fleet.agent("web-01"), Teller(fleet)
    await teller.tell(agent_id, BEFORE)
    then = await api.log.head()
    await teller.tell(agent_id, AFTER)
    await fleet.http.get("/agents")
    month = timedelta(days=30)
    assert await purge_software(api.pool, month) == 0
    async with api.pool.connection() as connection:
        await connection.execute("UPDATE fleetlog.software_lists SET named_at = now() - interval '31 days'")
    assert await purge_software(api.pool, month) == 1
    async with api.pool.connection() as connection:
        assert await read_software(connection, digest(AFTER)) == AFTER
        for gone in (digest(BEFORE), "[erased]", ""):
            with pytest.raises(SoftwareNotKeptError):
                await read_software(connection, gone)
    path = f"/agents/{agent_id}/software"
    refused = await fleet.http.get(path, params={"at": then})
    assert (refused.status_code, refused.json()["code"]) == (410, "software_not_kept")
    # What is told after that begins anew.
    assert await teller.tell(agent_id, BEFORE)
    assert (await fleet.http.get(path)).json()["packages"] == 3


async def test_a_list_that_was_lost_comes_again(api: Api, fleet: Fleet) -> None:
    """An agent that tells what is on record already, as after a restore, brings what is not there."""
    agent_id, teller = await fleet.agent("web-01"), Teller(fleet)
    await teller.tell(agent_id, BEFORE)
    async with api.pool.connection() as connection:
        await connection.execute("DELETE FROM fleetlog.software_lists")
    assert (await fleet.http.get(f"/agents/{agent_id}/software")).status_code == 410
    assert not await teller.tell(agent_id, BEFORE)
    assert (await fleet.http.get(f"/agents/{agent_id}/software")).json()["packages"] == 3
    assert len(await events(api, agent_id)) == 1


async def test_nothing_is_forgotten_while_nobody_knows_who_has_what(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """A read model that stands still says of no list that no machine has it."""
    agent_id, teller = await fleet.agent("web-01"), Teller(fleet)
    await teller.tell(agent_id, BEFORE)
    await teller.tell(agent_id, AFTER)
    await fleet.http.get("/agents")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("UPDATE read.tracking SET status = 'stopped' WHERE projection = 'agents'")
        assert await purge_software(api.pool, timedelta(0)) == 0
        admin.execute("UPDATE read.tracking SET status = 'running' WHERE projection = 'agents'")
    assert await purge_software(api.pool, timedelta(0)) == 1


async def test_erased_it_is_gone(api: Api, fleet: Fleet) -> None:
    """What was installed may say whose machine it was."""
    agent_id, teller = await fleet.agent("web-01"), Teller(fleet)
    await teller.tell(agent_id, BEFORE)
    await teller.tell(agent_id, told(Package("adas-secret-app", "1")))
    assert (await fleet.http.post(f"/agents/{agent_id}/retire", json={})).is_success
    caller = Caller(actor="system", correlation_id=new_id())
    await api.bus.dispatch(EraseAgent(agent_id=UUID(agent_id), reason="asked for"), caller)
    assert "adas" not in (await fleet.http.get(f"/agents/{agent_id}/timeline")).text
    gone = await fleet.http.get(f"/agents/{agent_id}/software")
    assert (gone.status_code, gone.json()["code"]) == (404, "no_software")
    await api.waiter.wait(await api.log.head(), ["agents"], 10)
    assert await purge_software(api.pool, timedelta(0)) == 2


async def test_another_tenants_is_not_there(api: Api, fleet: Fleet) -> None:
    """As for all of a machine."""
    agent_id, teller = await fleet.agent("web-01"), Teller(fleet)
    await teller.tell(agent_id, BEFORE)
    other = await Fleet.make(api, api.client(), "Globex")
    http = api.client(await api.key(Role.READ_ONLY, [UUID(other.client_id)]))
    assert (await http.get(f"/agents/{agent_id}/software")).status_code == 404
    assert (await http.get("/agents", params={"software": "vim"})).json()["items"] == []
