"""An event in the log that this program cannot read: all else is served, and the event is shown as what it is."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest

from command_bus.ids import new_id
from domain.output_reads import NOT_SHOWN
from domain.roles import Role
from gateways.settings import Settings
from gateways.status import _api as look_at_api
from tests.projections.database import plant
from tests.rest.harness import Api, Fleet, made, metric, sse

BAD = [
    ("ClientRenamed/1", b'{"name":'),
    ("ClientRenamed/1", b'{"nom":"x"}'),
    ("ClientRenamed/2", b'{"name":"x"}'),
    ("NeverHeardOf/1", b"\xff\x00"),
    ("ClientRenamed", b"{}"),
]
NAMES = ["damaged", "of another shape", "of a newer program", "of no type and no text", "without a version"]


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The administrator of the server, who may do what the application may not."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize(("topic", "state"), BAD, ids=NAMES)
async def test_it_is_shown_where_it_stands(api: Api, admin: psycopg.Connection[Any], topic: str, state: bytes) -> None:
    """Pages and exports give it with its body as recorded and what is wrong with it, between its neighbours."""
    http = api.client()
    before = await made(http, "/clients", {"name": "before"})
    bad = await asyncio.to_thread(plant, admin, topic, state)
    after = await made(http, "/clients", {"name": "after"})
    for backwards in ("false", "true"):
        query = {"backwards": backwards, "limit": 500, "outputs": "true"}
        events = (await api.client().get("/events", params=query)).json()["items"]
        (shown,) = [event for event in events if event["undecodable"]]
        assert (shown["position"], shown["type"], shown["data"]) == (bad, topic.partition("/")[0], {})
        assert topic in shown["undecodable"]["error"]
        assert shown["undecodable"]["body"] == state.decode(errors="backslashreplace")
        assert shown["text"].startswith("An event that this version cannot read")
        assert {before["id"], after["id"]} <= {event["stream_id"] for event in events}
    # What this program does not know at all may hold an output, so it is shown to who asks for outputs alone.
    plain = (await api.client().get("/events", params={"limit": 500})).json()["items"]
    body = NOT_SHOWN if topic.startswith("NeverHeardOf") else state.decode(errors="backslashreplace")
    assert [event["undecodable"]["body"] for event in plain if event["undecodable"]] == [body]
    exported = [json.loads(line) for line in (await api.client().get("/events/export")).text.splitlines()]
    assert [event["position"] for event in exported if event["undecodable"]] == [bad]
    assert exported[-1]["position"] == await api.log.head()


async def test_streams_name_it_and_go_on(api: Api, admin: psycopg.Connection[Any]) -> None:
    """Live or from the past, one event named `undecodable` stands in its place; a resumed stream goes on after it."""

    async def listen(count: int, ready: asyncio.Event | None = None, **headers: str) -> list[tuple[Any, str, Any]]:
        async with api.client().stream("GET", "/events/stream", headers=headers) as response:
            if ready is not None:
                ready.set()
            events = sse(response)
            return [await anext(events) for _ in range(count)]

    head = str(await api.log.head())
    ready = asyncio.Event()
    live = asyncio.create_task(listen(3, ready))
    await ready.wait()
    bad = await asyncio.to_thread(plant, admin, "ClientRenamed/2", b'{"name":"x"}')
    await made(api.client(), "/clients", {"name": "after"})
    async with asyncio.timeout(20):
        for seen in (await live, await listen(3, **{"Last-Event-ID": head})):
            assert [name for _, name, _ in seen[:2]] == ["undecodable", "ClientCreated"]
            assert (seen[0][0], seen[0][2]["position"]) == (str(bad), bad)
            assert seen[0][2]["undecodable"]["body"] == '{"name":"x"}'
        resumed = await listen(1, **{"Last-Event-ID": str(bad)})
    assert resumed[0][1] == "ClientCreated"


async def test_it_is_a_fault_that_stops_nobody(api: Api, admin: psycopg.Connection[Any]) -> None:
    """`/readyz` stays 200 and names the position, `/metrics` counts it, and `status` shows the API up."""
    counted = await metric(api, "fleetlog_undecodable_events_total")
    bad = await asyncio.to_thread(plant, admin, "ClientRenamed/2", b'{"name":"x"}')
    async with asyncio.timeout(20), httpx2.AsyncClient(base_url=api.url, trust_env=False) as client:
        while (ready := await client.get("/readyz")).json()["checks"]["log"]["ok"]:  # noqa: ASYNC110 - asks as a balancer does
            await asyncio.sleep(0.02)
    document = ready.json()
    assert (ready.status_code, document["status"], document["checks"]["api"]["ok"]) == (200, "ready", True)
    fault = document["checks"]["log"]
    assert fault["needed"] is False
    assert f"position {bad}" in fault["error"]
    assert "ClientRenamed/2" in fault["error"]
    assert f"position {bad}" in await look_at_api(Settings(public_url=api.url))
    assert await metric(api, "fleetlog_undecodable_events_total") == counted + 1


async def test_what_must_be_decided_from_it_is_refused_by_its_position(
    api: Api, fleet: Fleet, admin: psycopg.Connection[Any]
) -> None:
    """A change of the very thing that it happened to is a 500 that says which event; others change as ever."""
    bad = await asyncio.to_thread(plant, admin, "ClientRenamed/2", b"{}", stream_id=UUID(fleet.client_id), version=2)
    head, counted = await api.log.head(), await metric(api, "fleetlog_http_problems_total", code="undecodable_event")
    http = api.client()
    response = await http.patch(f"/clients/{fleet.client_id}", json={"name": "new"})
    assert (response.status_code, response.json()["code"]) == (500, "undecodable_event")
    assert f"position {bad}" in response.json()["detail"]
    assert await metric(api, "fleetlog_http_problems_total", code="undecodable_event") == counted + 1
    assert await api.log.head() == head
    assert (await http.post("/clients", json={"name": "other"})).status_code == 201


async def test_a_command_is_followed_past_it(api: Api, fleet: Fleet, admin: psycopg.Connection[Any]) -> None:
    """In a machine's story it has its place, and a live view of a command tells of it and of the end."""
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    await fleet.finish(agent_id, command_id)
    ids = {"stream_id": UUID(command_id), "agent_id": UUID(agent_id), "client_id": UUID(fleet.client_id)}
    bad = await asyncio.to_thread(plant, admin, "CommandSung/1", b"la", **ids)
    for path in (f"/agents/{agent_id}/timeline", f"/commands/{command_id}/events"):
        events = (await api.client().get(path)).json()["items"]
        assert [event["position"] for event in events if event["undecodable"]] == [bad]
    async with asyncio.timeout(20), api.client().stream("GET", f"/commands/{command_id}/live") as response:
        assert [name async for _, name, _ in sse(response)][-1] == "end"
    open_id = await fleet.command(agent_id)
    ids["stream_id"] = UUID(open_id)
    async with asyncio.timeout(20), api.client().stream("GET", f"/commands/{open_id}/live") as response:
        events_live = sse(response)
        assert (await anext(events_live))[1] == "state"
        bad = await asyncio.to_thread(plant, admin, "CommandSung/1", b"la", **ids)
        _, name, document = await anext(events_live)
    assert (name, document["position"]) == ("undecodable", bad)


async def test_it_belongs_to_its_tenant(api: Api, fleet: Fleet, admin: psycopg.Connection[Any]) -> None:
    """Invariant 8 holds of what cannot be read, too."""
    other = await Fleet.make(api, api.client(), "Globex")
    bad = await asyncio.to_thread(
        plant, admin, "ClientRenamed/2", b"secret", stream_id=new_id(), client_id=UUID(fleet.client_id)
    )
    for tenant, sees in ((fleet, [bad]), (other, [])):
        key = await api.key(Role.AUDITOR, [UUID(tenant.client_id)])
        events = (await api.client(key).get("/events")).json()["items"]
        assert [event["position"] for event in events if event["undecodable"]] == sees
