"""Rollouts over HTTP: what people start, see and steer."""

import asyncio
import hashlib
import itertools
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from command_bus.ids import new_id, utc_now
from command_bus.rollouts import FanOut
from projections.rollout_reads import RolloutReader
from schema.wire import StreamReport
from tests.command_bus.rolling_out import Impatient
from tests.rest.harness import Api, Fleet, made, sse


async def settle(api: Api, fleet: Fleet) -> None:
    """Have the fan-out do what there is to do, and the client see it."""
    fan_out = FanOut(api.log, api.in_flight, RolloutReader(api.pool.connection), Impatient(), new_id)
    while True:
        fleet.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
        await fleet.http.get("/rollouts")
        if not await fan_out.turn(utc_now() + timedelta(seconds=1)):
            return


async def start(fleet: Fleet, **more: Any) -> str:
    body = {"name": "update", "target": {"include": {"clients": [fleet.client_id]}}, "spec": {"kind": "ping"}} | more
    return str((await made(fleet.http, "/rollouts", body))["id"])


async def shown(fleet: Fleet, rollout_id: str) -> Any:
    document = (await fleet.http.get(f"/rollouts/{rollout_id}")).json()
    assert sum(document["counts"].values()) == document["targeted"] == sum(document["wave_sizes"])
    for state, count in document["counts"].items():
        assert sum(wave["counts"][state] for wave in document["waves"]) == count
    return document


async def at_site(fleet: Fleet, rollout_id: str, site_id: str) -> int:
    """How many of its agents are listed there."""
    found = await fleet.http.get(f"/rollouts/{rollout_id}/agents", params={"site_id": site_id})
    return len(found.json()["items"])


async def test_from_the_plan_to_the_end(api: Api, fleet: Fleet) -> None:
    """A plan foresees what happens; counts, agents and outcomes tell of it, and always of everybody."""
    agents = [await fleet.agent(f"host-{i}") for i in range(4)]
    target = {"include": {"clients": [fleet.client_id]}, "exclude": {"agents": [agents[0]]}}
    body = {"name": "update", "target": target, "spec": {"kind": "ping"}, "waves": [{"count": 1, "manual": True}]}
    plan = (await fleet.http.post("/rollouts/plan", json=body)).json()
    assert (plan["targeted"], plan["waves"], plan["excluded"]) == (3, [1, 2], {"excluded": 1})
    assert plan["left_out"] == [{"agent_id": agents[0], "reason": "excluded"}]
    assert (await fleet.http.get("/rollouts")).json()["items"] == []

    response = await fleet.http.post("/rollouts", json=body)
    rollout_id = response.json()["id"]
    assert response.headers["Location"].endswith(f"/rollouts/{rollout_id}")
    assert (await shown(fleet, rollout_id))["counts"]["waiting"] == 3
    await settle(api, fleet)
    document = await shown(fleet, rollout_id)
    assert (document["counts"]["queued"], document["counts"]["waiting"]) == (1, 2)
    assert [wave["state"] for wave in document["waves"]] == ["released", "waiting"]
    assert (document["ended_per_minute"], document["estimated_end"]) == (0, None)
    (site,) = (await fleet.http.get(f"/rollouts/{rollout_id}/sites")).json()["items"]
    assert (site["site_id"], site["client_id"], site["counts"]) == (fleet.site_id, fleet.client_id, document["counts"])
    assert site["site"] and site["client"]  # noqa: PT018 - both have a name
    (listed,) = (await fleet.http.get("/rollouts", params={"state": "running", "counts": True})).json()["items"]
    assert (listed["id"], listed["counts"]) == (rollout_id, document["counts"])

    (first,) = (await fleet.http.get(f"/rollouts/{rollout_id}/agents", params={"state": "queued"})).json()["items"]
    assert first["agent"].startswith("host-")
    await fleet.finish(first["agent_id"], first["command_id"], "failed")
    await settle(api, fleet)
    document = await shown(fleet, rollout_id)
    assert document["waves"][0]["state"] == "finished"
    assert document["counts"]["failed"] == 1
    await made(fleet.http, f"/rollouts/{rollout_id}/retry-failed", {})
    await made(fleet.http, f"/rollouts/{rollout_id}/release", {"reason": "known"})
    await settle(api, fleet)
    stdout = StreamReport(size=3, sha256=hashlib.sha256(b"ok\n").hexdigest(), tail=b"ok\n")
    page = (await fleet.http.get(f"/rollouts/{rollout_id}/agents", params={"limit": 2})).json()
    rest = (await fleet.http.get(f"/rollouts/{rollout_id}/agents", params={"cursor": page["next"]})).json()
    assert {item["agent_id"] for item in page["items"] + rest["items"]} == set(agents[1:])
    assert [await at_site(fleet, rollout_id, one) for one in (fleet.site_id, fleet.client_id)] == [3, 0]
    for item in page["items"] + rest["items"]:
        assert item["round"] == (2 if item["agent_id"] == first["agent_id"] else 1)
        await fleet.finish(item["agent_id"], item["command_id"], stdout=stdout, stderr=stdout)
    await settle(api, fleet)
    document = await shown(fleet, rollout_id)
    assert (document["state"], document["counts"]["succeeded"]) == ("completed", 3)
    assert document["ended_per_minute"] > 0
    (outcome,) = (await fleet.http.get(f"/rollouts/{rollout_id}/outcomes")).json()["items"]
    assert (outcome["agents"], outcome["exit_code"], outcome["stdout_sha256"]) == (3, 0, stdout.sha256)
    assert outcome["tail"] == outcome["error_tail"] == "ok\n"
    (ended,) = (await fleet.http.get(f"/rollouts/{rollout_id}/outcomes", params={"by": "exit_code"})).json()["items"]
    assert (ended["state"], ended["exit_code"], ended["stdout_sha256"], ended["tail"]) == ("succeeded", 0, None, None)
    (same,) = (await fleet.http.get(f"/rollouts/{rollout_id}/outcomes", params={"by": "output"})).json()["items"]
    assert (same["state"], same["exit_code"], same["agents"], same["tail"]) == (None, None, 3, "ok\n")


