"""The log, narrowed: to a client, and to what says something."""

import json
from typing import Any

import httpx2
import pytest

from domain.roles import Role
from gateways.rest import events
from tests.rest.harness import Api, Fleet


async def positions(client: httpx2.AsyncClient, **query: Any) -> list[int]:
    answer = await client.get("/events", params={"limit": 500} | query)
    assert answer.is_success, answer.text
    return [one["position"] for one in answer.json()["items"]]


async def test_only_what_concerns_a_client_is_told(api: Api, fleet: Fleet) -> None:
    """In lists and exports; who sees another client alone is told nothing of it (invariant 8)."""
    other = await Fleet.make(api, api.client(), "Globex")
    await other.agent("db-01")
    await fleet.agent("web-01")
    http = fleet.http
    answer = (await http.get("/events", params={"limit": 500})).json()["items"]
    ours = [one["position"] for one in answer if one["client_id"] == fleet.client_id]
    assert ours
    assert await positions(http, client_id=fleet.client_id) == ours
    export = await http.get("/events/export", params={"client_id": fleet.client_id})
    assert len(export.text.splitlines()) == len(ours)
    scoped = api.client(await api.key(Role.AUDITOR, [other.client_id]))
    assert await positions(scoped, client_id=fleet.client_id) == []
    assert await positions(scoped, client_id=other.client_id) == await positions(scoped)


async def test_what_says_something_is_found_page_by_page(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its sentence or its type, whatever the case, both ways; a page that looked far enough ends short."""
    monkeypatch.setattr(events, "PAGE", 3)
    monkeypatch.setattr(events, "MOST_PAGES", 2)
    http = fleet.http
    agent_id = await fleet.agent("web-01")
    for name in ("front", "back", "front again"):
        await http.put(f"/agents/{agent_id}/name", json={"name": name})
        for _ in range(4):
            await fleet.command(agent_id)
    for backwards in (False, True):
        found, cursor, pages = [], None, 0
        while True:
            query = {"q": "FRONT", "backwards": str(backwards).lower(), "limit": 1} | (
                {"cursor": cursor} if cursor else {}
            )
            page = (await http.get("/events", params=query)).json()
            found += [one["data"]["name"] for one in page["items"] if one["type"] == "AgentRenamed"]
            cursor, pages = page["next"], pages + 1
            if cursor is None:
                break
        assert found == (["front again", "front"] if backwards else ["front", "front again"])
        assert pages > len(found)
    exported = (await http.get("/events/export", params={"q": "FRONT", "type": "AgentRenamed"})).text.splitlines()
    assert [json.loads(one)["data"]["name"] for one in exported] == ["front", "front again"]
    assert len((await http.get("/events", params={"q": "agentrenamed", "limit": 1})).json()["items"]) <= 1
    assert (await http.get("/events", params={"q": ""})).status_code == 422
    assert (await http.get("/events", params={"q": "x", "cursor": "x"})).status_code == 400
