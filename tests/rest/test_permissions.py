"""Permissions: every route has one, and nothing is done, given or kept beyond them."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from command_bus.authenticating import Authenticator
from command_bus.ids import new_id, utc_now
from domain.permissions import Permission
from domain.roles import Role
from gateways.rest.key_uses import KeyUses
from gateways.rest.route import Route
from gateways.rest.routes import ROUTES
from tests.rest.harness import Api, Fleet, made, sse

PEOPLE = ("/users", "/roles", "/api-keys", "/read-models")
"""What administrators and auditors alone see."""
OWN = {
    "/names",
    "/me",
    "/permissions",
    "/scripts/{script_id}/favourite",
    "/session",
    "/session/end",
    "/session/proof",
    "/session/password",
    "/session/proof/passkey",
    "/session/proof/passkey/options",
    "/session/proof/sso",
    "/session/proof/sso/offer",
    "/session/second-factor",
    "/session/second-factor/offer",
    "/session/recovery-codes",
    "/session/passkey",
    "/session/passkey/options",
    "/session/passkeys",
    "/session/passkeys/offer",
    "/session/passkeys/{passkey_id}/rename",
    "/session/passkeys/{passkey_id}/remove",
    "/session/sso",
    "/session/sso/answer",
    "/session/sso/logout",
    "/session/sso/offer",
    "/sessions",
    "/sessions/revoke",
    "/sessions/{session_id}/revoke",
}
"""Everybody's own affair; or of what is anybody's, as names, each as far as they see it."""
PING = {"kind": "ping"}
SHELL = {"kind": "run_shell", "shell": "sh", "line": "true"}
ROTATE = {"kind": "rotate_key"}
OPERATOR_DOES_NOT = {
    ("PUT", "/retention"),
    ("POST", "/server-keys/rotate"),
    ("POST", "/server-keys/retire"),
    ("POST", "/agents/{agent_id}/retire"),
    ("POST", "/agents/{agent_id}/erase"),
    ("POST", "/clients"),
    ("PATCH", "/clients/{client_id}"),
    ("POST", "/clients/{client_id}/sites"),
    ("PATCH", "/sites/{site_id}"),
    ("POST", "/enrollment-tokens"),
    ("POST", "/enrollment-tokens/{token_id}/revoke"),
    ("POST", "/enrollments/approve"),
    ("POST", "/enrollments/refuse"),
    ("POST", "/enrollments/{enrollment_id}/erase"),
    ("POST", "/secrets"),
    ("POST", "/secrets/rotate"),
    ("POST", "/secrets/{secret_id}/remove"),
    ("POST", "/fields"),
    ("POST", "/fields/{field_id}/remove"),
    ("POST", "/destinations"),
    ("PUT", "/destinations/{destination_id}"),
    ("POST", "/destinations/{destination_id}/pause"),
    ("POST", "/destinations/{destination_id}/resume"),
    ("POST", "/destinations/{destination_id}/remove"),
    ("POST", "/destinations/{destination_id}/skip"),
}
HELPDESK_DOES = {
    ("PUT", "/agents/{agent_id}/name"),
    ("PUT", "/agents/{agent_id}/tags"),
    ("POST", "/agents/tags"),
    ("POST", "/agents/{agent_id}/notes"),
    ("PUT", "/agents/{agent_id}/notes/{note_id}"),
    ("POST", "/agents/{agent_id}/notes/{note_id}/remove"),
    ("POST", "/commands"),
    ("POST", "/commands/{command_id}/cancel"),
    ("PUT", "/commands/{command_id}/priority"),
    ("POST", "/commands/{command_id}/retry"),
}


def may(role: Role, route: Route) -> bool:
    """What each built-in role is for, said once more and in other words than the roles' own."""
    of_people = route.path.startswith(PEOPLE)
    own = route.path in OWN or route.path.startswith("/views")  # and how one looks at what one sees
    if role is Role.ADMIN or own or route.path.endswith("/withdraw"):
        return True
    if route.path == "/audit/extracts":
        return True  # who may see it may take it out, and is on record for it
    if route.method == "GET":
        return not of_people or role is Role.AUDITOR
    if of_people or role in (Role.AUDITOR, Role.READ_ONLY):
        return False
    if role is Role.OPERATOR:
        return (route.method, route.path) not in OPERATOR_DOES_NOT
    return (route.method, route.path) in HELPDESK_DOES or route.path.startswith("/rollouts")


