"""What does not end by itself: live events, live commands, exports of any size."""

import asyncio
import base64
import hashlib
import json
import zlib
from typing import Any
from uuid import UUID

import httpx2

from command_bus.ids import new_id
from domain.clients import Client
from domain.event import Metadata
from gateways.agents.outputs import OutputStore
from gateways.agents.retention import remove_beyond
from gateways.rest.events import PAGE
from schema.wire import OutputLive, StreamReport
from tests.rest.harness import Api, Fleet, made, sse


async def collect(client: httpx2.AsyncClient, path: str, count: int, **headers: str) -> list[Any]:
    """The first events of a stream; then the connection is broken off, as connections are."""
    seen: list[Any] = []
    if count == 0:
        return seen
    async with asyncio.timeout(20), client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        async for event in sse(response):
            seen.append(event)
            if len(seen) == count:
                break
    return seen


async def test_a_stream_resumes_exactly_across_reconnects(api: Api, fleet: Fleet) -> None:
    """Broken off after every few events and resumed by Last-Event-ID, a stream tells each event once and in order."""
    client = api.client()
    writing = asyncio.create_task(_rename_many(fleet, 60))
    first = await api.log.head()
    seen: list[Any] = []
    position = str(first)
    for length in (1, 2, 7, 0, 13, 1, 20, 16):
        part = await collect(client, "/events/stream", length, **{"Last-Event-ID": position})
        seen += part
        position = part[-1][0] if part else position
    await writing
    expected = await api.log.read(after=first, limit=len(seen))
    assert [int(event[0]) for event in seen] == [recorded.position for recorded in expected]
    assert [event[2]["type"] for event in seen] == [recorded.topic.partition("/")[0] for recorded in expected]
    assert [event[1] for event in seen] == [event[2]["type"] for event in seen]


async def _rename_many(fleet: Fleet, count: int) -> None:
    for i in range(count):
        await made(fleet.http, f"/clients/{fleet.client_id}/sites", {"name": f"Site {i}"})


async def test_without_a_position_a_stream_begins_now(api: Api, fleet: Fleet) -> None:
    """A fresh stream tells what comes, of the types asked for, and nothing of the past."""
    client = api.client()
    async with asyncio.timeout(20), client.stream("GET", "/events/stream", params={"type": "SiteCreated"}) as response:
        await made(fleet.http, "/clients", {"name": "Not asked for"})
        site = await made(fleet.http, f"/clients/{fleet.client_id}/sites", {"name": "Asked for"})
        _, name, document = await anext(sse(response))
    assert (name, document["stream_id"]) == ("SiteCreated", site["id"])


