"""Sessions of people: how they begin, what they may do, and that they end for good."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx2
import psycopg
import pytest

from command_bus.errors import LoginRefusedError
from command_bus.handlers.sessions import sweep_sessions
from command_bus.ids import new_id
from command_bus.session_rows import SessionRows
from gateways.rest.cookies import CSRF_HEADER, PLAIN_NAME, SECURE_NAME
from tests.rest.harness import Api, Fleet, made, sse
from tests.rest.people import FIRST, SECOND, Person

ALL: dict[str, Any] = {"role": "administrator", "everything": True}
SEES: dict[str, Any] = {"role": "auditor", "everything": True}


async def test_the_first_login_puts_things_in_order(api: Api) -> None:
    """Until the password is changed and a second factor enrolled nothing else is allowed; then all that is granted."""
    ada = await Person.add(api, "Ada", ALL)
    shown = await ada.log_in()
    assert shown["pending"] == ["password", "totp"]
    for method, path in (("GET", "/agents"), ("GET", "/me"), ("GET", "/sessions"), ("POST", "/clients")):
        refused = await ada.http.request(method, path, json={"name": "x"} if method == "POST" else None)
        assert (refused.status_code, refused.json()["code"]) == (403, "login_incomplete"), path
    before = ada.token
    await ada.change_password(SECOND)
    assert (await ada.http.get("/session")).json()["pending"] == ["totp"]
    assert (await ada.http.get("/agents")).json()["code"] == "login_incomplete"
    await ada.enroll()
    assert len(set(ada.recovery_codes)) == 10
    assert (await ada.http.get("/session")).json()["pending"] == []
    me = (await ada.http.get("/me", headers={"Fleetlog-Wait-Position": str(await api.log.head())})).json()
    assert (me["actor"], me["name"], me["user_id"]) == (f"user:{ada.user_id}", "Ada", ada.user_id)
    assert (await ada.http.get("/agents")).status_code == 200
    done = await ada.http.post("/clients", json={"name": "Acme"})
    assert done.status_code == 201
    assert (await ada.events("ClientCreated"))[0]["actor"] == f"user:{ada.user_id}"
    # Each of these steps gave the session another token: who knew an older one is out.
    assert before != ada.token
    assert (await api.client(before).get("/session")).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "Nobody"},
        {"password": "wrong wrong wrong"},
        {"password": FIRST},
        {"code": None},
        {"code": "000000"},
        {"code": "AAAA-BBBB-CCCC-DDDD"},
        {"user": "Nobody", "code": None},
        {"user": "ci"},
    ],
)
async def test_whatever_is_wrong_the_answer_and_the_work_are_the_same(api: Api, wrong: dict[str, Any]) -> None:
    """No name, wrong password, wrong or no code: one answer, one hash worked out, one event that says what it was."""
    ada = await Person.ready(api)
    await made(api.client(), "/users", {"name": "ci", "kind": "service"})
    runs, head = api.hasher.runs, await api.log.head()
    refused = await ada.try_to_log_in(**wrong)
    document = refused.json()
    del document["instance"]
    assert document == {
        "type": "/docs#login_refused",
        "title": "Login refused",
        "status": 401,
        "code": "login_refused",
        "detail": LoginRefusedError().detail,
    }
    assert api.hasher.runs == runs + 1
    assert "set-cookie" not in refused.headers
    (event,) = await ada.events("LoginRefused")
    assert event["position"] == head + 1
    assert (event["actor"], event["data"]["purpose"], event["data"]["address"]) == ("anonymous", "log_in", "127.0.0.1")
    known = "user" not in wrong or wrong["user"] != "Nobody"
    assert (event["data"].get("user_id") is not None) == known
    assert "Nobody" not in json.dumps(event)


async def test_a_disabled_user_is_refused_like_any_wrong_one(api: Api) -> None:
    """They do not learn that they are disabled; all sessions are over, and stay so once they are enabled again."""
    ada = await Person.ready(api, "Ada", SEES)
    admin = api.client()
    assert (await ada.http.get("/agents")).status_code == 200
    await admin.post(f"/users/{ada.user_id}/disable", json={})
    await until(ada.http, 401)
    assert (await ada.try_to_log_in()).json()["code"] == "login_refused"
    await admin.post(f"/users/{ada.user_id}/enable", json={})
    assert (await ada.http.get("/session")).status_code == 401
    await ada.log_in()
    assert (await ada.http.get("/agents")).status_code == 200


async def until(http: httpx2.AsyncClient, status: int) -> None:
    async with asyncio.timeout(10):
        while (await http.get("/session")).status_code != status:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


async def test_a_session_that_was_logged_out_is_dead_at_once(api: Api) -> None:
    """A stolen token, by cookie or by header, opens nothing after the logout; the log says who left, and from where."""
    ada = await Person.ready(api, "Ada", SEES, bearer=False)
    stolen = ada.token
    thief = api.client("", Cookie=f"{PLAIN_NAME}={stolen}")
    assert (await thief.get("/agents")).status_code == 200
    done = await ada.http.post("/session/end")
    assert done.status_code == 200
    assert PLAIN_NAME not in ada.http.cookies
    assert (await thief.get("/agents")).status_code == 401
    assert (await api.client(stolen).get("/session")).status_code == 401
    ended = (await ada.events("SessionEnded"))[-1]
    assert ended["data"] == {"user_id": ada.user_id, "why": "logged_out", "address": "127.0.0.1"}
    assert ended["actor"] == f"user:{ada.user_id}"


async def test_what_a_visitor_brings_never_becomes_a_session(api: Api) -> None:
    """Fixation: a token that somebody planted in the browser before the login is not the one after it."""
    ada = await Person.ready(api, bearer=False)
    planted = f"fls_{new_id().hex}_{'x' * 43}"
    ada.http.cookies.set(PLAIN_NAME, planted, domain="127.0.0.1")
    response = await ada.http.post("/session", json=ada.body(bearer=False))
    assert response.status_code == 201
    (given,) = [value for name, value in response.headers.multi_items() if name == "set-cookie"]
    assert planted not in given
    assert "HttpOnly" in given
    assert "SameSite=strict" in given
    assert "Path=/" in given
    assert "Domain" not in given
    assert (await api.client(planted).get("/session")).status_code == 401


async def test_a_change_by_cookie_comes_from_our_pages_alone(api: Api) -> None:
    """Origin, Sec-Fetch-Site and the token: each wrong one is refused, by itself; reads need none of them."""
    ada = await Person.ready(api, "Ada", ALL, bearer=False)
    good = {"Origin": ada.origin, CSRF_HEADER: ada.http.headers[CSRF_HEADER]}
    other = api.client("", Cookie=f"{PLAIN_NAME}={ada.token}")
    head = await api.log.head()
    for headers, code in (
        ({}, "cross_site"),
        ({CSRF_HEADER: good[CSRF_HEADER]}, "cross_site"),
        ({"Origin": "https://evil.example"}, "cross_site"),
        ({"Origin": "null"}, "cross_site"),
        (good | {"Origin": ada.origin + ".evil.example"}, "cross_site"),
        (good | {"Origin": ada.origin.replace("http:", "https:")}, "cross_site"),
        (good | {"Sec-Fetch-Site": "cross-site"}, "cross_site"),
        (good | {"Sec-Fetch-Site": "same-site"}, "cross_site"),
        ({"Origin": ada.origin}, "no_csrf_token"),
        (good | {CSRF_HEADER: good[CSRF_HEADER][:-1]}, "no_csrf_token"),
        (good | {CSRF_HEADER: ""}, "no_csrf_token"),
        ({"Sec-Fetch-Site": "same-origin"}, "no_csrf_token"),
    ):
        refused = await other.post("/clients", json={"name": "x"}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, code), headers
        assert (await other.post("/session/end", headers=headers)).status_code == 403
    assert await api.done_since(head) == []
    assert (await other.get("/clients")).status_code == 200
    assert (
        await other.post("/clients", json={"name": "x"}, headers=good | {"Sec-Fetch-Site": "same-origin"})
    ).is_success
    # The token itself, in its own header, is no cookie.
    assert (await api.client(ada.token).post("/clients", json={"name": "y"})).is_success


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_nobody_is_logged_in_from_another_site(api: Api, headers: dict[str, str]) -> None:
    """Login by another site's page is refused before anything is compared."""
    ada = await Person.add(api)
    runs = api.hasher.runs
    refused = await api.client("").post("/session", json=ada.body(bearer=False), headers=headers)
    assert (refused.status_code, refused.json()["code"], api.hasher.runs) == (403, "cross_site", runs)