async def asked(client: httpx2.AsyncClient, route: Route) -> httpx2.Response:
    """The route's answer at an address where nothing is; of a stream, its head."""
    ids = {name: str(new_id()) for name in route.path_names} | {"revision": "1"}
    path = route.path.format(**ids)
    body = None if route.intent is None else {}
    async with client.stream(route.method, path, json=body) as response:
        if not (route.streams and response.is_success):
            await response.aread()
        return response


NEEDS_MORE = {"/destinations/{destination_id}/resume"}
"""Without a word in its body it needs more than what it declares: `tests/rest/test_destinations.py`."""


async def test_every_route_asks_for_its_permission(api: Api) -> None:
    """Each route, with each built-in role, and with roles that allow all but its permission, or nothing but that."""
    keys = {role: api.client(await api.key(role), check=False) for role in Role}
    http = api.client()
    everything = await made(http, "/roles", {"name": "all but one", "permissions": list(Permission)})
    nearly = api.client(await api.key_that_may(grants=[{"role": "all but one", "everything": True}]), check=False)
    await made(http, "/roles", {"name": "only one", "permissions": []})
    only = api.client(await api.key_that_may(grants=[{"role": "only one", "everything": True}]), check=False)
    roles = {item["name"]: item["id"] for item in (await http.get("/roles")).json()["items"]}

    async def is_forbidden(client: httpx2.AsyncClient, route: Route) -> bool:
        response = await asked(client, route)
        assert response.status_code not in (401, 429, 500, 503), (route.path, response.status_code)
        return response.status_code == 403

    for route in ROUTES:
        for role, client in keys.items():
            assert await is_forbidden(client, route) is not may(role, route), (role, route.method, route.path)
    by_permission: dict[Permission, list[Route]] = {}
    for route in ROUTES:
        if route.needs is None:
            assert route.path in OWN, f"{route.path} has no rule"
        else:
            by_permission.setdefault(route.needs, []).append(route)
    for permission, routes in by_permission.items():
        others = [one for one in Permission if one is not permission]
        await made_put(http, f"/roles/{everything['id']}", {"permissions": others})
        await made_put(http, f"/roles/{roles['only one']}", {"permissions": [permission]})
        for route in routes:
            assert await is_forbidden(nearly, route), (route.method, route.path)
            assert await is_forbidden(only, route) is (route.path in NEEDS_MORE), (route.method, route.path)


