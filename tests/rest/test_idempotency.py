"""Doing a thing once, and changing only what one has seen."""

import asyncio

from tests.rest.harness import Fleet, made


async def test_a_key_used_twice_at_once_is_one_event(fleet: Fleet) -> None:
    """Ten concurrent requests with one Idempotency-Key queue one command, and all hear of the same one."""
    agent_id = await fleet.agent()
    body = {"agent_id": agent_id, "spec": {"kind": "ping"}}
    answers = await asyncio.gather(
        *(fleet.http.post("/commands", json=body, headers={"Idempotency-Key": "k-1"}) for _ in range(10))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 9
    queued = (await fleet.http.get("/events", params={"type": "CommandQueued"})).json()["items"]
    assert len(queued) == 1


async def test_a_key_stands_for_one_request(fleet: Fleet) -> None:
    """The same key with another body is an error, and changes nothing."""
    headers = {"Idempotency-Key": "k-2"}
    await made(fleet.http, "/clients", {"name": "One"}, **headers)
    response = await fleet.http.post("/clients", json={"name": "Two"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_mismatch")
    names = [client["name"] for client in (await fleet.http.get("/clients")).json()["items"]]
    assert "Two" not in names


async def test_a_secret_is_shown_once(fleet: Fleet) -> None:
    """The repeat of a request that made a secret gives all but the secret."""
    headers = {"Idempotency-Key": "k-3"}
    first = await made(fleet.http, "/api-keys", {"name": "ci", "role": "auditor"}, **headers)
    again = await made(fleet.http, "/api-keys", {"name": "ci", "role": "auditor"}, **headers)
    assert first["key"].startswith("flk_")
    assert again.get("key") is None
    assert first["id"] == again["id"]


async def test_an_etag_guards_an_update(fleet: Fleet) -> None:
    """If-Match: with the present version it is done, with an older one it is refused, and `*` takes any."""
    path = f"/clients/{fleet.client_id}"
    etag = (await fleet.http.get(path)).headers["etag"]
    done = await fleet.http.patch(path, json={"name": "New"}, headers={"If-Match": etag})
    assert done.status_code == 200
    assert done.headers["etag"] != etag
    for stale in (etag, 'W/"2"', '"other"'):
        response = await fleet.http.patch(path, json={"name": "Newer"}, headers={"If-Match": stale})
        assert (response.status_code, response.json()["code"]) == (412, "stale_version")
    response = await fleet.http.patch(path, json={"name": "Newer"}, headers={"If-Match": "2"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_header")
    assert (await fleet.http.patch(path, json={"name": "Newest"}, headers={"If-Match": "*"})).status_code == 200


async def test_a_write_is_seen_by_the_read_that_waits_for_it(fleet: Fleet) -> None:
    """Read your own writes: by header or by query parameter, a hundred times over."""
    path = f"/clients/{fleet.client_id}"
    for i in range(100):
        done = await fleet.http.patch(path, json={"name": f"Name {i}"})
        position = done.headers["fleetlog-position"]
        if i % 2:
            seen = await fleet.http.get(path, headers={"Fleetlog-Wait-Position": position})
        else:
            seen = await fleet.http.get(path, params={"wait_position": position})
        assert seen.json()["name"] == f"Name {i}"
        assert seen.headers["etag"] == done.headers["etag"]
