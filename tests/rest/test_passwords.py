"""Passwords that administrators set: kept sealed, shown never or once, and given to nobody mightier."""

import json
from datetime import timedelta

import psycopg
import pytest

from command_bus.credential_store import sweep_credentials
from command_bus.keystore import CREDENTIALS, Keystore
from command_bus.master_keys import NO_KEYS
from domain.roles import Role
from tests.rest.harness import Api, Fleet, made

PASSWORD = "four blue Elephants"  # noqa: S105 - the example


def rows(url: str) -> list[tuple[bytes, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT sealed, wrapped_key FROM fleetlog.credential_values").fetchall()


async def test_a_password_is_in_no_answer_event_or_row(api: Api, postgres_url: str) -> None:
    """Set by an administrator, it is sealed beside the log; one that is made is shown once."""
    http = api.client()
    ada = (await made(http, "/users", {"name": "Ada"}))["id"]
    given = await http.put(f"/users/{ada}/password", json={"password": PASSWORD}, headers={"Idempotency-Key": "k"})
    assert given.status_code == 200
    assert given.json().get("password") is None
    (row,) = rows(postgres_url)
    assert b"argon2" not in b"".join(row)
    made_up = await http.put(f"/users/{ada}/password", json={}, headers={"Idempotency-Key": "once"})
    assert len(made_up.json()["password"]) >= 20
    again = await http.put(f"/users/{ada}/password", json={}, headers={"Idempotency-Key": "once"})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json().get("password") is None
    (after,) = rows(postgres_url)
    assert after != row  # the one before is gone
    events = (await http.get("/events?limit=500")).json()["items"]
    told = [event for event in events if event["type"] == "PasswordSet"]
    assert [event["data"]["must_change"] for event in told] == [True, True]
    assert "argon2" not in json.dumps(events)
    with psycopg.connect(postgres_url) as connection:
        (state,) = connection.execute("SELECT string_agg(state::text, '') FROM fleetlog.events").fetchone() or ("",)
    for text in (PASSWORD, made_up.json()["password"]):
        assert text.encode().hex() not in state
        assert text not in state


@pytest.mark.parametrize("wrong", ["password1234", "shrt7", "Ada Lovelace!!!", "x" * 300, 71234567])
async def test_a_weak_password_is_refused_and_not_named(api: Api, postgres_url: str, wrong: object) -> None:
    """The answer says what is wrong with it; nothing is kept and nothing recorded."""
    http = api.client()
    ada = (await made(http, "/users", {"name": "Ada Lovelace"}))["id"]
    head = await api.log.head()
    refused = await http.put(f"/users/{ada}/password", json={"password": wrong})
    assert refused.status_code == 422
    assert str(wrong) not in refused.text.replace(refused.json()["instance"], "")
    assert (await api.log.head(), rows(postgres_url)) == (head, [])


async def test_who_may_set_passwords(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """Not a program's; not by who may not manage users, nor of somebody who may do more; never by waiting."""
    http = fleet.http
    program = (await made(http, "/users", {"name": "ci", "kind": "service"}))["id"]
    for method, path in (("PUT", "password"), ("POST", "second-factor/reset"), ("POST", "sessions/revoke")):
        refused = await http.request(method, f"/users/{program}/{path}", json={})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_a_person")
    boss = (await made(http, "/users", {"name": "Boss", "grants": [{"role": "administrator", "everything": True}]}))[
        "id"
    ]
    await made(http, "/roles", {"name": "hr", "permissions": ["users.manage", "people.see"]})
    hr = api.client(await api.key_that_may(grants=[{"role": "hr", "everything": True}]))
    operator = api.client(await api.key(Role.OPERATOR))
    for client in (hr, operator):
        for method, path in (("PUT", "password"), ("POST", "second-factor/reset"), ("POST", "sessions/revoke")):
            assert (await client.request(method, f"/users/{boss}/{path}", json={})).status_code == 403
    careful = {"permissions": ["users.manage"], "limits": {"approval_for": ["users.manage"]}}
    await made(http, "/roles", {"name": "careful", **careful})
    ada = (await made(http, "/users", {"name": "Ada"}))["id"]
    slow = api.client(await api.key_that_may(grants=[{"role": "careful", "everything": True}]))
    refused = await slow.put(f"/users/{ada}/password", json={"password": PASSWORD})
    assert (refused.status_code, refused.json()["code"]) == (403, "secret_cannot_wait")
    assert rows(postgres_url) == []


async def test_the_master_key_changes_under_passwords_too(api: Api, postgres_url: str) -> None:
    """Sealing anew concerns them as it does secrets; the sweep drops what no login names, and nothing else."""
    http = api.client()
    ada = (await made(http, "/users", {"name": "Ada"}))["id"]
    assert (await http.put(f"/users/{ada}/password", json={"password": PASSWORD})).is_success
    ((sealed, wrapped),) = rows(postgres_url)
    await made(http, "/secrets/rotate", {})
    ((still, anew),) = rows(postgres_url)
    assert (still == sealed, anew == wrapped) == (True, False)
    keystore = Keystore(api.pool, NO_KEYS, CREDENTIALS)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "INSERT INTO fleetlog.credential_values SELECT gen_random_uuid(), secret_id, key_id, wrapped_key, sealed"
            " FROM fleetlog.credential_values"
        )
    assert await sweep_credentials(api.log, keystore, timedelta(hours=1)) == 0
    assert await sweep_credentials(api.log, keystore, timedelta(0)) == 1
    assert [row[0] for row in rows(postgres_url)] == [sealed]
