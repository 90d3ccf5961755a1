"""A logout at the provider ends what began through it, and nothing else; nobody else's word does."""

import asyncio
import time
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest

from command_bus.ids import new_id, utc_now
from command_bus.sso_flows import Flow, SsoFlows
from domain.ids import UserId
from gateways.rest.guesses import LOGOUT_HOLDS
from tests.rest.harness import Api
from tests.rest.people import Person
from tests.rest.provider import CLIENT, RunningProvider
from tests.rest.sso import Terminal, api, linked, of_type, plain_user, provider, refusals, running, terms
from tests.rest.test_permissions import until

__all__ = ["api", "provider", "running", "terms"]

PATH = "/session/sso/logout"


async def told(api: Api, token: str, **more: Any) -> httpx2.Response:
    """As the provider sends it."""
    return await api.client("").post(PATH, data={"logout_token": token, "other": "ignored"} | more)


async def logged_in(api: Api, provider: RunningProvider, subject: str, sid: str | None) -> Terminal:
    provider.lies(claims={"sid": sid})
    terminal = Terminal(api, provider)
    assert (await terminal.log_in(subject)).status_code == 201
    return terminal


async def open_still(terminals: dict[str, Terminal]) -> set[str]:
    return {name for name, one in terminals.items() if (await one.http.get("/session")).status_code == 200}


async def test_a_logout_ends_what_it_names(api: Api, provider: RunningProvider) -> None:
    """A session there, all of somebody, or both; what began with a password goes on, and the log has all of it."""
    ada = await Person.ready(api, "Ada")
    for user_id, subject in ((ada.user_id, "ada"), (await plain_user(api, "Bob"), "bob")):
        await linked(api, user_id, subject)
    provider.lies(claims={"sid": "one"})
    first = Terminal(api, provider)
    assert (await first.log_in("ada", ada.code())).status_code == 201
    opened = {
        "ada one": first,
        "bob one": await logged_in(api, provider, "bob", "one"),
        "bob two": await logged_in(api, provider, "bob", "two"),
        "bob none": await logged_in(api, provider, "bob", None),
    }
    assert await open_still(opened) == set(opened)
    steps: list[tuple[dict[str, Any], set[str]]] = [
        ({"sid": "unknown"}, set()),
        ({"sub": "nobody"}, set()),
        ({"sub": "nobody", "sid": "one"}, set()),
        # Of a session that the provider did not name, nobody can say that it is not the one.
        ({"sub": "bob", "sid": "two"}, {"bob two", "bob none"}),
        ({"sid": "one"}, {"ada one", "bob one"}),
    ]
    left = set(opened)
    for claims, gone in steps:
        answer = await told(api, provider.logout_token(**claims))
        assert (answer.status_code, answer.json()) == (200, {"sessions": len(gone)}), claims
        assert answer.headers["cache-control"] == "no-store"
        left -= gone
        assert await open_still(opened) == left, claims
    assert (await ada.http.get("/session")).status_code == 200
    opened = {"1": await logged_in(api, provider, "bob", "x"), "2": await logged_in(api, provider, "bob", None)}
    assert (await told(api, provider.logout_token(sub="bob"))).json() == {"sessions": 2}
    assert await open_still(opened) == set()
    ended = [one["data"]["why"] for one in await of_type(api, "SessionEnded")]
    assert ended.count("provider") == 6
    taken = await of_type(api, "ProviderLogoutTaken")
    assert [len(one["data"].get("sessions", [])) for one in taken] == [0, 0, 0, 2, 2, 2]
    assert {(one["actor"], one["data"]["issuer"]) for one in taken} == {("sso", provider.issuer)}


async def test_a_session_that_went_on_under_another_token_ends_too(api: Api, provider: RunningProvider) -> None:
    """Whoever enrolls a second factor gets a new one; it is of the same session at the provider."""
    user_id = await plain_user(api, "Ada", {"role": "read-only", "everything": True})
    await linked(api, user_id, "ada")
    terminal = await logged_in(api, provider, "ada", "one")
    person = Person(api, user_id, "Ada", http=terminal.http)
    await person.enroll()
    assert (await person.http.get("/agents")).status_code == 200
    assert (await told(api, provider.logout_token(sid="one"))).json() == {"sessions": 1}
    await until(person.http, "/agents", 401)


async def test_who_is_on_the_way_in_does_not_come_in_behind_it(api: Api, provider: RunningProvider) -> None:
    """Between the provider's word and the session, a logout there takes the word back."""
    await linked(api, await plain_user(api), "s")
    for claims in ({"sub": "s"}, {"sid": "one"}, {"sub": "s", "sid": "one"}):
        provider.lies(claims={"sid": "one"})
        terminal, other = Terminal(api, provider), Terminal(api, provider)
        assert (await terminal.hand_in(await terminal.back_from("s"))).is_success
        provider.lies(claims={"sid": "other"})
        assert (await other.hand_in(await other.back_from("s"))).is_success
        assert (await told(api, provider.logout_token(**claims))).status_code == 200
        assert (await terminal.enter()).json()["code"] == "sso_refused"
        assert (await other.enter()).is_success == ("sid" in claims)