async def made_put(http: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """Change a role, and see that it holds: the answer's own process heard of it, or will within a moment."""
    response = await http.patch(path, json=body)
    assert response.is_success, response.text
    http.headers["Fleetlog-Wait-Position"] = response.headers["Fleetlog-Position"]
    # The feed that tells of it is at that position once a stream that starts from before has told.
    position = int(response.headers["Fleetlog-Position"])
    async with (
        asyncio.timeout(20),
        http.stream("GET", "/events/stream", params={"after": position - 1}) as stream,
    ):
        async for _ in sse(stream):
            break


async def user(http: httpx2.AsyncClient, name: str, *grants: dict[str, Any]) -> str:
    return str((await made(http, "/users", {"name": name, "grants": list(grants)}))["id"])


def everywhere(role: str) -> dict[str, Any]:
    return {"role": role, "everything": True}


async def until(client: httpx2.AsyncClient, path: str, status: int) -> None:
    """It takes effect at once, or as soon as this process has heard of it."""
    async with asyncio.timeout(10):
        while (await client.get(path)).status_code != status:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


async def test_a_key_does_what_its_owner_may(api: Api, fleet: Fleet) -> None:
    """Narrowing, disabling and enabling the owner, and changing a role, hold for the keys that are out already."""
    http = api.client()
    role = await made(http, "/roles", {"name": "looker", "permissions": ["agents.see", "clients.see"]})
    ada = await user(http, "Ada", {"role": "looker", "clients": [fleet.client_id]})
    # What is made for somebody else keeps to what they have then, unless it says more: this one asks for all.
    key = await made(http, "/api-keys", {"name": "laptop", "owner_id": ada, "grants": [everywhere("administrator")]})
    client = api.client(key["key"], **{"Fleetlog-Wait-Position": str(await api.log.head())})
    assert [item["name"] for item in (await client.get("/clients")).json()["items"]] == ["Acme"]
    assert (await client.get("/commands")).status_code == 403
    me = (await client.get("/me")).json()
    assert (me["user_id"], me["name"]) == (ada, "Ada")
    assert {one["permission"] for one in me["may"]} == {"agents.see", "clients.see"}
    await http.patch(f"/roles/{role['id']}", json={"permissions": ["agents.see", "commands.see"]})
    await until(client, "/clients", 403)
    assert (await client.get("/commands")).status_code == 200
    await http.put(f"/users/{ada}/grants", json={"grants": []})
    await until(client, "/commands", 403)
    await http.put(f"/users/{ada}/grants", json={"grants": [everywhere("read-only")]})
    await until(client, "/clients", 200)
    await http.post(f"/users/{ada}/disable", json={"reason": "left"})
    await until(client, "/clients", 401)
    assert (await http.post("/api-keys", json={"name": "x", "owner_id": ada})).json()["code"] == "user_disabled"
    await http.post(f"/users/{ada}/enable", json={})
    await until(client, "/clients", 200)
    wide = {"name": "wide", "owner_id": ada, "grants": [everywhere("administrator")]}
    wide_client = api.client((await made(http, "/api-keys", wide))["key"])
    assert (await wide_client.get("/clients")).status_code == 200
    assert (await wide_client.post("/clients", json={"name": "Mine"})).json()["code"] == "forbidden"
    narrow = {"name": "narrow", "owner_id": ada, "grants": [{"role": "administrator", "sites": [fleet.site_id]}]}
    narrow_client = api.client((await made(http, "/api-keys", narrow))["key"])
    assert [item["id"] for item in (await narrow_client.get("/sites")).json()["items"]] == [fleet.site_id]
    listed = (await http.get("/api-keys", params={"owner_id": ada})).json()["items"]
    assert {item["name"] for item in listed} == {"laptop", "wide", "narrow"}
    assert {item["owner"] for item in listed} == {"Ada"}


async def test_nobody_gives_more_than_they_have(api: Api, fleet: Fleet) -> None:
    """Who manages people, and may do little else, makes nobody mightier than themselves, and brings no such down."""
    http = api.client()
    await made(
        http, "/roles", {"name": "hr", "permissions": ["users.manage", "roles.manage", "keys.manage", "people.see"]}
    )
    boss = await user(http, "Boss", everywhere("administrator"))
    boss_key = await made(http, "/api-keys", {"name": "boss", "owner_id": boss})
    hr = api.client(await api.key_that_may(grants=[everywhere("hr")]))
    strong = everywhere("operator")
    refused: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/users", {"name": "x", "grants": [strong]}),
        ("POST", "/users", {"name": "x", "grants": [{"role": "operator", "sites": [fleet.site_id]}]}),
        ("PUT", f"/users/{boss}/grants", {"grants": []}),
        ("POST", f"/users/{boss}/disable", {}),
        ("PATCH", f"/users/{boss}", {"name": "y"}),
        ("POST", "/roles", {"name": "x", "permissions": ["commands.shell"]}),
        ("POST", "/api-keys", {"name": "x", "role": "administrator"}),
        ("POST", "/api-keys", {"name": "x"}),
        ("POST", "/api-keys", {"name": "x", "owner_id": boss}),
        ("POST", f"/api-keys/{boss_key['id']}/revoke", {}),
    ]
    before = await api.log.head()
    for method, path, body in refused:
        response = await hr.request(method, path, json=body)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden"), (path, body)
    assert await api.done_since(before) == []
    await made(hr, "/users", {"name": "intern", "grants": [everywhere("hr")]})
    part = await made(hr, "/api-keys", {"name": "x", "owner_id": boss, "grants": [everywhere("hr")]})
    assert (await api.client(part["key"]).get("/commands")).status_code == 403