async def test_a_browser_gets_its_cookie_where_nobody_listens(api: Api) -> None:
    """Over https under the prefixed name, on the loopback without; elsewhere over plain http not at all."""
    ada = await Person.add(api)
    runs = api.hasher.runs
    refused = await api.client("").post("/session", json=ada.body(bearer=False), headers={"Host": "fleet.example.com"})
    assert (refused.status_code, refused.json()["code"], api.hasher.runs) == (403, "https_needed", runs)
    behind = {"X-Forwarded-Proto": "https", "Host": "fleet.example.com"}
    answer = await api.client("", **behind).post("/session", json=ada.body(bearer=False))
    assert answer.status_code == 201
    assert answer.headers["set-cookie"].startswith(f"{SECURE_NAME}=fls_")
    assert "Secure" in answer.headers["set-cookie"]
    token = answer.headers["set-cookie"].split("=")[1].split(";")[0]
    there = api.client("", **behind)
    assert (await there.get("/session", headers={"Cookie": f"{SECURE_NAME}={token}"})).status_code == 200
    # A name that any page of the domain may set is none of ours there.
    assert (await there.get("/session", headers={"Cookie": f"{PLAIN_NAME}={token}"})).status_code == 401


async def test_sessions_end_by_time(api: Api, postgres_url: str) -> None:
    """One that is not used is over after half an hour, each after twelve; the sweep records it and drops the row."""
    ada = await Person.ready(api, "Ada", SEES)
    await ada.log_in()
    for _ in range(3):
        api.clock.ahead += timedelta(minutes=25)
        assert (await ada.http.get("/agents")).status_code == 200
    api.clock.ahead += timedelta(minutes=31)
    assert (await ada.http.get("/agents")).status_code == 401
    await ada.log_in()
    for _ in range(24):
        api.clock.ahead += timedelta(minutes=29)
        assert (await ada.http.get("/session")).status_code == 200
    api.clock.ahead += timedelta(minutes=29)
    assert (await ada.http.get("/session")).status_code == 401
    rows = SessionRows(api.pool)
    while await sweep_sessions(api.log, rows, api.clock(), timedelta(minutes=30), new_id):
        pass
    ended = [event["data"]["why"] for event in await ada.events("SessionEnded")]
    assert ended == ["replaced", "replaced", "expired", "expired", "expired"]
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM fleetlog.sessions").fetchone() == (0,)


