"""Secrets and custom fields over the API: written, listed, removed; a value comes back in no answer, error or event."""

import hashlib
import json
from typing import Any

import psycopg
import pytest

from command_bus.intents.secrets import SetSecret
from domain.idempotency import IntentAccepted
from domain.roles import Role
from tests.rest.harness import Api, Fleet, made

VALUE = "Tr0ub4dor-%-s"


async def test_a_secret_is_shown_without_its_value(fleet: Fleet, postgres_url: str) -> None:
    """Set, set again, listed, removed: each shows who and when, and nowhere what; repeats are known by their key."""
    http = fleet.http
    agent_id = await fleet.agent()
    first = await made(http, "/secrets", {"name": "Db", "value": VALUE, "note": "n"}, **{"Idempotency-Key": "once"})
    again = await http.post(
        "/secrets", json={"name": "Db", "value": VALUE, "note": "n"}, headers={"Idempotency-Key": "once"}
    )
    assert again.headers["Idempotency-Replayed"] == "true"
    second = await made(http, "/secrets", {"name": "DB", "value": VALUE + "2"})
    own = await made(http, "/secrets", {"name": "db", "value": VALUE, "scope": {"kind": "agent", "agent_id": agent_id}})
    assert (first["id"], first["number"], second["number"], own["number"]) == (second["id"], 1, 2, 1)
    items = (await http.get("/secrets")).json()["items"]
    assert sorted((one["scope"], one["number"]) for one in items) == [("agent", 1), ("fleet", 2)]
    shown = await http.get(f"/secrets/{first['id']}")
    assert shown.json()["actor"].startswith("key:")
    stale = await http.post(f"/secrets/{first['id']}/remove", headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    await made(http, f"/secrets/{first['id']}/remove", {"reason": "old"})
    assert (await http.get(f"/secrets/{first['id']}")).status_code == 404
    gone = await http.post(f"/secrets/{first['id']}/remove")
    assert (gone.status_code, gone.json()["code"]) == (409, "secret_removed")
    rotated = await made(http, "/secrets/rotate", {})
    assert rotated["count"] == 3, "what was replaced and removed is kept for a while, so that it is masked"
    back = await made(http, "/secrets", {"name": "db", "value": VALUE})
    assert (back["id"], back["number"]) == (first["id"], 3)
    events = (await http.get("/events?limit=500")).text
    assert "SecretSet" in events
    assert "Tr0ub4dor" not in events + shown.text + json.dumps(items)
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SELECT string_agg(state::text, '') FROM fleetlog.events").fetchone()
        assert row is not None
        assert VALUE.encode().hex() not in row[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x", "value": "abc"},
        {"name": "x", "value": "  a \n  "},
        {"name": "x", "value": "y" * 20_000},
        {"name": "no-good", "value": VALUE},
        {"name": "x", "value": VALUE, "other": VALUE},
        {"name": "x", "value": [VALUE]},
        {"name": "x" * 65, "value": VALUE},
    ],
)
async def test_a_refused_value_is_not_named(fleet: Fleet, wrong: dict[str, Any]) -> None:
    """The answer says which field is wrong; nothing of what was in it."""
    answer = await fleet.http.post("/secrets", json=wrong)
    assert answer.status_code == 422
    assert "Tr0ub4dor" not in answer.text
    assert "yyyy" not in answer.text
    assert (await fleet.http.get("/secrets")).json()["items"] == []


async def test_a_tenant_has_its_own_secrets(api: Api, fleet: Fleet) -> None:
    """Limited to a client, a key sees, sets and removes that client's alone; one that only operates sets none."""
    http = fleet.http
    other = await Fleet.make(api, http, "Globex")
    whole = await made(http, "/secrets", {"name": "whole", "value": VALUE})
    theirs = await made(
        http, "/secrets", {"name": "db", "value": VALUE, "scope": {"kind": "client", "client_id": other.client_id}}
    )
    tenant = api.client(await api.key(Role.ADMIN, [fleet.client_id]))  # type: ignore[list-item]
    mine = await made(
        tenant, "/secrets", {"name": "db", "value": VALUE, "scope": {"kind": "site", "site_id": fleet.site_id}}
    )
    assert [one["id"] for one in (await tenant.get("/secrets")).json()["items"]] == [mine["id"]]
    for secret in (whole, theirs):
        assert (await tenant.get(f"/secrets/{secret['id']}")).status_code == 404
        assert (await tenant.post(f"/secrets/{secret['id']}/remove")).status_code == 404
    for body, status in (
        ({"kind": "fleet"}, 403),
        ({"kind": "client", "client_id": other.client_id}, 404),
        ({"kind": "site", "site_id": other.site_id}, 404),
    ):
        answer = await tenant.post("/secrets", json={"name": "x", "value": VALUE, "scope": body})
        assert answer.status_code == status
    both = {"kind": "site", "client_id": fleet.client_id, "site_id": fleet.site_id}
    assert (await http.post("/secrets", json={"name": "x", "value": VALUE, "scope": both})).status_code == 422
    assert (await tenant.post("/secrets/rotate")).status_code == 403
    operator = api.client(await api.key(Role.OPERATOR))
    assert (await operator.post("/secrets", json={"name": "x", "value": VALUE})).status_code == 403