async def test_a_kind_of_command_has_its_own_permission(api: Api, fleet: Fleet) -> None:
    """Who may run the library's scripts runs no shell line: not singly, not again, and not on many."""
    agent_id = await fleet.agent()
    http = fleet.http
    script = await made(http, "/scripts", {"name": "s", "content": {"shell": "sh", "body": "true"}})
    run = {"kind": "run_script", "script_id": script["id"]}
    shell_id = await fleet.command(agent_id, spec=SHELL)
    await fleet.finish(agent_id, shell_id)
    rollout = {"name": "r", "target": {"include": {"agents": [agent_id]}}}
    helpdesk = api.client(await api.key(Role.HELPDESK))
    for path, body, status in (
        ("/commands", {"agent_id": agent_id, "spec": PING}, 202),
        ("/commands", {"agent_id": agent_id, "spec": run}, 202),
        ("/commands", {"agent_id": agent_id, "spec": SHELL}, 403),
        (f"/commands/{shell_id}/retry", {}, 403),
        ("/rollouts", rollout | {"spec": run}, 202),
        ("/rollouts", rollout | {"spec": SHELL}, 403),
        ("/rollouts/plan", rollout | {"spec": SHELL}, 403),
    ):
        response = await helpdesk.post(path, json=body)
        assert response.status_code == status, (path, body, response.text)


async def test_agents_keys_are_changed_by_a_permission_of_its_own(api: Api, fleet: Fleet) -> None:
    """Who names machines and runs scripts on them has none make another key: not singly, not again, not on many."""
    agent_id = await fleet.agent()
    rotation = await fleet.command(agent_id, spec=ROTATE)
    await fleet.finish(agent_id, rotation)
    rollout = {"name": "r", "target": {"include": {"agents": [agent_id]}}, "spec": ROTATE}
    rollout_id = (await made(fleet.http, "/rollouts", rollout))["id"]
    tries: list[tuple[str, dict[str, Any]]] = [
        ("/commands", {"agent_id": agent_id, "spec": ROTATE}),
        (f"/commands/{rotation}/retry", {}),
        ("/rollouts", rollout),
        ("/rollouts/plan", rollout),
        (f"/rollouts/{rollout_id}/retry-failed", {}),
    ]
    helpdesk = api.client(await api.key(Role.HELPDESK))
    before = await api.log.head()
    for path, body in tries:
        refused = await helpdesk.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path
        assert "agents.keys" in refused.json()["detail"]
    assert await api.done_since(before) == []
    operator = api.client(await api.key(Role.OPERATOR))
    for path, body in tries[:-1]:
        assert (await operator.post(path, json=body)).is_success, path