async def told(http: Any, rollout_id: str, count: int, **headers: str) -> list[Any]:
    """The first events of its stream, or all where it ends before."""
    seen: list[Any] = []
    path = f"/rollouts/{rollout_id}/stream"
    async with asyncio.timeout(20), http.stream("GET", path, headers=headers) as response:
        async for event in sse(response):
            seen.append(event)
            if len(seen) == count:
                break
    return seen


async def test_its_stream_resumes_exactly(api: Api, fleet: Fleet) -> None:
    """Each event is the whole at its position; who comes back is told what came since, and the same never twice."""
    agents = [await fleet.agent(f"host-{i}") for i in range(3)]
    rollout_id = await start(fleet)
    ((position, name, first),) = await told(fleet.http, rollout_id, 1)
    assert (name, first["counts"]["waiting"], first["state"]) == ("progress", 3, "running")
    await settle(api, fleet)
    ((position, _, second),) = await told(fleet.http, rollout_id, 1, **{"Last-Event-ID": position})
    assert second["counts"]["queued"] == 3
    watching = asyncio.create_task(told(fleet.http, rollout_id, 100, **{"Last-Event-ID": position}))
    ids = {item["agent_id"]: item["command_id"] for item in await members(fleet, rollout_id)}
    for agent_id in agents:
        await fleet.finish(agent_id, ids[agent_id])
    await settle(api, fleet)
    seen = await watching
    assert [name for _, name, _ in seen] == ["progress"] * (len(seen) - 1) + ["end"]
    assert (seen[-1][2]["state"], seen[-1][2]["counts"]["succeeded"]) == ("completed", 3)
    documents = [second, *(document for _, _, document in seen)]
    assert all(sum(document["counts"].values()) == 3 for document in documents)
    shown = [(document["version"], document["counts"]) for document in documents]
    assert all(before != after for before, after in itertools.pairwise(shown))
    positions = [int(one) for one, _, _ in seen]
    assert positions == sorted(set(positions))
    assert positions[0] > int(position)
    # One that is over is told to whoever asks, and no stream stays open for it.
    ((_, name, _),) = await told(fleet.http, rollout_id, 100)
    assert name == "end"


async def members(fleet: Fleet, rollout_id: str) -> Any:
    return (await fleet.http.get(f"/rollouts/{rollout_id}/agents")).json()["items"]


