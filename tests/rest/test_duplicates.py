"""Agents that are two machines, as administrators see them, and how they say which one stays."""

from uuid import UUID

from command_bus.handlers.duplicates import DuplicateNotices
from command_bus.ids import new_id
from domain.duplicates import Sighting
from domain.ids import AgentId, ClientId
from tests.rest.harness import Api, Fleet


def seen(name: str) -> Sighting:
    return Sighting(address="192.0.2.1", hostname=name, machine=name, instance=name)


async def test_a_duplicate_is_listed_until_it_is_settled(api: Api, fleet: Fleet) -> None:
    """Noticed, an agent lists both machines; settled, it is an agent like any other, and its timeline tells of both."""
    one, other = await fleet.agent("one"), await fleet.agent("other")
    http = fleet.http
    client_id = ClientId(UUID((await http.get(f"/agents/{one}")).json()["client_id"]))
    notices = DuplicateNotices(api.log, new_id)
    for _ in range(2):
        await notices.noticed(AgentId(UUID(one)), client_id, seen("original"), seen("clone\x1b[31m"), "gateway-1")
    http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    listed = (await http.get("/agents", params={"duplicate": "true"})).json()["items"]
    assert [agent["id"] for agent in listed] == [one]
    assert listed[0]["duplicate"]["present"]["hostname"] == "original"
    assert listed[0]["duplicate"]["newcomer"]["address"] == "192.0.2.1"
    others = (await http.get("/agents", params={"duplicate": "false"})).json()["items"]
    assert [agent["id"] for agent in others] == [other]
    settled = await http.post(f"/agents/{one}/duplicate", json={"stays": "newcomer", "reason": "the new disk"})
    assert settled.status_code == 200, settled.text
    http.headers["Fleetlog-Wait-Position"] = settled.headers["Fleetlog-Position"]
    assert (await http.get("/agents", params={"duplicate": "true"})).json()["items"] == []
    story = (await http.get(f"/agents/{one}/timeline")).json()["items"]
    assert [event["type"] for event in story][:2] == ["AgentDuplicateSettled", "AgentDuplicateNoticed"]
    again = await http.post(f"/agents/{one}/duplicate", json={"stays": "present"})
    assert (again.status_code, again.json()["code"]) == (409, "no_duplicate")