async def test_a_stream_does_not_keep_a_session_from_being_idle(api: Api) -> None:
    """It ends with the session's time, and to begin it again is no use of the session."""
    ada = await Person.ready(api, "Ada", SEES)
    api.clock.ahead += timedelta(minutes=29, seconds=59)
    async with asyncio.timeout(20), ada.http.stream("GET", "/events/stream") as stream:
        assert stream.status_code == 200
        async for _ in sse(stream):
            pass
    api.clock.ahead += timedelta(seconds=2)
    assert (await ada.http.get("/session")).status_code == 401


async def test_ones_own_sessions_are_seen_and_ended(api: Api) -> None:
    """Each person sees their own and ends one or all; another's is not there."""
    ada = await Person.ready(api, "Ada", SEES)
    bob = await Person.ready(api, "Bob", ALL)
    second = Person(api, ada.user_id, "Ada", ada.password, ada.secret)
    await second.log_in()
    items = (await ada.http.get("/sessions")).json()["items"]
    assert [one["current"] for one in items] == [False, True]
    assert {one["address"] for one in items} == {"127.0.0.1"}
    other = items[0]["id"]
    assert (await bob.http.post(f"/sessions/{other}/revoke")).status_code == 404
    assert (await second.http.get("/agents")).status_code == 200
    assert (await ada.http.post(f"/sessions/{other}/revoke")).is_success
    assert (await second.http.get("/agents")).status_code == 401
    again = await ada.http.post(f"/sessions/{other}/revoke")
    assert (again.status_code, again.json()["code"]) == (409, "session_over")
    await second.log_in()
    assert (await ada.http.post("/sessions/revoke")).is_success
    for http in (ada.http, second.http):
        assert (await http.get("/session")).status_code == 401
    assert (await bob.http.get("/session")).status_code == 200