async def test_placeholders_are_fixed_when_a_command_is_queued(fleet: Fleet) -> None:
    """A command shows what its placeholders stand for; what stands for nothing is refused, and nothing is queued."""
    http = fleet.http
    agent_id = await fleet.agent("web-07")
    terms = {"kind": "number", "on": ["client", "agent"]}
    await made(http, "/fields", {"name": "Port", "terms": terms})
    line = {"kind": "run_shell", "shell": "sh", "line": "ping {{agent.hostname}} {{field.port}} {{secret.db}}"}
    refused = await http.post("/commands", json={"agent_id": agent_id, "spec": line})
    assert (refused.status_code, refused.json()["code"]) == (422, "unresolved_placeholder")
    assert "{{field.port}}" in refused.json()["detail"]
    filled = await http.patch(f"/clients/{fleet.client_id}/fields", json={"values": {"PORT": 8080}})
    assert filled.status_code == 200
    refused = await http.post("/commands", json={"agent_id": agent_id, "spec": line})
    assert (refused.status_code, refused.json()["code"]) == (422, "unresolved_placeholder")
    assert refused.json()["detail"].startswith("{{secret.db}}: ")
    assert (await http.get("/commands")).json()["items"] == []
    secret = await made(http, "/secrets", {"name": "DB", "value": VALUE})
    command_id = await fleet.command(agent_id, spec=line)
    data = (await http.get(f"/commands/{command_id}")).json()["spec"]["data"]
    assert data == {
        "placeholders": ["agent.hostname", "field.port"],
        "given": {"agent.hostname": "web-07", "field.port": "8080"},
        "secrets": ["db"],
    }
    await made(http, f"/commands/{command_id}/cancel", {})
    await http.patch(f"/agents/{agent_id}/fields", json={"values": {"port": 1}})
    retried = await made(http, f"/commands/{command_id}/retry", {})
    data = (await http.get(f"/commands/{retried['id']}")).json()["spec"]["data"]
    assert data["given"]["field.port"] == "1"
    await made(http, f"/commands/{retried['id']}/cancel", {})
    await made(http, f"/secrets/{secret['id']}/remove", {})
    again = await http.post(f"/commands/{retried['id']}/retry", json={})
    assert (again.status_code, again.json()["code"]) == (422, "unresolved_placeholder")
    for spec, code in (
        ({"line": "{{agent.serial}}"}, "unresolved_placeholder"),
        ({"line": "{{secret.a-b}}"}, "bad_placeholder"),
        ({"line": "echo {{secret.db}}", "shell": "cmd"}, "placeholder_in_code"),
    ):
        refused = await http.post("/commands", json={"agent_id": agent_id, "spec": line | spec})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    for text in ("{{field.none}}", "{{secret.db}}"):
        plan = await http.post(
            "/rollouts/plan",
            json={"name": "r", "target": {"include": {"everything": True}}, "spec": line | {"line": text}},
        )
        assert plan.json()["excluded"] == {"unresolved_placeholder": 1}


