"""Whoever lies in a provider's name, or plants or takes an answer, does not come in; the log says why."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_bus.sso_provider import KEYS_EVERY_S, MAX_BYTES
from command_bus.sso_terms import SsoTerms, must_be_reachable_safely
from tests.rest.conftest import administered
from tests.rest.harness import Api
from tests.rest.people import Person
from tests.rest.provider import CLIENT, SECRET, RunningProvider
from tests.rest.sso import Browser, Terminal, api, linked, plain_user, provider, refusals, running, terms

__all__ = ["api", "provider", "running", "terms"]


async def bad(api: Api, answer: httpx2.Response, why: str = "sso_bad_token", detail: str = "") -> None:
    """It was refused, in the one way, and the log says what it was."""
    assert (answer.status_code, answer.json()["code"]) == (401, "sso_refused"), answer.text
    known = (await refusals(api))[-1]
    assert known[0] == why, known
    assert detail in known[1], known


CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"nonce": "another"}, "nonce"),
    ({"nonce": None}, "nonce"),
    ({"nonce": ["another"]}, "nonce"),
    ({"iss": "https://other.example"}, "iss"),
    ({"iss": None}, "iss"),
    ({"aud": "another"}, "aud"),
    ({"aud": ["another", "third"]}, "aud"),
    ({"aud": None}, "aud"),
    ({"aud": [CLIENT, "another"]}, "azp"),
    ({"aud": [CLIENT, "another"], "azp": "another"}, "azp"),
    ({"azp": "another"}, "azp"),
    ({"exp": 1}, "expired"),
    ({"exp": None}, "exp"),
    ({"exp": "soon"}, "exp"),
    ({"iat": 4_000_000_000}, "future"),
    ({"nbf": 4_000_000_000}, ""),
    ({"sub": None}, "sub"),
    ({"sub": 7}, "sub"),
    ({"sub": ""}, ""),
    ({"sub": "x" * 256}, "subject"),
    ({"sub": "ada\u001b[2J"}, "subject"),
    ({"at_hash": "AAAA"}, "at_hash"),
    ({"auth_time": "now"}, "auth_time"),
    ({"amr": "mfa"}, "amr"),
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


async def tried(api: Api, provider: RunningProvider, **lies: Any) -> httpx2.Response:
    """Log in while the provider lies; as if nobody had been wrong before."""
    api.guesses._own._counts.clear()
    provider.lies(**lies)
    return await Terminal(api, provider).log_in("s")


async def test_a_token_that_does_not_hold(api: Api, provider: RunningProvider) -> None:
    """Another request's, another issuer's, for another client, of another time; or signed by nobody.

    Also where the provider itself says that it signs by shared secrets, or not at all.
    """
    await linked(api, await plain_user(api), "s")
    await linked(api, await plain_user(api, "Root"), "root")
    for claims, detail in CLAIMS:
        await bad(api, await tried(api, provider, claims=claims), detail=detail)
    for signing in SIGNATURES:
        await bad(api, await tried(api, provider, claims={}, signing=signing), detail="id_token")
    assert (await tried(api, provider, signing="")).status_code == 201


async def test_only_shared_secrets_is_no_signature(postgres_url: str, provider: RunningProvider) -> None:
    """An empty list of algorithms allows none, and not whatever the library likes."""
    provider.lies(metadata={"id_token_signing_alg_values_supported": ["HS256"]}, signing="HS256 with the public key")
    said = SsoTerms(issuer=provider.issuer, client_id=CLIENT, client_secret=SECRET)
    async with administered(postgres_url, sso=said) as api:
        await linked(api, await plain_user(api), "s")
        await bad(api, await Terminal(api, provider).log_in("s"), detail="algorithms")


async def test_keys_rotate(api: Api, provider: RunningProvider) -> None:
    """A token by a new key has the keys asked for anew, once in a while and no more; also where it has the old name."""
    await linked(api, await plain_user(api), "s")
    assert (await Terminal(api, provider).log_in("s")).status_code == 201
    assert provider.asked()["keys"] == 1
    assert (await Terminal(api, provider).log_in("s")).status_code == 201
    assert provider.asked()["keys"] == 1
    through = api.provider
    for name in (None, "same", "same"):
        provider.lies(rotate=name)
        # Keys were asked for a moment ago, so that whoever sends tokens of unknown keys has nobody flooded.
        before = provider.asked()["keys"]
        await bad(api, await Terminal(api, provider).log_in("s"), detail="id_token")
        assert provider.asked()["keys"] == before
        through._keys = (through._keys[0] - KEYS_EVERY_S, through._keys[1])
        assert (await Terminal(api, provider).log_in("s")).status_code == 201
        assert provider.asked()["keys"] == before + 1


async def test_an_answer_counts_once_and_where_it_was_begun(api: Api, provider: RunningProvider) -> None:
    """Replayed, by another browser, for another state, too late, of two at once: nobody but its beginner, once."""
    ada = await plain_user(api)
    await linked(api, ada, "s")
    mine, other = Terminal(api, provider), Terminal(api, provider)
    answer, foreign = await mine.back_from("s"), await other.back_from("s")
    unknown = "sso_unknown_answer"
    # Somebody else's answer in my browser (login CSRF), and mine in somebody else's.
    await bad(api, await mine.hand_in(foreign), unknown)
    await bad(api, await other.hand_in(answer), unknown)
    await bad(api, await mine.hand_in(answer, ticket="x"), unknown)
    await bad(api, await mine.hand_in(answer, state="t.x"), unknown)
    await bad(api, await mine.http.post("/session/sso/answer", json=answer), unknown)
    # A code of another login under my own state: PKCE.
    answer = await mine.back_from("s")
    await bad(api, await mine.hand_in(answer, code=foreign["code"]), detail="invalid_grant")
    # That was its one try; nobody begins a session by it.
    await bad(api, await mine.hand_in(answer), unknown)
    await bad(api, await mine.enter(), unknown)
    fresh = await mine.back_from("s")
    both = await asyncio.gather(mine.hand_in(fresh), mine.hand_in(fresh))
    assert sorted(one.status_code for one in both) == [200, 401]
    both = await asyncio.gather(mine.enter(), mine.enter())
    assert sorted(one.status_code for one in both) == [201, 401]
    late = await mine.back_from("s")
    api.clock.ahead += timedelta(minutes=10)
    await bad(api, await mine.hand_in(late), unknown)


async def test_a_page_of_another_site_hands_nothing_in(api: Api, provider: RunningProvider) -> None:
    """What a browser says of where it comes from counts, as for any login; a session is needed for none of it."""
    await linked(api, await plain_user(api), "s")
    browser = Browser(api, provider)
    assert (await browser.log_in("s")).status_code == 201
    for path in ("/session/sso/offer", "/session/sso/answer", "/session/sso"):
        evil = await browser.http.post(path, json={"state": "b.x"}, headers={"Origin": "https://evil.example"})
        assert (evil.status_code, evil.json()["code"]) == (403, "cross_site")
    plain = api.client("", Host="fleet.example.com")
    assert (await plain.post("/session/sso/offer", json={})).json()["code"] == "https_needed"


async def test_another_providers_answer_is_not_this_ones(api: Api, provider: RunningProvider) -> None:
    """Mix-up (RFC 9207): who says to be another is refused, and so is who says nothing where this one always does."""
    await linked(api, await plain_user(api), "s")
    terminal = Terminal(api, provider)
    answer = await terminal.back_from("s")
    await bad(api, await terminal.hand_in(answer, iss="https://other.example"), detail="issuer")
    answer = await terminal.back_from("s")
    assert (await terminal.hand_in(answer, iss=provider.issuer)).is_success
    api.provider._published = None
    provider.lies(metadata={"authorization_response_iss_parameter_supported": True})
    await bad(api, await terminal.hand_in(await terminal.back_from("s")), detail="issuer")
    assert provider.asked()["token"] == 1


async def test_a_refusal_of_the_provider_is_one(api: Api, provider: RunningProvider) -> None:
    """With what it said in the log, as text."""
    terminal = Terminal(api, provider)
    await terminal.offered()
    body = {"state": terminal.state, "ticket": terminal.ticket, "error": "access_denied\u001b[2J"}
    await bad(api, await terminal.http.post("/session/sso/answer", json=body), "sso_declined", "access_denied[2J")


async def test_guesses_at_codes_are_held_back(api: Api, provider: RunningProvider) -> None:
    """Whoever has the password of the provider's account guesses at the second factor no faster than at any."""
    ada = await Person.ready(api)
    await linked(api, ada.user_id, "s")
    terminal = Terminal(api, provider)
    assert (await terminal.hand_in(await terminal.back_from("s"))).is_success
    seen = [(await terminal.enter(f"{number:06}")).json()["code"] for number in range(8)]
    assert seen == ["login_refused"] * 4 + ["locked_out"] * 4 or seen[-1] == "locked_out", seen
    assert seen[0] == "login_refused"


