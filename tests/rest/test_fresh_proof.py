"""What can do harm asks a person's session for a fresh proof, and says so before anything else comes of it."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from command_bus.bus import Intent
from command_bus.context import Caller
from command_bus.ids import new_id, utc_now
from command_bus.intents.api_keys import CreateApiKey
from command_bus.refusals import EACH_MINUTE
from domain.permissions import Permission
from domain.refusals import RequestRefused
from domain.roles import Role
from gateways.rest.routes import ROUTES
from projections.rollout_reads import RolloutReader
from tests.rest.harness import Api, Fleet, composed, made
from tests.rest.people import FIRST, SECOND, Person
from tests.rest.test_rollouts import members, settle

ALL: dict[str, Any] = {"role": "administrator", "everything": True}
GRAVE = {
    Permission.AGENTS_RETIRE,
    Permission.USERS_MANAGE,
    Permission.ROLES_MANAGE,
    Permission.KEYS_MANAGE,
    Permission.SECRETS_MANAGE,
    Permission.FORWARDING_MANAGE,
    Permission.RETENTION_MANAGE,
    Permission.SERVER_KEYS_MANAGE,
    Permission.PERSONAL_ERASE,
}
LATER = timedelta(minutes=10)
ROTATE = {"kind": "rotate_key"}
CONTENT = {"shell": "sh", "body": "true"}


def intents() -> set[type[Intent]]:
    return {route.intent for route in ROUTES if route.intent is not None}


def test_who_may_do_what_and_secrets_are_grave() -> None:
    """Requests about people, roles, keys and secrets, a machine's end, and the word that lets another's through."""
    grave = {intent.__name__ for intent in intents() if intent.grave}
    assert grave == {intent.__name__ for intent in intents() if intent.needs in GRAVE} | {"ApproveRequest"}
    assert len(grave) >= 17


async def test_a_session_is_asked_after_a_while(api: Api, fleet: Fleet) -> None:
    """Ten minutes after the last proof each of them is refused, on record, and not done; a proof lets all through."""
    ada = await Person.ready(api, "Ada", ALL)
    other = (await made(fleet.http, "/users", {"name": "Bob"}))["id"]
    tries: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/users", {"name": "x"}),
        ("PATCH", f"/users/{other}", {"email": "bob@example.com"}),
        ("PUT", f"/users/{other}/grants", {"grants": [ALL]}),
        ("PUT", f"/users/{other}/password", {"password": FIRST}),
        ("POST", f"/users/{other}/sessions/revoke", {}),
        ("POST", "/roles", {"name": "x", "permissions": []}),
        ("POST", "/api-keys", {"name": "x"}),
        ("POST", "/secrets", {"name": "x", "value": "a value of it"}),
        ("POST", "/secrets/rotate", {}),
        ("POST", "/destinations", {"name": "x", "to": {"kind": "webhook", "url": "https://example.com"}}),
    ]
    api.clock.ahead += LATER
    head = await api.log.head()
    for method, path, body in tries:
        refused = await ada.http.request(method, path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "fresh_proof_needed"), path
    gained = [one.event for one in await api.log.read(after=head)]
    # The first of them are on record one by one.
    whose = {"code": "fresh_proof_needed", "user_id": UUID(ada.user_id)}
    assert [type(one) for one in gained] == [RequestRefused] * EACH_MINUTE
    assert [{name: getattr(one, name) for name in whose} for one in gained] == [whose] * EACH_MINUTE
    # What can do little is not asked about.
    assert (await ada.http.get("/users")).status_code == 200
    agent_id = await fleet.agent()
    ping = {"agent_id": agent_id, "spec": {"kind": "ping"}}
    assert (await ada.http.post("/commands", json=ping)).is_success
    assert (await ada.http.post("/session/proof", json={"password": SECOND})).is_success
    shown = (await ada.http.get("/session")).json()
    assert shown["proved_until"] > shown["opened_at"]
    for method, path, body in tries:
        answer = await ada.http.request(method, path, json=body)
        assert answer.is_success, (path, answer.text)
    (proved,) = await ada.events("SessionProved")
    assert (proved["data"]["proof"], proved["data"]["address"]) == ("password", "127.0.0.1")


@pytest.mark.parametrize("by", ["password", "code", "recovery"])
async def test_a_proof_is_a_password_or_a_code(api: Api, by: str) -> None:
    """Each holds for ten minutes; neither, or both at once, is no proof."""
    ada = await Person.ready(api, "Ada", ALL)
    for body in ({}, {"password": SECOND, "code": ada.code()}):
        assert (await ada.http.post("/session/proof", json=body)).json()["code"] == "invalid_value"
    api.clock.ahead += LATER
    proof = {
        "password": {"password": SECOND},
        "code": {"code": ada.code()},
        "recovery": {"code": ada.recovery_codes[4]},
    }
    assert (await ada.http.post("/session/proof", json=proof[by])).is_success
    api.clock.ahead += LATER - timedelta(seconds=5)
    assert (await ada.http.post("/roles", json={"name": "x", "permissions": []})).is_success
    api.clock.ahead += timedelta(seconds=5)
    late = await ada.http.post("/roles", json={"name": "y", "permissions": []})
    assert late.json()["code"] == "fresh_proof_needed"


async def test_a_proof_is_of_one_session(api: Api) -> None:
    """Shown in one place it is not shown in another: a stolen session does not profit by it."""
    ada = await Person.ready(api, "Ada", ALL)
    stolen = api.client(ada.token)
    other = Person(api, ada.user_id, "Ada", ada.password, ada.secret)
    await other.log_in()
    api.clock.ahead += LATER
    assert (await other.http.post("/session/proof", json={"password": SECOND})).is_success
    refused = await stolen.post("/roles", json={"name": "x", "permissions": []})
    assert refused.json()["code"] == "fresh_proof_needed"


@pytest.mark.parametrize("kind", ["service", "person"])
async def test_a_key_that_is_not_unattended_cannot_do_harm(api: Api, kind: str) -> None:
    """Nobody sits behind a key who could show themselves: one does what asks for it only if it was made for that."""
    http = api.client()
    api.clock.ahead += timedelta(hours=5)
    owner = (await made(http, "/users", {"name": kind, "kind": kind, "grants": [ALL]}))["id"]
    unattended = await made(http, "/api-keys", {"name": "u", "owner_id": owner, "unattended": True})
    plain = await made(http, "/api-keys", {"name": "p", "owner_id": owner})
    listed = {one["name"]: one["unattended"] for one in (await http.get("/api-keys")).json()["items"]}
    assert (listed["u"], listed["p"]) == (True, False)
    client = api.client(plain["key"], **{"Fleetlog-Wait-Position": str(await api.log.head())})
    joining = {"name": "r", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}, "joins_within_s": 60}
    tries: list[tuple[str, dict[str, Any]]] = [
        ("/roles", {"name": "x", "permissions": []}),
        ("/api-keys", {"name": "x", "unattended": True}),
        ("/api-keys", {"name": "x"}),
        ("/secrets", {"name": "x", "value": "a value of it"}),
        ("/rollouts", joining),
    ]
    head = await api.log.head()
    for path, body in tries:
        refused = await client.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "fresh_proof_needed"), path
        assert "--unattended" in refused.json()["detail"]
    assert await api.done_since(head) == []
    assert (await client.post("/clients", json={"name": "little harm"})).is_success
    client = api.client(unattended["key"], **{"Fleetlog-Wait-Position": str(await api.log.head())})
    for path, body in tries:
        answer = await client.post(path, json=body)
        assert answer.is_success, (path, answer.text)


async def test_many_machines_one_by_one_ask_a_key_too(postgres_url: str) -> None:
    """A loop over more agents than the setting says is one action, whoever's key walks it."""
    async with composed(postgres_url, terms={"proof_agents": 1}) as api:
        api.admin_key = await api.key()
        fleet = await Fleet.make(api, api.client(), "Acme")
        agents = [await fleet.agent(f"web-{number}") for number in range(2)]
        for unattended, last in ((True, 200), (False, 403)):
            client = api.client(await api.key_that_may(name="loop", role="operator", unattended=unattended))
            answers = [await client.post(f"/agents/{one}/suspend", json={}) for one in agents]
            assert [one.status_code for one in answers] == [200, last], answers[-1].text
            for one in agents:
                await api.client().post(f"/agents/{one}/resume", json={})