async def test_custom_fields_are_filled_in_and_missed(api: Api, fleet: Fleet) -> None:
    """Defined, filled in, shown with what is missing; what does not fit is refused; removed, they are gone."""
    http = fleet.http
    agent_id = await fleet.agent()
    kinds = {
        "owner": {"kind": "text", "on": ["agent", "site"], "required": True},
        "tier": {"kind": "choice", "on": ["agent"], "choices": ["gold", "lead"], "default": "lead"},
        "parts": {"kind": "multiple", "on": ["agent"], "choices": ["a", "b"]},
        "vip": {"kind": "checkbox", "on": ["agent"]},
        "bought": {"kind": "date", "on": ["agent"]},
    }
    fields = {name: await made(http, "/fields", {"name": name, "terms": terms}) for name, terms in kinds.items()}
    assert [one["name"] for one in (await http.get("/fields?limit=3")).json()["items"]] == ["bought", "owner", "parts"]
    path = f"/agents/{agent_id}/fields"
    assert (await http.get(path)).json() == {"values": {}, "missing": ["owner"], "version": 0}
    given = {"owner": "Zoë", "tier": "gold", "parts": ["b", "a"], "vip": True, "bought": "2030-01-31"}
    changed = await http.patch(path, json={"values": given})
    http.headers["Fleetlog-Wait-Position"] = changed.headers["Fleetlog-Position"]
    assert (await http.get(path)).json() == {"values": given, "missing": [], "version": 1}
    for wrong, code in (
        ({"tier": "tin"}, "invalid_value"),
        ({"vip": "yes"}, "invalid_value"),
        ({"owner": None}, "required_field"),
        ({"nothing": 1}, "unknown_field"),
        ({"vip": True, "VIP": True}, "invalid_value"),
    ):
        refused = await http.patch(path, json={"values": wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert (await http.patch(f"/clients/{fleet.client_id}/fields", json={"values": {"owner": "x"}})).status_code == 422
    await made(http, f"/fields/{fields['owner']['id']}/remove", {})
    assert "owner" not in [one["name"] for one in (await http.get("/fields")).json()["items"]]
    tenant = api.client(await api.key(Role.ADMIN, [(await Fleet.make(api, http, "Other")).client_id]))  # type: ignore[list-item]
    assert (await tenant.get(path)).status_code == 404
    assert (await tenant.patch(path, json={"values": {"vip": False}})).status_code == 404


async def test_a_value_does_not_wait_for_another_person(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """Where a role asks for one, setting a secret is refused rather than kept: what waits is an event."""
    careful = {"permissions": ["secrets.manage"], "limits": {"approval_for": ["secrets.manage"]}}
    await made(fleet.http, "/roles", {"name": "careful", **careful})
    ada = api.client(await api.key_that_may(grants=[{"role": "careful", "everything": True}]))
    head = await api.log.head()
    refused = await ada.post("/secrets", json={"name": "db", "value": VALUE})
    assert (refused.status_code, refused.json()["code"]) == (403, "secret_cannot_wait")
    assert await api.done_since(head) == []
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM fleetlog.secret_values").fetchone() == (0,)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "db", "value": [VALUE]},
        {"name": "db", "value": {"text": VALUE}},
        {"name": "d b", "value": VALUE},
        {"name": "db", "value": VALUE + "\x00"},
        {"name": "db", "value": VALUE * 2_000},
        {"name": "db", "value": VALUE, "scope": {"kind": "agent"}},
        {"name": "db", "value": VALUE, "scope": VALUE},
        {"name": "db", "value": VALUE, "note": 7},
    ],
)
async def test_what_is_refused_is_not_said_again(fleet: Fleet, body: dict[str, Any]) -> None:
    """Whatever is wrong with a request that holds a value, the answer does not repeat the value."""
    refused = await fleet.http.post("/secrets", json=body)
    assert refused.status_code == 422
    assert VALUE not in refused.text
    cut = json.dumps(body)[:-3].encode()
    for said in (cut, cut + b"\xff"):
        refused = await fleet.http.post("/secrets", content=said, headers={"Content-Type": "application/json"})
        assert refused.status_code == 400
        assert VALUE not in refused.text


async def test_no_hash_of_a_value_is_on_record(api: Api, fleet: Fleet) -> None:
    """A short one is found from its hash: so what tells one request from another with the same key knows none of it."""
    head = await api.log.head()
    for value in (VALUE, VALUE + "2"):
        told = await fleet.http.post("/secrets", json={"name": "db", "value": value}, headers={"Idempotency-Key": "k"})
        assert told.json()["number"] == 1
    (accepted,) = [one.event for one in await api.log.read(after=head) if isinstance(one.event, IntentAccepted)]
    like_it = SetSecret.model_validate({"name": "db", "value": "another value altogether"})
    assert accepted.request_sha256 == hashlib.sha256(like_it.model_dump_json().encode()).hexdigest()


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"shell": "sh", "line": "echo {{secret.none}}"}, "unresolved_placeholder"),
        ({"shell": "sh", "line": "echo {{secret.a b}}"}, "bad_placeholder"),
        ({"shell": "cmd", "line": "echo {{agent.name}}"}, "placeholder_in_code"),
        ({"shell": "sh", "line": "echo {{field.none}}"}, "unresolved_placeholder"),
    ],
)
async def test_a_placeholder_that_cannot_be_is_refused_in_words_that_are_documented(
    fleet: Fleet, spec: dict[str, Any], code: str
) -> None:
    """Of one command; and of a rollout, which leaves out agents for which it stands for nothing."""
    agent_id = await fleet.agent()
    wanted = {"kind": "run_shell"} | spec
    refused = await fleet.http.post("/commands", json={"agent_id": agent_id, "spec": wanted})
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    target = {"include": {"agents": [agent_id]}}
    refused = await fleet.http.post("/rollouts/plan", json={"name": "r", "target": target, "spec": wanted})
    if code != "unresolved_placeholder":
        assert (refused.status_code, refused.json()["code"]) == (422, code)
