"""All that match: the fleet's own question is asked by the server, for rollouts and for tags."""

from typing import Any

import pytest

from command_bus.handlers import tagging
from domain.roles import Role
from tests.rest.harness import Api, Fleet, made


async def _planned(fleet: Fleet, target: dict[str, Any]) -> Any:
    return await fleet.http.post("/rollouts/plan", json={"name": "x", "target": target, "spec": {"kind": "ping"}})


async def _furnished(fleet: Fleet) -> dict[str, str]:
    agents = {name: await fleet.agent(name) for name in ("db-01", "old-01", "web-01", "web-02")}
    agents["lap-01"] = await fleet.agent("lap-01", platform="windows")
    await fleet.command(agents["db-01"])
    await fleet.http.put(f"/agents/{agents['web-01']}/tags", json={"tags": ["front", "prod"]})
    await fleet.http.put(f"/agents/{agents['web-02']}/tags", json={"tags": ["front"]})
    await fleet.http.post(f"/agents/{agents['old-01']}/suspend", json={})
    async with fleet.api.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO fleetlog.presence (agent_id, last_seen_at, gateway) VALUES (%s, '2026-05-01T12:00:00Z', 'g')",
            (agents["web-01"],),
        )
    return agents


async def test_a_rollout_is_for_those_that_the_list_shows(api: Api, fleet: Fleet) -> None:
    """Whatever the list is narrowed by: the plan is for the same machines, but for those that take no commands."""
    agents = await _furnished(fleet)
    other = await Fleet.make(api, fleet.http, "Other")
    await other.agent("web-03")
    limited = api.client(await api.key(Role.ADMIN, [fleet.client_id]))
    for filter_ in (
        {"q": "WEB"},
        {"tag": ["front"]},
        {"tag": ["front", "prod"]},
        {"platform": "windows"},
        {"client_id": fleet.client_id},
        {"site_id": fleet.site_id, "q": "01"},
        {"pending": 1},
        {"seen_after": "2026-05-01T12:00:00Z"},
        {"online": False, "retired": False},
        {"agent_version": "0.1.0", "state": "active"},
    ):
        for http in (fleet.http, limited):
            listed = (await http.get("/agents", params=filter_)).json()["items"]
            meant = {one["id"] for one in listed if one["state"] == "active"}
            assert meant
            body = {"name": "x", "target": {"include": {"matching": filter_}}, "spec": {"kind": "ping"}}
            plan = (await http.post("/rollouts/plan", json=body)).json()
            assert set(plan["agents"]) == meant, filter_
            assert plan["excluded"] == ({"suspended": 1} if len(listed) > len(meant) else {})
    # What matches joins what is named, and may be what is left out.
    both = {"include": {"agents": [agents["db-01"]], "matching": {"q": "lap"}}}
    assert set((await _planned(fleet, both)).json()["agents"]) == {agents["db-01"], agents["lap-01"]}
    but = {"include": {"clients": [fleet.client_id]}, "exclude": {"matching": {"q": "web"}}}
    assert set((await _planned(fleet, but)).json()["agents"]) == {agents["db-01"], agents["lap-01"]}


async def test_the_question_is_kept_and_its_answer_frozen(fleet: Fleet) -> None:
    """A rollout says what was asked for; who comes to match it later is no part of it."""
    await _furnished(fleet)
    target = {"include": {"matching": {"q": "web", "tag": ["front"]}}}
    started = await made(fleet.http, "/rollouts", {"name": "x", "target": target, "spec": {"kind": "ping"}})
    assert started["targeted"] == 2
    late = await fleet.agent("web-09")
    await fleet.http.put(f"/agents/{late}/tags", json={"tags": ["front"]})
    shown = (await fleet.http.get(f"/rollouts/{started['id']}")).json()
    assert shown["targeted"] == 2
    assert shown["target"]["include"]["matching"] == {"q": "web", "tag": ["front"]}


async def test_what_cannot_be_meant_is_refused(fleet: Fleet) -> None:
    """An empty question is not everything, and nobody is seen to join by what is not in the log."""
    await fleet.agent("web-01")
    empty = await _planned(fleet, {"include": {"matching": {"os": ""}}})
    assert (empty.status_code, empty.json()["code"]) == (422, "invalid_value")
    body = {"name": "x", "spec": {"kind": "ping"}, "joins_within_s": 60}
    for filter_ in ({"pending": 1}, {"seen_after": "2026-05-01T12:00:00Z"}, {"seen_before": "2026-05-01T12:00:00Z"}):
        refused = await fleet.http.post("/rollouts", json=body | {"target": {"include": {"matching": filter_}}})
        assert (refused.status_code, refused.json()["code"]) == (422, "never_joins")
    fine = {"target": {"include": {"matching": {"q": "web"}}}}
    assert (await fleet.http.post("/rollouts", json=body | fine)).status_code == 202


