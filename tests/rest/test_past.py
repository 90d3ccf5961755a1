"""Reads as of an earlier time: what was, to those who may see it now."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest

from command_bus.handlers.presence import Arrival, Departure, PresenceHandler
from command_bus.ids import new_id
from command_bus.postgres import app_conninfo
from domain.ids import AgentId, ClientId
from gateways.rest import agent_past
from gateways.rest.past import parsed
from gateways.rest.route import EVENT_STREAM
from gateways.rest.routes import ROUTES
from projections import replays
from tests.rest.harness import Api, Fleet, made
from tests.rest.test_isolation import address, furnish

PAST = [route for route in ROUTES if route.of_past]
OF_NOW = {"last_seen_at", "last_used_at", "known_by", '"machines":'}


async def replay(api: Api, url: str, name: str = "then") -> int:
    """A replay of all that is in the log."""
    made = await asyncio.to_thread(replays.make, app_conninfo(url), await api.log.head(), name)
    return made.position


async def caught_up(api: Api) -> None:
    await api.waiter.wait(await api.log.head(), ["agents", "commands", "rollouts", "secrets", "fields"], 10)


async def answers(http: httpx2.AsyncClient, paths: dict[str, str], **query: Any) -> dict[str, Any]:
    found = {}
    for name, path in paths.items():
        response = await http.get(path, params=query)
        assert response.status_code in (200, 404), (path, response.text)
        found[name] = response.text
    return found


async def test_every_read_answers_as_of_then(api: Api, postgres_url: str) -> None:
    """Each route that reads says of a position what it said when the log ended there, whatever happened since."""
    tenant = await furnish(api, "acme")
    http = api.client()
    script = await made(http, "/scripts", {"name": "s", "content": {"shell": "sh", "body": "true"}})
    await made(http, "/users", {"name": "Ada"})
    await caught_up(api)
    paths = {
        route.path: address(route, tenant, script["id"])
        for route in PAST
        if not (set(route.path_names) - {"revision", "checkpoint", "script_id"} - set(tenant.ids))
    }
    assert len(paths) > 25
    http.headers.pop("Fleetlog-Wait-Position")
    before = await answers(http, paths)
    position = await replay(api, postgres_url)
    # Then all of it changes.
    agent = tenant.ids["agent_id"]
    await http.put(f"/agents/{agent}/name", json={"name": "renamed"})
    await http.patch(f"/clients/{tenant.ids['client_id']}", json={"name": "Globex"})
    await http.patch(f"/agents/{agent}/fields", json={"values": {"seat": "other"}})
    await http.post(f"/secrets/{tenant.ids['secret_id']}/remove", json={})
    await http.post("/commands", json={"agent_id": agent, "spec": {"kind": "ping"}})
    await http.post(f"/rollouts/{tenant.ids['rollout_id']}/abort", json={})
    await http.post(f"/scripts/{script['id']}/archive", json={})
    await http.post(f"/enrollment-tokens/{tenant.ids['token_id']}/revoke", json={})
    await made(http, "/users", {"name": "Grace"})
    await caught_up(api)
    http.headers.pop("Fleetlog-Wait-Position")
    now = await answers(http, paths)
    then = await answers(http, paths, at=position)
    for path, text in before.items():
        if "remaining" not in text and not any(name in text for name in OF_NOW):
            assert then[path] == text, path
    assert sum(now[path] != then[path] for path in paths) > 10
    # By its name, by its position, by the header, by the time: the same.
    (event,) = await api.log.read(after=position - 1, limit=1)
    for asked in ("then", str(position), event.recorded_at.isoformat()):
        response = await http.get("/agents", headers={"Fleetlog-At": asked})
        assert response.headers["Fleetlog-At"] == str(position)
        assert response.json()["items"][0]["name"] == "acme-host"
        assert (await http.get("/agents", params={"at": asked})).text == response.text


async def test_what_lies_beside_the_read_models_is_of_then_too(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """Identities and causes out of the log; of forwarding what is in it, and nothing of how far that is."""
    http = api.client()
    user = await made(http, "/users", {"name": "Ada"})
    one, two = ({"subject": text, "issuer": "https://login.example.com"} for text in ("one", "two"))
    identities = f"/users/{user['id']}/identities"
    await made(http, identities, one)
    hook = {"name": "siem", "to": {"kind": "webhook", "url": "https://hook.example.com/in"}}
    hook_id = (await made(http, "/destinations", hook))["id"]
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    position = await replay(api, postgres_url)
    await fleet.finish(agent_id, command_id)
    await made(http, identities, two)
    await made(http, f"/destinations/{hook_id}/pause", {"reason": "later"})
    paused_at = await api.log.head()

    async def read(path: str, at: int | None) -> dict[str, Any]:
        answer: dict[str, Any] = (await http.get(path, params={} if at is None else {"at": at})).json()
        return answer

    subjects = [[item["subject"] for item in (await read(identities, at))["items"]] for at in (position, None)]
    assert subjects == [["one"], ["one", "two"]]
    assert (await read(identities, 1))["code"] == "not_found"
    ends = [(await read(f"/commands/{command_id}/causes", at))["items"][0]["event"] for at in (position, None)]
    assert [end["type"] for end in ends] == ["CommandQueued", "CommandSucceeded"]
    why = f"/events/{ends[0]['position']}/causes"
    assert await read(why, position) == await read(why, None)
    assert (await read(why, ends[0]["position"] - 1))["code"] == "not_found"
    assert (await read(f"/events/{ends[1]['position']}/causes", position))["code"] == "not_found"
    for then in (await read(f"/destinations/{hook_id}", position), (await read("/destinations", position))["items"][0]):
        assert (then["name"], then["state"], then["reason"], then["lag"], then["sent"]) == (
            "siem",
            None,
            "",
            None,
            None,
        )
    now = await read(f"/destinations/{hook_id}", None)
    assert (now["state"], now["reason"], now["sent"]) == ("paused", "later", 0)
    await asyncio.to_thread(replays.make, app_conninfo(postgres_url), paused_at, "paused")
    assert (await read(f"/destinations/{hook_id}", paused_at))["state"] == "paused"


async def test_what_cannot_be_asked_of_the_past_is_refused(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """Writes, streams and who one is are about now; a position without a replay, or beyond the log, says so."""
    http = api.client()
    agent = await fleet.agent()
    position = await api.log.head()

    async def code(path: str, at: str, method: str = "GET", **more: Any) -> str:
        response = await http.request(method, path, headers={"Fleetlog-At": at}, **more)
        assert not response.is_success
        return str(response.json()["code"])

    assert await code("/me", "1") == "not_of_past"
    assert await code("/audit/head", "1") == "not_of_past"
    assert await code("/events/stream", "1") == "not_of_past"
    assert await code("/commands", "1", "POST", json={"agent_id": agent, "spec": {"kind": "ping"}}) == "not_of_past"
    assert await api.log.head() == position
    assert await code("/agents", str(position)) == "no_replay"
    assert await code("/agents", str(position + 1)) == "position_ahead"
    assert await code("/agents", "nobody") == "unknown_replay"
    assert await code("/agents", "-7") == "malformed_header"
    response = await http.get("/agents", params={"at": "-7"})
    assert response.json()["errors"][0]["pointer"] == "?at"
    # The log itself needs no replay.
    events = (await http.get("/events", params={"at": position - 1, "backwards": "true"})).json()["items"]
    assert events[0]["position"] == position - 1
    export = (await http.get("/events/export", params={"at": 2})).text
    assert export.count("\n") == 2
    await replay(api, postgres_url)
    assert (await http.get("/agents", params={"at": position})).is_success
    await asyncio.to_thread(replays.drop, app_conninfo(postgres_url), "then")
    assert await code("/agents", str(position)) == "no_replay"


async def test_permissions_hold_as_of_now(api: Api, postgres_url: str) -> None:
    """Who was let in later sees the past; who was let out sees none of it, though it was theirs then."""
    acme, globex = await furnish(api, "acme"), await furnish(api, "globex")
    http = api.client()
    await made(http, "/users", {"name": "Ada", "grants": [acme.grant]})
    ada = (await http.get("/users")).json()["items"][0]["id"]
    key = (
        await made(
            http, "/api-keys", {"name": "k", "owner_id": ada, "grants": [{"role": "administrator", "everything": True}]}
        )
    )["key"]
    await caught_up(api)
    position = await replay(api, postgres_url)
    changed = await http.put(f"/users/{ada}/grants", json={"grants": [globex.grant]})
    assert changed.is_success, changed.text
    theirs = api.client(key, **{"Fleetlog-At": str(position)})

    async def seen() -> str:
        return "".join([(await theirs.get(path)).text for path in ("/agents", "/commands", "/rollouts", "/events")])

    async with asyncio.timeout(10):
        while "globex-host" not in (text := await seen()):  # a key's rights are believed for a second
            pass
    assert not [word for word in acme.words if word in text]
    assert (await theirs.get(f"/agents/{acme.ids['agent_id']}")).status_code == 404
    assert (await theirs.get("/users")).status_code in (200, 403)


async def test_one_machine_needs_no_replay(api: Api, postgres_url: str) -> None:
    """Itself and its queue are worked out from its events: to each caller as a replay says, in pages, too."""
    acme, globex = await furnish(api, "acme"), await furnish(api, "globex")
    http, agent, client = api.client(), acme.ids["agent_id"], acme.ids["client_id"]
    other = (await made(http, f"/clients/{client}/sites", {"name": "Annex"}))["id"]
    presence, them = PresenceHandler(api.log, new_id), (AgentId(UUID(agent)), ClientId(UUID(client)))
    arrival = Arrival(agent_id=them[0], client_id=them[1], address="10.0.0.7", transport="nats")
    await presence.connected([arrival], "one")
    await presence.facts(*them, {"os": "Debian\x00", "agent_version": "9", "disks": [{"b": 1, "mount": "/"}]})
    fleet = Fleet(api, http, client, other)
    for priority in (7, 3):
        await fleet.command(agent, priority=priority)
    running = await fleet.command(agent)
    await fleet.accept(agent, running)
    await fleet.start(agent, running)
    early = await api.log.head()
    await http.put(f"/agents/{agent}/site", json={"site_id": other})
    await http.patch(f"/sites/{other}", json={"name": "Annex II"})
    await presence.disconnected([Departure(agent_id=them[0], client_id=them[1])], "one")
    await http.put(f"/agents/{agent}/tags", json={"tags": ["eu", "prod"]})
    await fleet.finish(agent, running)
    late = await api.log.head()
    await http.post(f"/agents/{agent}/retire", json={})
    await caught_up(api)
    here = [{"role": "administrator", "sites": [site]} for site in (acme.ids["site_id"], other)]
    keys = [None, *[await api.key_that_may(grants=[grant]) for grant in (acme.grant, globex.grant, *here)]]
    clients = [api.client(key) for key in keys]

    async def seen(position: int) -> list[Any]:
        found = []
        for path, query in ((f"/agents/{agent}", {}), (f"/agents/{agent}/queue", {"limit": 2})):
            for caller in clients:
                answer = await caller.get(path, params={"at": position, **query})
                found.append((answer.status_code, answer.json() if answer.is_success else None))
                if answer.is_success and answer.json().get("next"):
                    rest = {"at": position, "cursor": answer.json()["next"]}
                    found.append((await caller.get(path, params=rest)).json())
        return found

    for position in (early, late):
        worked_out = await seen(position)
        await asyncio.to_thread(replays.make, app_conninfo(postgres_url), position, "then")
        assert await seen(position) == worked_out
        await asyncio.to_thread(replays.drop, app_conninfo(postgres_url), "then")
        # The administrator, the client and where it is now see it; another client, and where it was, do not.
        assert [one[0] for one in worked_out if isinstance(one, tuple)][:5] == [200, 200, 404, 404, 200]
    assert (await http.get(f"/agents/{agent}", params={"at": early})).json()["pending"] == 4
    assert (await http.get(f"/agents/{agent}", params={"at": 1})).status_code == 404


async def test_who_has_too_long_a_story_asks_a_replay(api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worked out at once has its bounds, and beyond them it is said what helps."""
    http, agent = api.client(), await fleet.agent()
    await fleet.command(agent)
    position = await api.log.head()
    for bound in ("MOST_TOLD", "MOST_TURNS"):
        with monkeypatch.context() as narrow:
            narrow.setattr(agent_past, "PAGE", 1)
            narrow.setattr(agent_past, bound, 1)
            refused = await http.get(f"/agents/{agent}", params={"at": position})
            assert refused.json()["code"] == "no_replay"
            assert f"--at {position}" in refused.json()["detail"]
    assert (await http.get(f"/agents/{agent}", params={"at": position})).json()["pending"] == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0", int),
        ("12", int),
        ("at-12", str),
        ("0001-01-01T00:00:00+23:59", datetime),
        ("9999-12-31T23:59:59-23:59", datetime),
        ("2026-05-01T18:00:00Z", datetime),
        ("2026-05-01T18:00:00+02:00", datetime),
    ],
)
def test_what_says_when(text: str, what: type) -> None:
    """Positions, names and times with a zone are understood."""
    assert isinstance(parsed(text), what)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "2026-05-01T18:00:00", "a b", "99999999999999999"])
def test_what_does_not_say_when(text: str) -> None:
    """Times without a zone, and whatever is none of the three, are not guessed at."""
    assert parsed(text) is None


def test_every_list_and_single_thing_can_be_asked_of_the_past() -> None:
    """Whatever projections answer.

    But for who one is and what one likes, names, how busy a machine was, and what follows the present.
    """
    answered = [route for route in ROUTES if route.method == "GET" and route.reads]
    cannot = {route.path for route in answered if not route.of_past and route.media_type != EVENT_STREAM}
    assert cannot == {
        "/me",
        "/favourites",
        "/names",
        "/agents/{agent_id}/telemetry",
    }