async def test_a_bad_last_event_id_is_refused(api: Api) -> None:
    """What no stream ever gave as an id is a bad header, and not the beginning of the log."""
    response = await api.client().get("/events/stream", headers={"Last-Event-ID": "yesterday"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_header")


async def test_a_command_is_told_live_to_its_end(api: Api, fleet: Fleet) -> None:
    """State changes and output come as they happen; the last event is the ending, and then the stream is over."""
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    seen: list[tuple[str, Any]] = []
    async with asyncio.timeout(20), fleet.http.stream("GET", f"/commands/{command_id}/live") as response:
        events = sse(response)
        position, name, first = await anext(events)
        assert (name, first["state"], first["attempt"], str(first["position"])) == ("state", "queued", 1, position)
        await fleet.start(agent_id, command_id)
        await api.live.followed.wait()
        api.live.say(OutputLive(command_id=UUID(command_id), attempt=1, stream="stdout", offset=0, data=b"a\xffb"))
        while not any(name == "output" for name, _ in seen):
            seen.append((await anext(events))[1:])
        await fleet.finish(agent_id, command_id)
        seen += [(name, data) async for _, name, data in events]
    output = [base64.b64decode(data["data"]) for name, data in seen if name == "output"]
    states = [data["state"] for name, data in seen if name != "output"]
    assert output == [b"a\xffb"]
    assert states == ["delivered", "running", "succeeded"]
    assert seen[-1][0] == "end"


async def test_a_command_that_has_ended_is_told_at_once(fleet: Fleet) -> None:
    """Who comes late hears the whole story, and the stream ends."""
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    await fleet.finish(agent_id, command_id)
    async with asyncio.timeout(20), fleet.http.stream("GET", f"/commands/{command_id}/live") as response:
        seen = [(name, data["state"]) async for _, name, data in sse(response)]
    assert seen == [("state", "queued"), ("state", "delivered"), ("state", "running"), ("end", "succeeded")]


async def test_an_export_holds_every_event_once(api: Api) -> None:
    """More events than a page holds, as one JSON document per line, up to the position that the header names."""
    names = [Client(new_id()).create(f"c{i}") for i in range(2 * PAGE + 17)]
    await api.log.append_bulk(names, Metadata(actor="system", correlation_id=new_id()))
    async with api.client().stream("GET", "/events/export", params={"type": "ClientCreated"}) as response:
        upto = int(response.headers["fleetlog-position"])
        exported = [json.loads(line) async for line in response.aiter_lines()]
    assert len(exported) == len(names)
    positions = [event["position"] for event in exported]
    assert positions == sorted(set(positions))
    assert positions[-1] <= upto


async def test_an_output_comes_back_byte_for_byte(api: Api, fleet: Fleet) -> None:
    """Any bytes, whole; an empty stream is empty; of a command that has not run there is no output yet."""
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    response = await fleet.http.get(f"/commands/{command_id}/output")
    assert (response.status_code, response.json()["code"]) == (404, "no_output")
    raw = bytes(range(256)) * 100
    told = StreamReport(size=len(raw), sha256=hashlib.sha256(raw).hexdigest(), inline=zlib.compress(raw))
    await OutputStore(api.pool).put_inline([told])
    await fleet.finish(agent_id, command_id, stdout=told)
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    response = await fleet.http.get(f"/commands/{command_id}/output")
    assert response.content == raw
    assert response.headers["content-length"] == str(len(raw))
    response = await fleet.http.get(f"/commands/{command_id}/output", params={"stream": "stderr"})
    assert (response.status_code, response.content) == (200, b"")


async def test_an_output_that_is_not_held_is_told_apart(api: Api, fleet: Fleet) -> None:
    """A result may outlive its output: 404 with a reason, and no broken answer."""
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    await fleet.finish(agent_id, command_id, stdout=StreamReport(size=5, sha256="ab" * 32))
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    response = await fleet.http.get(f"/commands/{command_id}/output")
    assert (response.status_code, response.json()["code"]) == (404, "no_output")


async def test_an_output_that_was_removed_says_when(api: Api, fleet: Fleet) -> None:
    """410 with the day and the policy; the result goes on to hold size, hash and tail."""
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    told = StreamReport(size=3, sha256=hashlib.sha256(b"abc").hexdigest(), inline=zlib.compress(b"abc"), tail=b"abc")
    await OutputStore(api.pool).put_inline([told])
    await fleet.finish(agent_id, command_id, stdout=told)
    assert (await remove_beyond(api.pool, api.log, 0)).outputs == 1
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    response = await fleet.http.get(f"/commands/{command_id}/output")
    assert (response.status_code, response.json()["code"]) == (410, "output_removed")
    assert "(for its size)" in response.json()["detail"]
    stdout = (await fleet.http.get(f"/commands/{command_id}")).json()["result"]["stdout"]
    assert (stdout["size"], stdout["sha256"]) == (3, told.sha256)


async def test_waiting_for_an_end_returns_with_it(fleet: Fleet) -> None:
    """`wait_s` holds the answer until the command has ended, for many that wait at once, and no longer."""
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    other_id = await fleet.command(agent_id)
    waiting = [asyncio.create_task(fleet.http.get(f"/commands/{command_id}?wait_s=15")) for _ in range(8)]
    await fleet.accept(agent_id, command_id)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await fleet.finish(agent_id, command_id, "failed")
    answers = await asyncio.gather(*waiting)
    assert loop.time() - began < 10
    assert [answer.json()["state"] for answer in answers] == ["failed"] * 8
    assert (await fleet.http.get(f"/commands/{other_id}?wait_s=1")).json()["state"] == "queued"
    assert (await fleet.http.get(f"/commands/{command_id}?wait_s=60")).json()["state"] == "failed"