EVENT = "http://schemas.openid.net/event/backchannel-logout"
CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"iss": "https://other.example"}, "iss"),
    ({"iss": None}, "iss"),
    ({"aud": "another"}, "aud"),
    ({"aud": None}, "aud"),
    ({"iat": None}, "iat"),
    ({"iat": 4_000_000_000}, ""),
    ({"iat": 1}, "too old"),
    ({"iat": "now"}, ""),
    ({"exp": 1}, "expired"),
    ({"exp": "soon"}, ""),
    ({"jti": None}, "jti"),
    ({"jti": ""}, "jti"),
    ({"jti": 7}, "jti"),
    ({"jti": "x" * 501}, "jti"),
    ({"nonce": "n"}, "nonce"),
    ({"events": None}, "events"),
    ({"events": [EVENT]}, "events"),
    ({"events": {"http://schemas.openid.net/event/other": {}}}, "events"),
    ({"events": {EVENT: "yes"}}, "events"),
    ({"sub": None}, "neither"),
    ({"sub": 7}, "sub"),
    ({"sub": ""}, "sub"),
    ({"sid": ["one"]}, "sid"),
]
SIGNATURES = [
    "none",
    "HS256 with the public key",
    "HS256 with the secret",
    "a foreign key",
    "a key of its own",
    "nothing",
    "other words",
    "noise",
]


async def test_what_does_not_hold_ends_nothing(api: Api, provider: RunningProvider) -> None:
    """Another's, of another kind or time, forged, or an id_token; each is on record with what was wrong."""
    await linked(api, await plain_user(api), "s")
    terminal = await logged_in(api, provider, "s", None)

    async def refused(token: str, detail: str) -> None:
        api.logout_guesses._own._counts.clear()
        answer = await told(api, token)
        assert (answer.status_code, answer.json()["code"]) == (400, "logout_refused"), answer.text
        known = (await refusals(api))[-1]
        assert known[0] == "sso_bad_token", known
        assert detail in known[1], known

    for claims, detail in CLAIMS:
        await refused(provider.logout_token(**{"sub": "s"} | claims), detail)
    provider.lies(typ="at+jwt")
    await refused(provider.logout_token(sub="s"), "kind")
    provider.lies(typ=None)
    for signing in SIGNATURES:
        provider.lies(signing=signing)
        await refused(provider.logout_token(sub="s"), "logout token")
    provider.lies(signing="")
    # What it gives out at a login is no logout.
    now = int(time.time())
    id_token = {"sub": "s", "iat": now, "exp": now + 60, "nonce": "n", "events": None, "aud": [CLIENT]}
    await refused(provider.logout_token(**id_token), "nonce")
    assert (await terminal.http.get("/session")).status_code == 200
    assert {one["data"]["purpose"] for one in await of_type(api, "LoginRefused")} == {"log_out"}
    # An older provider names no kind, and one audience of several is enough.
    assert (await told(api, provider.logout_token(sub="s", aud=["x", CLIENT]))).json() == {"sessions": 1}


async def test_a_token_counts_once(api: Api, provider: RunningProvider, postgres_url: str) -> None:
    """Also of two at once: whoever has seen one on its way does not log anybody out with it later."""
    await linked(api, await plain_user(api), "s")
    await logged_in(api, provider, "s", None)
    token = provider.logout_token(sub="s")
    both = await asyncio.gather(told(api, token), told(api, token))
    assert sorted(one.status_code for one in both) == [200, 400]
    later = await logged_in(api, provider, "s", None)
    assert (await told(api, token)).json()["code"] == "logout_refused"
    assert "before" in (await refusals(api))[-1][1]
    assert (await later.http.get("/session")).status_code == 200
    (taken,) = await of_type(api, "ProviderLogoutTaken")
    with psycopg.connect(postgres_url) as connection:
        sids = connection.execute("SELECT sid_sha256 FROM fleetlog.sessions").fetchall()
    assert sids == [(None,)]
    assert [UUID(one) for one in taken["data"]["sessions"]]


async def test_tokens_that_do_not_hold_are_held_back_by_address(api: Api, provider: RunningProvider) -> None:
    """After some; the log is told once. Those that hold are never counted, however many there are."""
    await linked(api, await plain_user(api), "s")
    free = LOGOUT_HOLDS[0].free
    for number in range(free + 5):
        assert (await told(api, provider.logout_token(sub=f"{number}"))).status_code == 200
    for _ in range(free):
        assert (await told(api, "a.b.c")).status_code == 400
    for token in ("a.b.c", provider.logout_token(sub="s")):
        held = await told(api, token)
        assert (held.status_code, held.json()["code"]) == (429, "locked_out")
        assert held.headers["retry-after"]
    (locked,) = await of_type(api, "LoginLockedOut")
    assert locked["data"]["purpose"] == "log_out"
    assert len(await refusals(api)) == free


