"""Destinations of forwarded events over the API: added, changed, steered; no answer and no event has their secrets."""

from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from command_bus.ids import utc_now
from command_bus.postgres import open_pool
from domain.roles import Role
from gateways.forward.cursors import Cursors
from gateways.local.authority import Authority
from gateways.settings import load_settings
from gateways.status import collect
from tests.rest.harness import Api, Fleet, made
from tests.rest.people import Person

HOOK = {"kind": "webhook", "url": "https://hook.example.com/in"}
TOKEN = "Bearer s3cr3t-t0k3n"  # noqa: S105


async def test_a_destination_lives(fleet: Fleet, postgres_url: str, tmp_path: Path) -> None:
    """Added with a key that is shown once, changed, paused, resumed, removed; what it is told is sealed."""
    http = fleet.http
    only = {"types": ["CommandQueued"], "clients": [fleet.client_id], "sites": [fleet.site_id]}
    body = {"name": "SIEM", "to": HOOK, "only": only, "secrets": {"authorization": TOKEN, "query": "token=s3cr3t"}}
    added = await made(http, "/destinations", body, **{"Idempotency-Key": "once"})
    assert added["signing_key"].startswith("whsec_")
    again = await http.post("/destinations", json=body, headers={"Idempotency-Key": "once"})
    assert (again.json()["id"], again.json()["signing_key"]) == (added["id"], None)
    shown = (await http.get(f"/destinations/{added['id']}")).json()
    assert shown["to"] == HOOK | {"batch": 1, "authority": ""}
    assert shown["only"] == only
    assert shown["secrets"] == ["authorization", "query", "signing_key"]
    assert (shown["state"], shown["sent"], shown["failures"]) == ("waiting", 0, 0)
    assert shown["lag"] == (await fleet.api.log.head()) - shown["position"] >= 1
    path = f"/destinations/{added['id']}"
    taken = await http.post("/destinations", json={"name": "siem", "to": HOOK})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    authority = Authority(tmp_path)
    authority.see_to(["hook.example.com"], utc_now())
    # Elsewhere on the same host it is told the same; at another host only the key stays.
    for to, secrets in (
        (HOOK | {"url": "https://HOOK.example.com/other"}, ["authorization", "query", "signing_key"]),
        (HOOK | {"authority": authority.file.read_text()}, ["authorization", "query", "signing_key"]),
        (HOOK | {"url": "https://evil.example.com/in", "batch": 100}, ["signing_key"]),
        ({"kind": "syslog", "host": "log.example.com"}, []),
    ):
        changed = await http.put(path, json={"name": "SIEM 2", "to": to}, headers={"Fleetlog-Wait-Position": "0"})
        assert changed.is_success, changed.text
        assert changed.json()["secrets"] == secrets
        http.headers["Fleetlog-Wait-Position"] = changed.headers["Fleetlog-Position"]
        assert (await http.get(path)).json()["secrets"] == secrets
    shown = (await http.get(path)).json()
    assert (shown["to"]["port"], shown["to"]["transport"], shown["only"]["types"]) == (6514, "tls", [])
    stale = await http.put(path, json={"name": "x", "to": HOOK}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    await made(http, f"{path}/pause", {"reason": "vacation"})
    assert (await http.get(path)).json()["state"] == "paused"
    assert (await http.post(f"{path}/pause")).json()["code"] == "destination_paused"
    await made(http, f"{path}/resume", {})
    assert (await http.post(f"{path}/resume")).json()["code"] == "destination_not_paused"
    await made(http, f"{path}/remove", {"reason": "over"})
    assert (await http.get(path)).status_code == 404
    assert (await http.post(f"{path}/remove")).json()["code"] == "destination_removed"
    assert (await http.get("/destinations")).json()["items"] == []
    # The name is free again, and nothing sealed is left.
    other = await made(http, "/destinations", {"name": "SIEM 2", "to": {"kind": "syslog", "host": "log.example.com"}})
    assert other["signing_key"] is None
    events = (await http.get("/events?limit=500")).text
    assert "DestinationAdded" in events
    with psycopg.connect(postgres_url) as connection:
        states = connection.execute(
            "SELECT string_agg(convert_from(state, 'UTF8'), '') FROM fleetlog.events"
        ).fetchone()
        assert states is not None
        assert connection.execute("SELECT count(*) FROM fleetlog.destination_values").fetchone() == (0,)
    for secret in ("s3cr3t", added["signing_key"]):
        assert secret not in events + states[0]


async def test_an_event_is_passed_over_with_a_reason_and_once(fleet: Fleet) -> None:
    """One that is there; the destination says which was the last."""
    http = fleet.http
    path = f"/destinations/{(await made(http, '/destinations', {'name': 'SIEM', 'to': HOOK}))['id']}"
    for skip in ({"position": 10**9, "reason": "x"}, {"position": 1}, {"reason": "x"}, {"position": 1, "reason": " "}):
        assert (await http.post(f"{path}/skip", json=skip)).status_code == 422, skip
    await made(http, f"{path}/skip", {"position": 1, "reason": "they cannot read it"})
    again = await http.post(f"{path}/skip", json={"position": 1, "reason": "x"})
    assert again.json()["code"] == "destination_skipped"
    shown = (await http.get(path)).json()
    assert (shown["skipped_at"], shown["stuck_on"]) == (1, None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": HOOK | {"url": "https://user:pw@example.com/"}}, "to.url"),
        ({"to": HOOK | {"url": "https://example.com/?token=x"}}, "to.url"),
        ({"to": HOOK | {"url": "file:///etc/passwd"}}, "to.url"),
        ({"to": HOOK | {"url": "https://exa mple.com/"}}, "to.url"),
        ({"to": HOOK | {"url": "https://example.com:0/"}}, "to.url"),
        ({"to": HOOK | {"authority": "nothing of the kind"}}, "to.authority"),
        ({"to": {"kind": "syslog", "host": "no host"}}, "to.host"),
        ({"to": {"kind": "nats", "url": "ws://example.com", "subject": "a"}}, "to.url"),
        ({"to": {"kind": "nats", "url": "tls://example.com", "subject": "a.>"}}, "to.subject"),
        ({"to": {"kind": "nats", "url": "tls://example.com", "subject": "$JS.API"}}, "to.subject"),
        ({"to": {"kind": "nats", "url": "tls://h", "subject": "a"}, "secrets": {"user": "u"}}, "secrets.user"),
        ({"secrets": {"token": "x"}}, "secrets.token"),
        ({"secrets": {"signing_key": "whsec_c2hvcnQ="}}, "secrets.signing_key"),
        ({"secrets": {"authorization": "a\r\nX: y"}}, "secrets.authorization"),
        ({"secrets": {"authorization": "Bearer x "}}, "secrets.authorization"),
        ({"name": " "}, "destination"),
        ({"after": 10**9}, "after"),
    ],
)
async def test_what_cannot_be_meant_is_refused(fleet: Fleet, change: dict[str, Any], field: str) -> None:
    """The answer names the field, and nothing is recorded."""
    head = await fleet.api.log.head()
    refused = await fleet.http.post("/destinations", json={"name": "x", "to": HOOK} | change)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_value")
    assert refused.json()["detail"].startswith(field)
    assert await fleet.api.done_since(head) == []


