"""Agents, narrowed, sorted and counted."""

from typing import Any
from uuid import UUID

import pytest

from command_bus.handlers.presence import Arrival, PresenceHandler
from command_bus.ids import new_id
from domain.ids import AgentId, ClientId
from tests.rest.harness import Api, Fleet


async def _come(fleet: Fleet, agent_id: str, **facts: Any) -> None:
    agent, client = AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id))
    presence = PresenceHandler(fleet.api.log, new_id)
    await presence.connected([Arrival(agent_id=agent, client_id=client)], "test")
    await presence.facts(agent, client, facts)
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await fleet.api.log.head())


async def test_each_filter_narrows_the_list_and_its_counts_alike(fleet: Fleet) -> None:
    """What the list shows is what is counted; `pending` and telemetry come from where they are kept."""
    web, db, old = [await fleet.agent(name) for name in ("web-01", "db-01", "old-01")]
    await fleet.agent("lap-01", platform="windows")
    await _come(fleet, web, os="Debian GNU/Linux 12")
    for _ in range(2):
        await fleet.command(db)
    await fleet.http.post(f"/agents/{old}/retire", json={})
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await fleet.api.log.head())
    async with fleet.api.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO fleetlog.presence (agent_id, last_seen_at, gateway) VALUES (%s, '2026-05-01T12:00:00Z', 'g')",
            (web,),
        )
    for query, expected in {
        "": ["db-01", "lap-01", "old-01", "web-01"],
        "retired=false": ["db-01", "lap-01", "web-01"],
        "retired=true": ["old-01"],
        "online=true": ["web-01"],
        "os=dEbIaN": ["web-01"],
        "os=%25": [],
        "agent_version=0.1.0&platform=windows": ["lap-01"],
        "pending=1": ["db-01"],
        "pending=2": ["db-01"],
        "pending=3": [],
        "seen_after=2026-05-01T12:00:00Z": ["web-01"],
        "seen_before=2026-05-01T12:00:00Z": [],
        "seen_before=2026-05-01T12:00:01Z&online=true&q=WEB": ["web-01"],
    }.items():
        listed = (await fleet.http.get(f"/agents?{query}")).json()["items"]
        assert [one["name"] for one in listed] == expected, query
        counted = (await fleet.http.get(f"/agents/counts?{query}")).json()
        assert counted["total"] == len(expected), query
        assert counted["online"] == sum(one["online"] for one in listed), query
        assert {one["name"]: one["pending"] for one in listed}.get("db-01", 2) == 2
    refused = await fleet.http.get("/agents?seen_after=2026-05-01T12:00:00Z&at=1")
    assert refused.json()["code"] == "not_of_past"


@pytest.mark.parametrize("sort", ["name", "id", "online", "platform", "client", "pending"])
async def test_an_order_and_the_one_back_are_each_other_reversed_on_pages_of_any_size(fleet: Fleet, sort: str) -> None:
    """Each machine comes exactly once, whatever the page, and whatever is alike in what it is sorted by."""
    ids = [await fleet.agent(f"m-{n % 3}", platform=("linux", "windows")[n % 2]) for n in range(7)]
    other = await Fleet.make(fleet.api, fleet.http, "Umbrella")
    ids += [await other.agent("m-1") for _ in range(2)]
    for n in (5, 2, 5, 7):
        await fleet.command(ids[n])
    await _come(fleet, ids[3])

    async def all_of(order: str, limit: int) -> list[str]:
        found, cursor = [], ""
        while True:
            page = (await fleet.http.get(f"/agents?sort={order}&limit={limit}{cursor}")).json()
            found += [one["id"] for one in page["items"]]
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    there = await all_of(sort, 500)
    assert sorted(there) == sorted(ids)
    assert await all_of(sort, 2) == there
    assert await all_of(f"-{sort}", 3) == there[::-1]
    first = (await fleet.http.get(f"/agents?sort={sort}&limit=2")).json()
    mixed = await fleet.http.get(f"/agents?sort=-{sort}&cursor={first['next']}")
    assert mixed.json()["code"] == "invalid_cursor"


async def test_by_their_last_sign_of_life_those_never_heard_of_come_last(fleet: Fleet) -> None:
    """Whichever way, on pages of any size, and narrowed or not."""
    ids = [await fleet.agent(f"m-{n}") for n in range(5)]
    async with fleet.api.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO fleetlog.presence SELECT agent_id, now() - at * interval '1 h', 'g'"
            " FROM unnest(%s::uuid[], %s::int[]) AS t (agent_id, at)",
            ([ids[3], ids[0], ids[4]], [1, 3, 2]),
        )

    async def all_of(query: str) -> list[int]:
        found, cursor = [], ""
        while cursor is not None:
            page = (await fleet.http.get(f"/agents?limit=1&{query}{cursor}")).json()
            found += [ids.index(one["id"]) for one in page["items"]]
            cursor = None if page["next"] is None else f"&cursor={page['next']}"
        return found

    assert await all_of("sort=-seen") == [3, 4, 0, 2, 1]
    assert await all_of("sort=seen") == [0, 4, 3, 1, 2]
    assert await all_of("sort=seen&q=m-0") == [0]
    refused = await fleet.http.get("/agents?sort=-seen&at=1")
    assert refused.json()["code"] == "not_of_past"


async def test_clients_and_sites_say_how_many_machines_they_have(api: Api, fleet: Fleet) -> None:
    """Retired machines do not count, and nobody counts what they do not see."""
    web = await fleet.agent("web-01")
    gone = await fleet.agent("gone-01")
    other = await Fleet.make(api, api.client(), "Umbrella")
    await other.agent("theirs")
    await _come(fleet, web)
    await fleet.http.post(f"/agents/{gone}/retire", json={})
    http = api.client(await api.key_that_may(grants=[{"role": "read-only", "clients": [UUID(fleet.client_id)]}]))
    http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    for path in ("/clients", "/sites", f"/clients/{fleet.client_id}/sites"):
        items = (await http.get(path)).json()["items"]
        assert [(one["agents"], one["online"]) for one in items] == [(1, 1)], path
    for path in (f"/clients/{fleet.client_id}", f"/sites/{fleet.site_id}"):
        one = (await http.get(path)).json()
        assert (one["agents"], one["online"]) == (1, 1)
    assert (await http.get("/agents/counts")).json()["total"] == 2


async def test_a_waiting_command_is_moved_to_the_front_of_its_queue(fleet: Fleet) -> None:
    """What the agent may have already stays where it is, and says so."""
    agent_id = await fleet.agent("web-01")
    first, second, third = [await fleet.command(agent_id) for _ in range(3)]
    moved = await fleet.http.put(f"/commands/{third}/priority", json={"priority": 0})
    fleet.http.headers["Fleetlog-Wait-Position"] = moved.headers["Fleetlog-Position"]
    queue = (await fleet.http.get(f"/agents/{agent_id}/queue")).json()["items"]
    assert [(one["id"], one["priority"]) for one in queue] == [(third, 0), (first, 5), (second, 5)]
    assert (await fleet.http.get(f"/commands/{third}")).json()["priority"] == 0
    await fleet.accept(agent_id, second)
    refused = await fleet.http.put(f"/commands/{second}/priority", json={"priority": 0})
    assert (refused.status_code, refused.json()["code"]) == (409, "command_under_way")