async def _tags(fleet: Fleet) -> dict[str, list[str]]:
    return {one["name"]: one["tags"] for one in (await fleet.http.get("/agents")).json()["items"]}


async def test_tags_are_added_and_taken_away_from_all_that_match(
    api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One event for each that changes, a part at a time; what is done is not done again, and other tags stay."""
    agents = await _furnished(fleet)
    monkeypatch.setattr(tagging, "AT_ONCE", 2)
    body = {"matching": {"retired": False}, "exclude": [agents["lap-01"]], "add": ["seen"], "remove": ["front"]}
    before = await api.log.head()
    answers = [(await fleet.http.post("/agents/tags", json=body)).json() for _ in range(3)]
    assert [(one["tagged"], one["left"]) for one in answers] == [(2, 2), (2, 0), (0, 0)]
    assert await api.log.head() == before + 4
    assert await _tags(fleet) == {
        "db-01": ["seen"],
        "lap-01": [],
        "old-01": ["seen"],
        "web-01": ["prod", "seen"],
        "web-02": ["seen"],
    }
    named = {"agents": [agents["lap-01"]], "add": ["seen"]}
    assert (await fleet.http.post("/agents/tags", json=named)).json()["tagged"] == 1
    await fleet.http.post(f"/agents/{agents['db-01']}/retire", json={})
    gone = {"agents": [agents["db-01"]], "remove": ["seen"]}
    assert (await fleet.http.post("/agents/tags", json=gone)).json()["tagged"] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"add": ["x"]}, "invalid_value"),
        ({"matching": {"q": "web"}}, "invalid_value"),
        ({"matching": {}, "add": ["x"]}, "invalid_value"),
        ({"matching": {"q": "web"}, "add": ["x"], "remove": ["x"]}, "invalid_value"),
        ({"matching": {"q": "web"}, "add": ["a b"]}, "invalid_value"),
        ({"agents": ["01890000-0000-7000-8000-000000000000"], "add": ["x"]}, "not_found"),
    ],
)
async def test_tags_that_cannot_be_meant_are_refused(fleet: Fleet, body: dict[str, Any], code: str) -> None:
    """Nobody is tagged by a question that lost its filter, or by half of one."""
    await fleet.agent("web-01")
    refused = await fleet.http.post("/agents/tags", json=body)
    assert refused.json()["code"] == code, refused.text


async def test_an_agent_has_so_many_tags_and_no_more(fleet: Fleet) -> None:
    """The one that would have too many is named, and none is changed."""
    full, other = await fleet.agent("full"), await fleet.agent("other")
    await fleet.http.put(f"/agents/{full}/tags", json={"tags": [f"t{number}" for number in range(64)]})
    refused = await fleet.http.post("/agents/tags", json={"agents": [other, full], "add": ["more"]})
    assert (refused.status_code, refused.json()["code"]) == (422, "too_many_tags")
    assert full in refused.json()["detail"]
    assert (await _tags(fleet))["other"] == []


async def test_tags_stay_within_what_the_caller_may(api: Api, fleet: Fleet) -> None:
    """Another client's machines do not exist for it; its role's cap counts all that would change, not a part of it."""
    mine = [await fleet.agent(f"web-{number}") for number in range(3)]
    other = await Fleet.make(api, api.client(), "Other")
    theirs = await other.agent("web-9")
    limited = api.client(await api.key(Role.ADMIN, [fleet.client_id]))
    assert (await limited.post("/agents/tags", json={"agents": [theirs], "add": ["x"]})).json()["code"] == "not_found"
    answer = (await limited.post("/agents/tags", json={"matching": {"q": "web"}, "add": ["x"]})).json()
    assert (answer["tagged"], answer["left"]) == (3, 0)
    fleet.http.headers["Fleetlog-Wait-Position"] = "1"
    assert (await _tags(fleet))["web-9"] == []

    role = {"permissions": ["agents.edit", "agents.see"], "limits": {"max_agents": 2}}
    await made(fleet.http, "/roles", {"name": "few", **role})
    few = api.client(await api.key_that_may(grants=[{"role": "few", "everything": True}]))
    refused = await few.post("/agents/tags", json={"matching": {"q": "web"}, "add": ["y"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "too_many_agents")
    assert (await few.post("/agents/tags", json={"agents": mine[:2], "add": ["y"]})).is_success