async def test_a_stream_of_what_is_not_there_is_refused(fleet: Fleet) -> None:
    """An unknown rollout is a 404, and a position that no stream gave a bad header."""
    assert (await fleet.http.get(f"/rollouts/{uuid4()}/stream")).status_code == 404
    await fleet.agent()
    path = f"/rollouts/{await start(fleet)}/stream"
    response = await fleet.http.get(path, headers={"Last-Event-ID": "yesterday"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_header")


async def test_what_cannot_be_done_has_a_code(api: Api, fleet: Fleet) -> None:
    """Each refusal says what it is about, and records nothing."""
    nobody = {"name": "x", "target": {"include": {"tags": ["none"]}}, "spec": {"kind": "ping"}}
    assert (await fleet.http.post("/rollouts", json=nobody)).json()["code"] == "rollout_empty"
    assert (await fleet.http.post("/rollouts/plan", json=nobody)).json()["targeted"] == 0
    unnamed = nobody | {"target": {"include": {"online": True}}}
    assert (await fleet.http.post("/rollouts", json=unnamed)).json()["code"] == "invalid_value"
    await fleet.agent()
    rollout_id = await start(fleet)
    for action, code in (
        ("resume", "rollout_not_paused"),
        ("release", "no_wave_left"),
        ("retry-failed", "nothing_to_retry"),
    ):
        response = await fleet.http.post(f"/rollouts/{rollout_id}/{action}", json={})
        assert (response.status_code, response.json()["code"]) == (409, code)
    await made(fleet.http, f"/rollouts/{rollout_id}/pause", {"reason": "lunch"})
    assert (await shown(fleet, rollout_id))["detail"] == "lunch"
    assert (await fleet.http.post(f"/rollouts/{rollout_id}/pause", json={})).json()["code"] == "rollout_paused"
    await made(fleet.http, f"/rollouts/{rollout_id}/resume", {})
    await made(fleet.http, f"/rollouts/{rollout_id}/abort", {})
    assert (await fleet.http.post(f"/rollouts/{rollout_id}/abort", json={})).json()["code"] == "rollout_ended"
    await settle(api, fleet)
    assert (await shown(fleet, rollout_id))["counts"]["waiting"] == 1


async def test_a_rollout_over_two_tenants_is_seen_by_who_sees_both(api: Api) -> None:
    """Whoever sees one of its clients alone learns nothing of the other's, and steers nothing."""
    acme = await Fleet.make(api, api.client(), "Acme")
    globex = await Fleet.make(api, api.client(), "Globex")
    await acme.agent()
    await globex.agent()
    both = {"include": {"clients": [acme.client_id, globex.client_id]}}
    rollout_id = await start(acme, target=both)
    head = str(await api.log.head())
    for client_ids, status in (([acme.client_id], 404), ([acme.client_id, globex.client_id], 200)):
        key = await api.key(client_ids=client_ids)  # type: ignore[arg-type]
        client = api.client(key, **{"Fleetlog-Wait-Position": head})
        for path in ("", "/agents", "/sites", "/outcomes"):
            assert (await client.get(f"/rollouts/{rollout_id}{path}")).status_code == status
        assert len((await client.get("/rollouts")).json()["items"]) == (status == 200)
        assert (await client.post(f"/rollouts/{rollout_id}/release", json={})).status_code in (404, 409)
    everything = {"name": "x", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    plan = (await api.client(await api.key(client_ids=[acme.client_id])).post("/rollouts/plan", json=everything)).json()  # type: ignore[list-item]
    assert plan["targeted"] == 1


@pytest.mark.parametrize("path", ["", "/plan"])
async def test_a_repeated_start_is_one_rollout(api: Api, fleet: Fleet, path: str) -> None:
    """The same Idempotency-Key starts one rollout, and is told the same."""
    await fleet.agent()
    body = {"name": "x", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    answers = [
        (await fleet.http.post(f"/rollouts{path}", json=body, headers={"Idempotency-Key": "once"})).json()
        for _ in range(2)
    ]
    assert [answer | {"position": 0} for answer in answers] == [answers[0] | {"position": 0}] * 2
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    assert len((await fleet.http.get("/rollouts")).json()["items"]) == (path == "")


async def test_what_is_asked_for_is_shown(api: Api, fleet: Fleet) -> None:
    """Filters, guards, hours and an open end come back as they were sent, and the queue tells of the hours."""
    agent_id = await fleet.agent()
    await fleet.agent("pc-01", "windows")
    filtered = {"include": {"everything": True, "platforms": ["linux"], "machine_types": [], "filter": ""}}
    hours = {"begins": "22:00", "ends": "05:00", "days": ["mon", "sun"], "timezone": "Europe/Berlin"}
    guard = {"max_unanswered_percent": 5, "answer_within_s": 600, "action": "abort"}
    rollout_id = await start(fleet, target=filtered, hours=hours, guard=guard, joins_within_s=3600)
    document = await shown(fleet, rollout_id)
    assert document["order"]["hours"] == hours
    assert document["guard"] == guard
    assert document["excluded"] == {"other_platform": 1}
    assert document["open_until"] > document["started_at"]
    await settle(api, fleet)
    (queued,) = (await fleet.http.get(f"/agents/{agent_id}/queue")).json()["items"]
    assert queued["hours"] == hours
    await made(fleet.http, f"/rollouts/{rollout_id}/close", {})
    assert (await fleet.http.post(f"/rollouts/{rollout_id}/close", json={})).json()["code"] == "rollout_not_open"
    body = {"name": "x", "target": {"include": {"everything": True, "filter": "facts.os ="}}, "spec": {"kind": "ping"}}
    refused = (await fleet.http.post("/rollouts/plan", json=body)).json()
    assert refused["code"] == "invalid_filter"
    assert "at 11" in refused["detail"]
    for wrong in ({"timezone": "Mars/Olympus"}, {"begins": "05:00"}):
        response = await fleet.http.post("/rollouts/plan", json=body | {"target": filtered, "hours": hours | wrong})
        assert response.status_code == (422 if "timezone" in wrong else 200)