LONG = "x" * (MAX_BYTES + 1)


NONSENSE: dict[str, Any] = {
    "an error": {"token_answer": [500, "{}"]},
    "no JSON": {"token_answer": [200, "<html>"]},
    "a list": {"token_answer": [200, "[]"]},
    "a deep list": {"token_answer": [200, "[" * 200_000]},
    "too much": {"token_answer": [200, json.dumps({"id_token": LONG})]},
    "a redirect": {"token_answer": None, "redirect": "http://169.254.169.254/latest/meta-data"},
}


async def test_nonsense_is_no_answer(api: Api, provider: RunningProvider) -> None:
    """It is told apart from a refusal, and nothing is followed."""
    await linked(api, await plain_user(api), "s")
    for name, lie in NONSENSE.items():
        answer = await tried(api, provider, **lie)
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable"), (name, answer.text)
        assert (await refusals(api))[-1][0] == "sso_unavailable", name
    assert len(await refusals(api)) == len(NONSENSE)


PUBLISHED: list[tuple[dict[str, Any], str]] = [
    ({"metadata": {"issuer": "https://other.example"}}, "to the letter"),
    ({"metadata": {"token_endpoint": "http://169.254.169.254/latest"}}, "token_endpoint"),
    ({"metadata": {"jwks_uri": "file:///etc/passwd"}}, "jwks_uri"),
    ({"metadata": {"authorization_endpoint": "javascript:alert(1)"}}, "authorization_endpoint"),
    ({"metadata": {"end_session_endpoint": "https://user:pw@x.example"}}, "end_session_endpoint"),
    ({"metadata": {"token_endpoint": None}}, "token_endpoint"),
    ({"raw_metadata": "[]"}, "JSON object"),
    ({"raw_metadata": "nonsense"}, "no JSON"),
    ({"raw_metadata": LONG}, "bytes"),
]