async def test_an_action_touches_no_more_agents_than_the_role_says(api: Api, fleet: Fleet) -> None:
    """A rollout to more is refused before anything is recorded; a key's own limit is no way around its owner's."""
    http = fleet.http
    for number in range(3):
        await fleet.agent(f"m{number}")
    starts = ["rollouts.start", "commands.queue", "agents.see"]
    await made(http, "/roles", {"name": "two", "permissions": starts, "limits": {"max_agents": 2}})
    await made(http, "/roles", {"name": "any", "permissions": starts})
    ada = await user(http, "Ada", everywhere("two"))
    bob = await user(http, "Bob", everywhere("two"), {"role": "any", "clients": [fleet.client_id]})
    elsewhere = (await made(http, "/clients", {"name": "Globex"}))["id"]
    cyd = await user(http, "Cyd", everywhere("two"), {"role": "any", "clients": [elsewhere]})
    to_all = {"name": "r", "target": {"include": {"everything": True}}, "spec": PING}
    body = {"name": "a", "owner_id": ada, "grants": [everywhere("any")], "unattended": True}
    few = api.client((await made(http, "/api-keys", body))["key"])
    many = api.client((await made(http, "/api-keys", {"name": "b", "owner_id": bob, "unattended": True}))["key"])
    no_use = api.client((await made(http, "/api-keys", {"name": "c", "owner_id": cyd, "unattended": True}))["key"])
    before = await api.log.head()
    for client in (few, no_use):
        for body in (to_all, to_all | {"joins_within_s": 60}):
            response = await client.post("/rollouts", json=body)
            assert (response.status_code, response.json()["code"]) == (403, "too_many_agents")
    assert await api.done_since(before) == []
    assert (await few.post("/rollouts/plan", json=to_all)).json()["targeted"] == 3
    assert (await many.post("/rollouts", json=to_all)).status_code == 202


async def test_a_sites_stream_follows_its_machines(api: Api, fleet: Fleet) -> None:
    """A live stream tells of a machine from when it comes to the site until it leaves it, and of no other."""
    http = fleet.http
    attic = (await made(http, f"/clients/{fleet.client_id}/sites", {"name": "Attic"}))["id"]
    stays, comes = await fleet.agent("stays"), await Fleet(api, http, fleet.client_id, attic).agent("comes")
    listener = api.client(await api.key_that_may(grants=[{"role": "auditor", "sites": [fleet.site_id]}]))

    async def tag(agent_id: str, word: str) -> None:
        assert (await http.put(f"/agents/{agent_id}/tags", json={"tags": [word]})).is_success

    async def move(agent_id: str, site_id: str) -> None:
        assert (await http.put(f"/agents/{agent_id}/site", json={"site_id": site_id})).is_success

    head = await api.log.head()
    async with asyncio.timeout(20), listener.stream("GET", "/events/stream", params={"after": head}) as stream:
        events = sse(stream)
        await tag(comes, "before")
        await tag(stays, "one")
        seen = [(await anext(events))[2]]
        await move(comes, fleet.site_id)
        await tag(comes, "within")
        await move(comes, attic)
        await tag(comes, "after")
        await tag(stays, "two")
        while not seen or seen[-1]["data"].get("tags") != ["two"]:
            seen.append((await anext(events))[2])
    told = [(event["agent_id"], event["data"].get("tags")) for event in seen if event["type"] == "AgentTagged"]
    assert told == [(stays, ["one"]), (comes, ["within"]), (stays, ["two"])]
    past = (await listener.get("/events", params={"type": "AgentTagged"})).json()["items"]
    assert {event["agent_id"] for event in past} == {stays}


async def streams(fleet: Fleet) -> list[str]:
    """Of the log, of a command that waits, and of a rollout that goes on: none ends by itself."""
    agent_id = await fleet.agent()
    command_id = await fleet.command(agent_id)
    rollout = {"name": "r", "target": {"include": {"agents": [agent_id]}}, "spec": PING}
    rollout_id = (await made(fleet.http, "/rollouts", rollout))["id"]
    return ["/events/stream", f"/commands/{command_id}/live", f"/rollouts/{rollout_id}/stream"]


async def read_to_the_end(client: httpx2.AsyncClient, path: str, ready: asyncio.Event) -> None:
    async with client.stream("GET", path) as stream:
        assert stream.status_code == 200
        ready.set()
        async for _ in sse(stream):
            pass