async def test_agents_keys_and_their_end_ask(api: Api, fleet: Fleet) -> None:
    """To have one agent make another key, be it again or by a rollout, and to retire it; a plan does not ask."""
    ada = await Person.ready(api, "Ada", ALL)
    agent_id = await fleet.agent()
    before = await fleet.command(agent_id, spec=ROTATE)
    await fleet.finish(agent_id, before, "failed")
    rollout = {"name": "r", "target": {"include": {"agents": [agent_id]}}, "spec": ROTATE}
    rollout_id = (await made(fleet.http, "/rollouts", rollout))["id"]
    await settle(api, fleet)
    (member,) = await members(fleet, rollout_id)
    await fleet.finish(agent_id, member["command_id"], "failed")
    await settle(api, fleet)
    tries: list[tuple[str, dict[str, Any]]] = [
        ("/commands", {"agent_id": agent_id, "spec": ROTATE}),
        (f"/commands/{before}/retry", {}),
        ("/rollouts", rollout),
        (f"/rollouts/{rollout_id}/retry-failed", {}),
        (f"/agents/{agent_id}/retire", {}),
    ]
    api.clock.ahead += LATER
    head = await api.log.head()
    for path, body in tries:
        refused = await ada.http.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "fresh_proof_needed"), path
    assert (await ada.http.post("/rollouts/plan", json=rollout)).is_success
    assert await api.done_since(head) == []
    assert (await ada.http.post("/session/proof", json={"password": SECOND})).is_success
    for path, body in tries:
        answer = await ada.http.post(path, json=body)
        assert answer.is_success, (path, answer.text)