@pytest.mark.parametrize("what", ["end", "password", "disable", "factor", "revoke", "grants"])
async def test_streams_end_with_the_session(api: Api, fleet: Fleet, what: str) -> None:
    """Whatever ends a session, or changes what it may see, ends its streams."""
    ada = await Person.ready(api, "Ada", SEES)
    ready = asyncio.Event()

    async def read_to_the_end() -> None:
        async with ada.http.stream("GET", "/events/stream") as stream:
            assert stream.status_code == 200
            ready.set()
            async for _ in sse(stream):
                pass

    reading = asyncio.create_task(read_to_the_end())
    async with asyncio.timeout(20):
        await ready.wait()
        admin, user = fleet.http, f"/users/{ada.user_id}"
        done = {
            "end": lambda: ada.http.post("/session/end"),
            "password": lambda: ada.http.post("/session/password", json={"current": SECOND, "new": FIRST}),
            "disable": lambda: admin.post(f"{user}/disable", json={}),
            "factor": lambda: admin.post(f"{user}/second-factor/reset", json={}),
            "revoke": lambda: admin.post(f"{user}/sessions/revoke", json={}),
            "grants": lambda: admin.put(f"{user}/grants", json={"grants": []}),
        }[what]
        answer = await done()
        assert answer.is_success, answer.text
        await reading


async def test_a_key_has_no_session(api: Api) -> None:
    """What is for people says so to a key, and a session's token is no key."""
    http = api.client()
    for method, path in (
        ("GET", "/session"),
        ("GET", "/sessions"),
        ("POST", "/session/end"),
        ("POST", "/sessions/revoke"),
    ):
        refused = await http.request(method, path)
        assert (refused.status_code, refused.json()["code"]) == (409, "no_session")


async def test_the_table_of_sessions_is_of_no_use_to_its_reader(api: Api, postgres_url: str) -> None:
    """It holds hashes alone, and no event holds even those."""
    ada = await Person.ready(api)
    secret = ada.token.split("_")[2]
    with psycopg.connect(postgres_url) as connection:
        rows = str(connection.execute("SELECT * FROM fleetlog.sessions").fetchall())
        (events,) = connection.execute("SELECT string_agg(encode(state, 'escape'), '') FROM fleetlog.events").fetchone()  # type: ignore[misc]
    assert secret not in rows
    for text in (secret, ada.secret, SECOND, FIRST, *ada.recovery_codes, "argon2", 'secret_sha256":""'):
        assert text not in events


async def test_a_second_login_does_not_end_the_first(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place has its own session; who logs in again and again has the oldest give way."""
    monkeypatch.setattr("command_bus.handlers.sessions.MOST_OF_ONE", 3)
    ada = await Person.ready(api)
    tokens = [ada.token]
    for _ in range(4):
        await ada.log_in()
        tokens.append(ada.token)
    answers = [(await api.client(token).get("/session")).status_code for token in tokens]
    assert answers == [401, 401, 200, 200, 200]