async def test_what_it_publishes_is_checked(api: Api, provider: RunningProvider) -> None:
    """An issuer that is another, or an address that is no safe one, is not gone to; the answer says which."""
    http = api.client("")
    for about, says in PUBLISHED:
        provider.lies(reset=True, **about)
        api.provider._away = None
        # Those who come meanwhile do not all go there, too.
        for _ in range(2):
            answer = await http.post("/session/sso/offer", json={"terminal": True})
            assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
            assert says in answer.json()["detail"]
        assert provider.asked() == {"metadata": 1}


async def test_a_provider_that_is_away_keeps_nobody_from_passwords(postgres_url: str) -> None:
    """The answer says so at once; people with a password log in."""
    said = SsoTerms(issuer="http://127.0.0.1:9", client_id=CLIENT)
    async with administered(postgres_url, sso=said) as api:
        answer = await api.client("").post("/session/sso/offer", json={"terminal": True})
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
        assert answer.headers["retry-after"]
        await Person.ready(api)


async def test_who_reads_the_table_takes_nobody_over(api: Api, provider: RunningProvider, postgres_url: str) -> None:
    """State and ticket are kept as hashes, and no secret is in the log."""
    await linked(api, await plain_user(api), "s")
    terminal = Terminal(api, provider)
    answer = await terminal.back_from("s")
    with psycopg.connect(postgres_url) as connection:
        rows = str(connection.execute("SELECT * FROM fleetlog.sso_flows").fetchall())
        assert terminal.state not in rows
        assert terminal.ticket not in rows
        assert (await terminal.hand_in(answer)).is_success
        assert (await terminal.enter()).status_code == 201
        assert connection.execute("SELECT count(*) FROM fleetlog.sso_flows").fetchone() == (0,)
        story = b"".join(row[0] for row in connection.execute("SELECT state FROM fleetlog.events").fetchall())
    for secret in (answer["code"], terminal.ticket, terminal.state, SECRET):
        assert secret.encode() not in story


@given(st.text(max_size=30), st.booleans())
def test_an_address_is_safe_or_refused(text: str, loopback: bool) -> None:
    """Whatever is written: https, or plain text on this machine where that will do; nothing else."""
    for url in (text, f"http://{text}", f"https://{text}", f"http://127.0.0.1:{text}"):
        try:
            must_be_reachable_safely(url, loopback=loopback)
        except ValueError:
            continue
        parts = urlsplit(url)
        assert parts.scheme == "https" or (loopback and parts.hostname in ("127.0.0.1", "localhost", "::1"))
        assert parts.username is None


def test_the_address_has_what_the_specification_asks_for() -> None:
    """The name of a host decides, not how the rest begins."""
    for url in ("http://127.0.0.1.evil.example/", "http://localhost@evil.example/", "ftp://x", "https://", "//x", "x"):
        with pytest.raises(ValueError, match="it must be"):
            must_be_reachable_safely(url, loopback=True)
    assert parse_qs(urlsplit(must_be_reachable_safely("https://x.example/?a=b", loopback=False)).query)