@pytest.mark.parametrize("who", ["another", "a rollout"])
async def test_a_script_that_others_run_asks(api: Api, fleet: Fleet, who: str) -> None:
    """Who writes a script and tries it is not asked; once another runs it, or a rollout does, each change asks."""
    ada = await Person.ready(api, "Ada", ALL)
    agent_id = await fleet.agent()
    script_id = (await made(ada.http, "/scripts", {"name": "s", "content": CONTENT}))["id"]
    spec = {"kind": "run_script", "script_id": script_id}
    changes = [("revisions", {"content": CONTENT}), ("archive", {}), ("restore", {})]
    assert (await ada.http.post("/commands", json={"agent_id": agent_id, "spec": spec})).is_success
    api.clock.ahead += LATER
    for change, body in changes:
        answer = await ada.http.post(f"/scripts/{script_id}/{change}", json=body)
        assert answer.is_success, (change, answer.text)
    if who == "another":
        await fleet.command(agent_id, spec=spec)
    else:
        rollout = {"name": "r", "target": {"include": {"agents": [agent_id]}}, "spec": spec}
        assert (await ada.http.post("/rollouts", json=rollout)).is_success
    head = await api.log.head()
    for change, body in changes:
        refused = await ada.http.post(f"/scripts/{script_id}/{change}", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "fresh_proof_needed"), change
    refused = await ada.http.patch(f"/scripts/{script_id}", json={"name": "t"})
    assert (refused.status_code, refused.json()["code"]) == (403, "fresh_proof_needed")
    assert await api.done_since(head) == []
    for harmless in ({"description": "what it does"}, {"folder": "Backup"}, {"name": "s"}):
        assert (await ada.http.patch(f"/scripts/{script_id}", json=harmless)).is_success
    assert (await ada.http.post("/session/proof", json={"password": SECOND})).is_success
    assert (await ada.http.patch(f"/scripts/{script_id}", json={"name": "t"})).is_success
    for change, body in changes:
        answer = await ada.http.post(f"/scripts/{script_id}/{change}", json=body)
        assert answer.is_success, (change, answer.text)