async def test_a_stream_ends_when_its_reader_may_no_longer(api: Api, fleet: Fleet) -> None:
    """Streams of the log, of a command and of a rollout end once the owner of the key may see no more."""
    http = fleet.http
    paths = await streams(fleet)
    ada = await user(http, "Ada", everywhere("auditor"))
    client = api.client((await made(http, "/api-keys", {"name": "k", "owner_id": ada}))["key"])
    ready = [asyncio.Event() for _ in paths]
    reading = [asyncio.create_task(read_to_the_end(client, *each)) for each in zip(paths, ready, strict=True)]
    async with asyncio.timeout(20):
        for event in ready:
            await event.wait()
        assert (await http.put(f"/users/{ada}/grants", json={"grants": []})).is_success
        await asyncio.gather(*reading)
    assert (await client.get("/events")).status_code == 403


async def test_a_key_opens_nothing_once_its_time_is_up(api: Api, fleet: Fleet) -> None:
    """Until then it does; what was begun under it ends then, without anybody having recorded anything."""
    paths = await streams(fleet)
    until = (api.clock() + timedelta(minutes=1)).isoformat()
    body = {"name": "k", "grants": [everywhere("auditor")], "expires_at": until}
    # Each by a key of its own: with one, what ends a stream would end the others, too.
    clients = [api.client((await made(fleet.http, "/api-keys", body))["key"]) for _ in paths]
    for client in clients:
        assert (await client.get("/events")).status_code == 200
    head = await api.log.head()
    api.clock.ahead += timedelta(seconds=55)
    async with asyncio.timeout(20):
        await asyncio.gather(*[read_to_the_end(*one, asyncio.Event()) for one in zip(clients, paths, strict=True)])
    assert await api.done_since(head) == []
    api.clock.ahead += timedelta(seconds=5)
    for client in clients:
        refused = await client.get("/events")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")


async def test_roles_that_are_built_in_stay_as_they_are(api: Api) -> None:
    """They are listed with the others, by names that nobody else can take, and cannot be changed."""
    http = api.client()
    listed = (await http.get("/roles")).json()["items"]
    assert [item["name"] for item in listed] == [role.value for role in Role]
    shown = await http.get(f"/roles/{Role.HELPDESK.id}")
    limits = {"max_agents": 25, "approval_above": None, "approval_for": []}
    assert (shown.json()["built_in"], shown.json()["limits"]) == (True, limits)
    for method, path, body in (
        ("PATCH", f"/roles/{Role.OPERATOR.id}", {"permissions": []}),
        ("POST", f"/roles/{Role.OPERATOR.id}/retire", {}),
        ("POST", "/roles", {"name": "Operator", "permissions": []}),
    ):
        response = await http.request(method, path, json=body)
        assert (response.status_code, response.json()["code"]) == (409, "built_in_role")


@pytest.mark.parametrize("place", ["clients", "sites"])
async def test_a_grant_names_what_there_is(api: Api, place: str) -> None:
    """Roles, clients and sites that do not exist are not granted, nor a grant over nothing."""
    http = api.client()
    nobody = str(UUID(int=7))
    for grant, code in (
        ({"role": "operator", place: [nobody]}, "not_found"),
        ({"role": "king", "everything": True}, "not_found"),
        ({"role": nobody, "everything": True}, "not_found"),
        ({"role": "operator"}, "invalid_value"),
    ):
        response = await http.post("/users", json={"name": "x", "grants": [grant]})
        assert response.json()["code"] == code, grant


async def test_when_a_key_was_last_used_is_noted(api: Api) -> None:
    """It is shown with the key, and never goes back."""
    authenticator = Authenticator(api.log)
    uses = KeyUses(api.pool, authenticator.take_used)
    late, early = utc_now(), utc_now() - timedelta(hours=1)
    for at in (late, early):
        await authenticator.authenticate(api.admin_key, at)
        await uses.note()
    head = await api.log.head()
    (key,) = (await api.client().get("/api-keys", params={"wait_position": head})).json()["items"]
    assert datetime.fromisoformat(key["last_used_at"]) == late