async def test_it_comes_as_a_form_and_from_no_page(api: Api, provider: RunningProvider) -> None:
    """JSON, nothing, the same twice, or out of a browser: none of it is looked at."""
    token, http = provider.logout_token(sub="s"), api.client("")
    assert (await http.post(PATH, json={"logout_token": token})).status_code == 415
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for body, status in (("", 422), ("logout_token=", 422), ("other=x", 422), ("%ff", 400), ("a=1&" * 60 + "b=1", 400)):
        assert (await http.post(PATH, content=body, headers=headers)).status_code == status, body
    twice = await http.post(PATH, content=f"logout_token={token}&logout_token=x", headers=headers)
    assert twice.json()["errors"][0]["code"] == "repeated"
    evil = await http.post(PATH, data={"logout_token": token}, headers={"Origin": "https://evil.example"})
    assert evil.json()["code"] == "cross_site"
    assert (await told(api, token)).json() == {"sessions": 0}


@pytest.mark.parametrize("terms", [{"issuer": "http://127.0.0.1:9"}])
async def test_while_the_provider_is_away_nothing_is_believed(api: Api, provider: RunningProvider) -> None:
    """Its keys cannot be asked for; that is no wrong token, and is on record."""
    answer = await told(api, provider.logout_token(sub="s"))
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    assert (await refusals(api))[-1][0] == "sso_unavailable"


async def test_a_session_that_begins_while_a_logout_is_taken_is_over(
    api: Api, provider: RunningProvider, postgres_url: str
) -> None:
    """The logout looks when the login was let in, and its session is not there yet: it ends all the same."""
    await linked(api, await plain_user(api), "s")
    for claims in ({"sub": "s"}, {"sid": "one"}, {"sub": "s", "sid": "one"}):
        provider.lies(claims={"sid": "one"})
        terminal = Terminal(api, provider)
        assert (await terminal.hand_in(await terminal.back_from("s"))).is_success
        async with await psycopg.AsyncConnection.connect(postgres_url) as holding:
            await holding.execute("LOCK TABLE fleetlog.sessions IN SHARE ROW EXCLUSIVE MODE")
            entering = asyncio.create_task(terminal.enter())
            async with asyncio.timeout(20):
                while not await waits(postgres_url):  # noqa: ASYNC110 - another process tells of it
                    await asyncio.sleep(0.01)
            assert (await told(api, provider.logout_token(**claims))).json() == {"sessions": 0}
        refused = await entering
        assert (refused.status_code, refused.json()["code"]) == (401, "sso_refused"), claims
    assert [one["data"]["why"] for one in await of_type(api, "SessionEnded")] == ["provider"] * 3
    assert (await refusals(api))[-1] == ("sso_unknown_answer", "logged out there")
    # Neither is whoever comes afterwards kept out, nor somebody else.
    await linked(api, await plain_user(api, "Bob"), "other")
    assert set(await open_still({one: await logged_in(api, provider, one, one) for one in ("s", "other")})) == {
        "s",
        "other",
    }


async def waits(url: str) -> bool:
    """Whether somebody is about to begin a session."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        found = await connection.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE '%INTO fleetlog.sessions%'"
        )
        return await found.fetchone() is not None


async def test_a_logout_while_the_provider_is_asked_is_not_missed(api: Api) -> None:
    """From when the answer came: of that identity or session alone, by any id; and one of before is none."""
    flows, now, user_id = SsoFlows(api.pool), utc_now(), UserId(new_id())
    one, other, sid = new_id(), new_id(), b"s" * 32

    async def taken(said: bytes | None) -> Flow:
        began = await flows.begin("t", "http://here", None, None, now)
        flow = await flows.take(began.state, began.ticket, None, now)
        assert flow is not None
        await flows.vouched(flow, user_id, one, second_factor=False, roles=(), sid_sha256=said)
        found = await flows.find(began.state, began.ticket, now)
        assert found is not None
        return found

    await flows.drop([one], None)
    found = await taken(sid)
    steps: list[tuple[list[UUID] | None, bytes | None, bool]] = [
        ([other], None, False),
        (None, b"x" * 32, False),
        ([one], b"x" * 32, False),
        ([other], sid, False),
        ([other, one], None, True),
    ]
    for identities, said, overtaken in steps:
        await flows.drop(identities, said)
        assert await flows.logged_out(found) is overtaken, (identities, said)
    for identities, said, overtaken in (([one], sid, True), (None, sid, False)):
        unsaid = await taken(None)
        await flows.drop(identities, said)
        assert await flows.logged_out(unsaid) is overtaken