async def test_what_was_run_long_ago_does_not_ask(api: Api, fleet: Fleet) -> None:
    """Others' runs, and rollouts that have ended, count from a moment on; a rollout that goes on does, however old."""
    agent_id = await fleet.agent()
    script_id = (await made(fleet.http, "/scripts", {"name": "s", "content": CONTENT}))["id"]
    spec = {"kind": "run_script", "script_id": script_id}

    async def caught_up(names: Collection[str]) -> None:
        await api.waiter.wait(await api.log.head(), names, 10.0)

    reader = RolloutReader(api.pool.connection, caught_up)
    began = utc_now()
    await fleet.command(agent_id, spec=spec)
    actor = (await fleet.http.get("/me")).json()["actor"]
    assert not await reader.others_run(UUID(script_id), actor, began)
    assert await reader.others_run(UUID(script_id), "user:another", began)
    assert not await reader.others_run(UUID(script_id), "user:another", utc_now())
    rollout = {"name": "r", "target": {"include": {"agents": [agent_id]}}, "spec": spec}
    rollout_id = (await made(fleet.http, "/rollouts", rollout))["id"]
    assert await reader.others_run(UUID(script_id), actor, utc_now())
    await made(fleet.http, f"/rollouts/{rollout_id}/abort", {})
    assert await reader.others_run(UUID(script_id), actor, began)
    assert not await reader.others_run(UUID(script_id), actor, utc_now())


async def test_what_touches_many_asks_too(postgres_url: str) -> None:
    """A rollout to more agents than the setting says, or to those that may join, asks; a smaller one does not."""
    async with composed(postgres_url, terms={"proof_agents": 1}) as api:
        caller = Caller(actor="system", correlation_id=new_id())
        done = await api.bus.dispatch(CreateApiKey(name="admin", role=Role.ADMIN, unattended=True), caller)
        api.admin_key = str(done.answer["key"])
        fleet = await Fleet.make(api, api.client(), "Acme")
        agents = [await fleet.agent(f"web-{number}") for number in range(2)]
        ada = await Person.ready(api, "Ada", ALL)
        ada.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
        api.clock.ahead += LATER

        def rollout(*chosen: str, **more: Any) -> dict[str, Any]:
            target = {"include": {"agents": list(chosen)}}
            return {"name": "r", "target": target, "spec": {"kind": "ping"}} | more

        refused = await ada.http.post("/rollouts", json=rollout(*agents))
        assert (refused.status_code, refused.json()["code"]) == (403, "fresh_proof_needed")
        assert (await ada.http.post("/rollouts", json=rollout(agents[0]))).is_success
        await ada.http.post("/session/proof", json={"code": ada.code()})
        assert (await ada.http.post("/rollouts", json=rollout(*agents))).is_success


async def test_who_approves_shows_themselves(api: Api, fleet: Fleet) -> None:
    """Another's request is let through by a fresh proof; whoever asked for it is not asked again by then."""
    http = fleet.http
    careful = {"permissions": ["clients.manage", "clients.see"], "limits": {"approval_for": ["clients.manage"]}}
    await made(http, "/roles", {"name": "careful", **careful})
    bob = await Person.ready(api, "Bob", {"role": "careful", "everything": True})
    asked = await bob.http.post("/clients", json={"name": "Globex"})
    approval = asked.json()["approval_id"]
    ada = await Person.ready(api, "Ada", ALL)
    api.clock.ahead += LATER
    refused = await ada.http.post(f"/approvals/{approval}/approve", json={})
    assert refused.json()["code"] == "fresh_proof_needed"
    await ada.http.post("/session/proof", json={"password": SECOND})
    assert (await ada.http.post(f"/approvals/{approval}/approve", json={})).is_success
    created = [event for event in await ada.events("ClientCreated") if event["data"]["name"] == "Globex"]
    assert [event["actor"] for event in created] == [f"user:{ada.user_id}"]
