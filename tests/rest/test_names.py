"""What ids are called."""

from uuid import uuid4

import pytest

from tests.rest.harness import Api, Fleet, made


async def test_ids_of_every_kind_have_their_names(fleet: Fleet) -> None:
    """Each by its kind, all in one question; what is nothing, or has no name, is left out."""
    http = fleet.http
    agent_id = await fleet.agent("web-01")
    script = await made(http, "/scripts", {"name": "backup", "content": {"shell": "sh", "body": "true"}})
    user = await made(http, "/users", {"name": "Ada", "kind": "person", "email": "", "grants": []})
    role = await made(http, "/roles", {"name": "looker", "permissions": ["agents.see"]})
    rollout = {"name": "update", "target": {"include": {"agents": [agent_id]}}, "spec": {"kind": "ping"}}
    started = await made(http, "/rollouts", rollout)
    wanted = {
        agent_id: ("agent", "web-01"),
        fleet.client_id: ("client", "Acme"),
        fleet.site_id: ("site", "Main"),
        script["id"]: ("script", "backup"),
        user["id"]: ("user", "Ada"),
        role["id"]: ("role", "looker"),
        started["id"]: ("rollout", "update"),
    }
    items = (await http.get("/names", params={"id": [*wanted, str(uuid4())]})).json()["items"]
    assert {one["id"]: (one["kind"], one["name"]) for one in items} == wanted


async def test_what_another_tenant_has_is_not_named(api: Api, fleet: Fleet) -> None:
    """Machines, clients, sites and rollouts of others have no name for whom they are not (invariant 8)."""
    agent_id = await fleet.agent("web-01")
    rollout = {"name": "update", "target": {"include": {"agents": [agent_id]}}, "spec": {"kind": "ping"}}
    started = await made(fleet.http, "/rollouts", rollout)
    other = await Fleet.make(api, fleet.http, "Globex")
    ids = [agent_id, fleet.client_id, fleet.site_id, started["id"], other.client_id]

    async def named(**over: list[str]) -> set[str]:
        http = api.client(await api.key_that_may(grants=[{"role": "read-only", **over}]))
        headers = {"Fleetlog-Wait-Position": fleet.http.headers["Fleetlog-Wait-Position"]}
        return {one["name"] for one in (await http.get("/names", params={"id": ids}, headers=headers)).json()["items"]}

    assert await named(clients=[other.client_id]) == {"Globex"}
    assert await named(clients=[fleet.client_id]) == {"web-01", "Acme", "Main", "update"}
    assert await named(sites=[fleet.site_id]) == {"web-01", "Acme", "Main"}


@pytest.mark.parametrize(
    ("permission", "kinds"),
    [
        ("commands.see", set()),
        ("agents.see", {"agent"}),
        ("clients.see", {"client", "site"}),
        ("rollouts.see", {"rollout"}),
        ("scripts.see", {"script"}),
        ("people.see", {"user"}),
        ("roles.see", {"role"}),
        ("events.see", {"agent", "client", "site", "rollout", "script", "user", "role"}),
    ],
)
async def test_who_sees_a_kind_of_things_is_told_their_names(
    api: Api, fleet: Fleet, permission: str, kinds: set[str]
) -> None:
    """Without the log, each kind by its own permission; what concerns all tenants, to who has it over everything."""
    http = fleet.http
    agent_id = await fleet.agent("web-01")
    script = await made(http, "/scripts", {"name": "backup", "content": {"shell": "sh", "body": "true"}})
    user = await made(http, "/users", {"name": "Ada", "kind": "person", "email": "", "grants": []})
    role = await made(http, "/roles", {"name": "looker", "permissions": [permission]})
    rollout = {"name": "update", "target": {"include": {"agents": [agent_id]}}, "spec": {"kind": "ping"}}
    started = await made(http, "/rollouts", rollout)
    ids = [agent_id, fleet.client_id, fleet.site_id, script["id"], user["id"], role["id"], started["id"]]
    headers = {"Fleetlog-Wait-Position": http.headers["Fleetlog-Wait-Position"]}

    async def kinds_named(**over: object) -> set[str]:
        looking = api.client(await api.key_that_may(grants=[{"role": "looker", **over}]))
        items = (await looking.get("/names", params={"id": ids}, headers=headers)).json()["items"]
        return {one["kind"] for one in items}

    assert await kinds_named(everything=True) == kinds
    other = await Fleet.make(api, http, "Globex")
    of_none = {"script", "user", "role"} if permission == "events.see" else kinds & {"script"}
    assert await kinds_named(clients=[other.client_id]) == of_none