async def test_who_forwards_may_read_all_of_it(api: Api, fleet: Fleet) -> None:
    """It needs all tenants, and the permission to read events; webhooks, which have a key, wait for nobody."""
    body = {"name": "x", "to": HOOK}
    tenant = api.client(await api.key(Role.ADMIN, [fleet.client_id]))  # type: ignore[list-item]
    assert (await tenant.get("/destinations")).status_code == 403
    assert (await tenant.post("/destinations", json=body)).status_code == 403
    await made(fleet.http, "/roles", {"name": "blind", "permissions": ["forwarding.manage"]})
    blind = api.client(await api.key_that_may(grants=[{"role": "blind", "everything": True}]))
    assert (await blind.post("/destinations", json=body)).status_code == 403
    reads = ["forwarding.manage", "events.see", "commands.output"]
    careful = {"permissions": reads, "limits": {"approval_for": ["forwarding.manage"]}}
    await made(fleet.http, "/roles", {"name": "careful", **careful})
    ada = api.client(await api.key_that_may(grants=[{"role": "careful", "everything": True}]))
    assert (await ada.post("/destinations", json=body)).json()["code"] == "secret_cannot_wait"
    waits = await ada.post("/destinations", json={"name": "x", "to": {"kind": "syslog", "host": "log.example.com"}})
    assert (waits.status_code, waits.json()["code"]) == (409, "approval_awaited")
    bob = await Person.ready(api, "Bob", {"role": "administrator", "everything": True})
    done = await bob.http.post(f"/approvals/{waits.json()['approval_id']}/approve", json={})
    assert done.is_success, done.text
    fleet.http.headers["Fleetlog-Wait-Position"] = done.headers["Fleetlog-Position"]
    assert [one["name"] for one in (await fleet.http.get("/destinations")).json()["items"]] == ["x"]


async def test_outputs_leave_by_nobody_who_may_not_read_them(api: Api, fleet: Fleet) -> None:
    """To add, change, resume or skip sends outputs' ends away: without `commands.output` one may halt it, no more."""
    to = {"kind": "syslog", "host": "log.example.com"}
    there = f"/destinations/{(await made(fleet.http, '/destinations', {'name': 'x', 'to': to}))['id']}"
    one_by_one = [
        ("POST", "/destinations", {"name": "y", "to": to}),
        ("PUT", there, {"name": "z", "to": to}),
        ("POST", f"{there}/skip", {"position": 1, "reason": "r"}),
        ("POST", f"{there}/resume", {}),
    ]
    for name, more in (("deaf", []), ("hears", ["commands.output"])):
        permissions = ["forwarding.manage", "events.see", *more]
        await made(fleet.http, "/roles", {"name": name, "permissions": permissions})
        http = api.client(await api.key_that_may(grants=[{"role": name, "everything": True}]))
        assert (await http.post(f"{there}/pause", json={})).is_success
        head = await api.log.head()
        answers = [await http.request(method, path, json=body) for method, path, body in one_by_one]
        if more:
            assert [one.is_success for one in answers[:2] + answers[3:]] == [True] * 3
            assert answers[2].status_code != 403
        else:
            assert [(one.status_code, one.json()["code"]) for one in answers] == [(403, "forbidden")] * 4
            assert all("commands.output" in one.json()["detail"] for one in answers)
            assert await api.done_since(head) == []
            assert (await fleet.http.post(f"{there}/resume", json={})).is_success


async def test_a_new_master_key_seals_them_anew(fleet: Fleet, postgres_url: str) -> None:
    """What rotates secrets rotates these."""
    await made(fleet.http, "/destinations", {"name": "x", "to": HOOK})
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        (before,) = connection.execute("SELECT wrapped_key FROM fleetlog.destination_values").fetchone() or (None,)
        await made(fleet.http, "/secrets/rotate", {})
        (after,) = connection.execute("SELECT wrapped_key FROM fleetlog.destination_values").fetchone() or (None,)
    assert before != after


async def test_status_tells_how_far_each_is(fleet: Fleet, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails is told as a fault, with its lag and why; one that is paused or goes well is none."""
    for name, value in (("POSTGRES", postgres_url), ("NATS", "nats://127.0.0.1:1"), ("REDIS", "redis://127.0.0.1:1")):
        monkeypatch.setenv(f"FLEETLOG_{name}_URL", value)
    syslog = {"kind": "syslog", "host": "log.example.com"}
    bad = await made(fleet.http, "/destinations", {"name": "bad", "to": HOOK})
    well = await made(fleet.http, "/destinations", {"name": "well", "to": syslog})
    paused = await made(fleet.http, "/destinations", {"name": "paused", "to": syslog})
    await made(fleet.http, f"/destinations/{paused['id']}/pause", {})
    assert (await fleet.http.get("/destinations")).is_success  # by now the read model has them
    pool = await open_pool(postgres_url, name="tests")
    cursors = Cursors(pool)
    for one in (bad, well):
        await cursors.take(UUID(one["id"]), 0)
    await cursors.reach(UUID(well["id"]), await fleet.api.log.head(), 3)
    await cursors.fail(UUID(bad["id"]), 4, "The webhook answered 500.", utc_now())
    await pool.close()
    status = await collect(load_settings())
    found = {one.name: (one.ok, one.status, one.kind, one.lag, one.sent) for one in status.forwarding}
    assert found["bad"] == (False, "failing", "webhook", await fleet.api.log.head(), 0)
    assert found["well"] == (True, "running", "syslog", 0, 3)
    assert found["paused"][:2] == (True, "paused")
    (fault,) = [fault for fault in status.faults() if "forwarding" in fault]
    assert fault.startswith("forwarding to bad: failing")
    assert "answered 500" in fault
