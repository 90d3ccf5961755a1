"""Logging in through a provider: who is linked comes in, with as many factors as are asked for, and out again."""

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from command_bus.context import Caller
from command_bus.intents.grants import Grant as Wanted
from command_bus.intents.users import CreateUser
from command_bus.sso_terms import SsoTerms
from domain.identities import Identity
from tests.rest.conftest import administered
from tests.rest.harness import Api, made
from tests.rest.people import Person
from tests.rest.provider import CLIENT, RunningProvider
from tests.rest.sso import Browser, Terminal, api, linked, of_type, plain_user, provider, refusals, running, terms
from tests.rest.test_permissions import until

__all__ = ["api", "provider", "running", "terms"]

ALL: dict[str, Any] = {"role": "administrator", "everything": True}
TRUSTING = pytest.mark.parametrize("terms", [{"trusted_amr": frozenset({"mfa"})}])


async def test_who_is_linked_comes_in_with_a_code(api: Api, provider: RunningProvider) -> None:
    """The provider stands for the password; the code is asked for here all the same, and the log has all of it."""
    ada = await Person.ready(api, "Ada", ALL)
    identity_id = await linked(api, ada.user_id, "sub-ada")
    terminal = Terminal(api, provider)
    known = await terminal.hand_in(await terminal.back_from("sub-ada"))
    assert known.json() == {"name": "Ada", "code_needed": True}
    without = await terminal.enter()
    assert (without.status_code, without.json()["code"]) == (403, "code_needed")
    wrong = await terminal.enter("000000")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "login_refused")
    begun = await terminal.enter(ada.code())
    assert (begun.status_code, begun.json()["pending"]) == (201, [])
    assert (await terminal.http.get("/agents")).status_code == 200
    opened = (await ada.events("SessionOpened"))[-1]
    assert opened["data"]["proofs"] == ["sso", "totp"]
    assert opened["data"]["identity_id"] == identity_id
    assert opened["actor"] == f"user:{ada.user_id}"
    # What began it is used up.
    again = await terminal.enter(ada.code())
    assert (again.status_code, again.json()["code"]) == (401, "sso_refused")
    (lapsed,) = (await terminal.http.get("/session")).json()["pending"] or [None]
    assert lapsed is None


async def test_a_browser_gets_a_cookie_and_gives_both_back(api: Api, provider: RunningProvider) -> None:
    """Who has no second factor yet enrolls one first; a logout tells where the provider's own is."""
    user_id = await plain_user(api, "Ada", ALL)
    await linked(api, user_id, "sub-ada")
    browser = Browser(api, provider)
    begun = await browser.log_in("sub-ada")
    assert (begun.status_code, begun.json()["pending"], begun.json()["token"]) == (201, ["totp"], None)
    assert "HttpOnly" in begun.headers["set-cookie"]
    assert "SameSite=strict" in begun.headers["set-cookie"]
    assert (await browser.http.get("/agents")).json()["code"] == "login_incomplete"
    person = Person(api, user_id, "Ada", http=browser.http)
    await person.enroll()
    assert (await browser.http.get("/agents")).status_code == 200
    over = await browser.http.post("/session/end", json={})
    url = urlsplit(over.json()["provider_logout_url"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{provider.issuer}/logout"
    assert parse_qs(url.query)["post_logout_redirect_uri"] == [f"{api.url}/login/sso"]
    assert (await browser.http.get("/session")).status_code == 401


async def test_a_session_by_password_knows_no_provider(api: Api) -> None:
    """Its logout leads nowhere else."""
    ada = await Person.ready(api)
    assert (await ada.http.post("/session/end", json={})).json()["provider_logout_url"] is None


@TRUSTING
async def test_a_second_factor_at_the_provider_is_enough_where_that_is_said(
    api: Api, provider: RunningProvider
) -> None:
    """By `amr`; without that word a code is asked for. Who has neither password nor code shows themselves there."""
    user_id = await plain_user(api, "Ada", ALL)
    await linked(api, user_id, "sub-ada")
    weak = Terminal(api, provider)
    assert (await weak.log_in("sub-ada")).json()["pending"] == ["totp"]
    provider.lies(claims={"amr": ["pwd", "mfa"]})
    terminal = Terminal(api, provider)
    assert (await terminal.log_in("sub-ada")).json()["pending"] == []
    assert (await terminal.http.post("/clients", json={"name": "Acme"})).status_code == 201
    api.clock.ahead += timedelta(minutes=11)
    user = {"name": "Bob"}
    assert (await terminal.http.post("/users", json=user)).json()["code"] == "fresh_proof_needed"
    provider.lies(claims={"amr": ["mfa"], "auth_time": int(api.clock().timestamp())})
    answer = provider.sign_in(await terminal.offered("/session/proof/sso/offer"), "sub-ada")
    proved = await terminal.http.post("/session/proof/sso", json=answer | {"ticket": terminal.ticket})
    assert proved.is_success, proved.text
    assert (await terminal.http.post("/users", json=user)).status_code == 201


@pytest.mark.parametrize("terms", [{"trusted_acr": frozenset({"urn:two"})}])
async def test_a_context_is_asked_for_and_trusted(api: Api, provider: RunningProvider) -> None:
    """By `acr`, which the provider is asked for."""
    await linked(api, await plain_user(api, "Ada", ALL), "sub-ada")
    terminal = Terminal(api, provider)
    assert parse_qs(urlsplit(await terminal.offered()).query)["acr_values"] == ["urn:two"]
    for acr, pending in (("urn:one", ["totp"]), ("urn:two", [])):
        provider.lies(claims={"acr": acr})
        assert (await Terminal(api, provider).log_in("sub-ada")).json()["pending"] == pending


async def test_a_proof_is_of_that_person_and_of_now(api: Api, provider: RunningProvider) -> None:
    """Another identity, an answer that was there before, or another session's proves nothing."""
    ada = await Person.ready(api, "Ada", ALL)
    await linked(api, ada.user_id, "sub-ada")
    await linked(api, await plain_user(api, "Bob"), "sub-bob")
    terminal = Terminal(api, provider, http=ada.http)
    now = int(api.clock().timestamp())
    for subject, claims in (
        ("sub-bob", {"auth_time": now}),
        ("sub-ada", {"auth_time": now - 3600}),
        ("sub-ada", {"auth_time": None}),
    ):
        provider.lies(claims=claims)
        url = await terminal.offered("/session/proof/sso/offer")
        assert parse_qs(urlsplit(url).query)["prompt"] == ["login"]
        answer = provider.sign_in(url, subject)
        refused = await ada.http.post("/session/proof/sso", json=answer | {"ticket": terminal.ticket})
        assert (refused.status_code, refused.json()["code"]) == (403, "proof_refused")
    provider.lies(claims={"auth_time": now})
    answer = await terminal.back_from("sub-ada")
    mixed = await ada.http.post("/session/proof/sso", json=answer | {"ticket": terminal.ticket})
    assert mixed.json()["code"] == "proof_refused"
    no_session = await api.client().post("/session/proof/sso/offer", json={"terminal": True})
    assert no_session.json()["code"] == "no_session"


async def test_linking_is_for_who_may_and_an_identity_is_one_users(api: Api, provider: RunningProvider) -> None:
    """Of two who ask at once one has it; taken away, it opens nothing, its sessions are over, and it is free."""
    ada, bob = await Person.ready(api, "Ada", ALL), await plain_user(api, "Bob")
    admin = api.client()
    both = await asyncio.gather(
        *(admin.post(f"/users/{one}/identities", json={"subject": "s"}) for one in (ada.user_id, bob))
    )
    assert sorted(one.status_code for one in both) == [201, 409]
    assert {one.json().get("code") for one in both} == {None, "identity_taken"}
    holder = ada.user_id if both[0].is_success else bob
    identity_id = next(one.json()["id"] for one in both if one.is_success)
    items = (await admin.get(f"/users/{holder}/identities")).json()["items"]
    assert items == [{"id": identity_id, "issuer": provider.issuer, "subject": "s"}]
    terminal = Terminal(api, provider)
    begun = await terminal.log_in("s", ada.code() if holder == ada.user_id else None)
    assert begun.status_code == 201
    gone = await admin.post(f"/users/{holder}/identities/{identity_id}/remove", json={"reason": "left"})
    assert gone.is_success
    await until(terminal.http, "/session", 401)
    refused = await Terminal(api, provider).log_in("s")
    assert (refused.status_code, refused.json()["code"]) == (403, "identity_not_linked")
    assert "--subject 's'" in refused.json()["detail"]
    held_as = Identity(issuer=provider.issuer, subject="s").secret_id(await api.log.names_key())
    assert (await refusals(api))[-1] == ("sso_not_linked", f"{provider.issuer} {held_as}")
    again = await admin.post(f"/users/{holder}/identities/{identity_id}/remove", json={})
    assert again.status_code == 404
    assert await linked(api, bob, "s") == identity_id
    (event, *_) = await ada.events("IdentityUnlinked")
    assert event["data"]["reason"] == "left"


async def test_what_cannot_be_linked_is_not(api: Api) -> None:
    """A service account, somebody who may do more, noise, the same twice; a key that may not."""
    admin = api.client()
    service = (await made(admin, "/users", {"name": "ci", "kind": "service"}))["id"]
    ada = await plain_user(api, "Ada", ALL)
    assert (await admin.post(f"/users/{service}/identities", json={"subject": "s"})).json()["code"] == "not_a_person"
    for subject in ("a\u0007b", " s", ""):
        assert (await admin.post(f"/users/{ada}/identities", json={"subject": subject})).status_code == 422
    await linked(api, ada, "s")
    assert (await admin.post(f"/users/{ada}/identities", json={"subject": "s"})).status_code in (409, 422)
    assert (await admin.get(f"/users/{service}0/identities")).status_code == 404
    await made(admin, "/roles", {"name": "people", "permissions": ["users.manage", "people.see"]})
    lesser = api.client(await api.key_that_may(grants=[{"role": "people", "everything": True}]))
    refused = await lesser.post(f"/users/{ada}/identities", json={"subject": "mine"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_who_is_disabled_or_unlinked_on_the_way_stays_out(api: Api, provider: RunningProvider) -> None:
    """Between the provider's word and the session, too."""
    user_id, admin = await plain_user(api), api.client()
    identity_id = await linked(api, user_id, "s")
    terminal = Terminal(api, provider)
    assert (await terminal.hand_in(await terminal.back_from("s"))).is_success
    await made(admin, f"/users/{user_id}/identities/{identity_id}/remove", {})
    assert (await terminal.enter()).json()["code"] == "sso_refused"
    await linked(api, user_id, "s")
    assert (await terminal.hand_in(await terminal.back_from("s"))).is_success
    await made(admin, f"/users/{user_id}/disable", {})
    assert (await terminal.enter()).json()["code"] == "sso_refused"
    assert (await terminal.log_in("s")).json()["code"] == "sso_refused"
    assert [why for why, _ in await refusals(api)] == ["sso_not_linked", "disabled_user", "disabled_user"]


PROVISION = {
    "domains": frozenset({"example.com"}),
    "roles": {"fleet-ops": "operator", "fleet-boss": "administrator", "odd": "no such role"},
}


async def users(api: Api) -> list[dict[str, Any]]:
    """All that the log knows of now."""
    answer = await api.client().get("/users", params={"wait_position": await api.log.head()})
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.mark.parametrize("terms", [PROVISION])
async def test_who_comes_from_a_trusted_domain_gets_a_user(api: Api, provider: RunningProvider) -> None:
    """Once, also of two who come at once; by an address that is verified, with the roles of their groups."""
    mail = {"email": "ada@Example.com", "email_verified": True, "groups": ["fleet-ops", "others"]}
    provider.lies(claims=mail)
    first, second = Terminal(api, provider), Terminal(api, provider)
    answers = [await first.back_from("sub-ada"), await second.back_from("sub-ada")]
    both = await asyncio.gather(first.hand_in(answers[0]), second.hand_in(answers[1]))
    assert [one.status_code for one in both] == [200, 200], [one.text for one in both]
    assert (await first.enter()).json()["pending"] == ["totp"]
    (made_user,) = [user for user in await users(api) if user["name"] == "ada@Example.com"]
    assert await may(api, made_user["id"]) == ([], ["operator"])
    assert (made_user["actor"], made_user["email"]) == ("sso", "ada@Example.com")


async def may(api: Api, user_id: str) -> tuple[list[str], list[str]]:
    """Somebody's roles: granted here, and by their groups."""
    shown = (await api.client().get(f"/users/{user_id}", params={"wait_position": await api.log.head()})).json()
    return [one["role"] for one in shown["grants"]], [one["role"] for one in shown["group_grants"]]


@pytest.mark.parametrize("terms", [{"roles": PROVISION["roles"]}])
async def test_groups_count_at_each_login(api: Api, provider: RunningProvider) -> None:
    """They give and take away, apart from what was granted by hand; the same again is no event, and noise no group."""
    user_id = await plain_user(api, "Ada", {"role": "helpdesk", "everything": True})
    await linked(api, user_id, "s")
    steps: list[tuple[Any, list[str]]] = [
        (["fleet-ops", "fleet-boss", "odd", 7], ["operator", "administrator"]),
        (["fleet-boss", "fleet-ops"], ["operator", "administrator"]),
        ("fleet-ops", ["operator"]),
        (["odd", "others"], []),
        (["fleet-boss"], ["administrator"]),
        (None, []),
    ]
    for groups, roles in steps:
        provider.lies(claims={"groups": groups})
        terminal = Terminal(api, provider)
        assert (await terminal.log_in("s")).status_code == 201
        assert await may(api, user_id) == (["helpdesk"], roles), groups
    applied = await of_type(api, "UserGroupsApplied")
    assert [len(one["data"]["grants"]) for one in applied] == [2, 1, 0, 1, 0]
    assert {(one["actor"], one["data"]["issuer"]) for one in applied} == {("sso", provider.issuer)}
    # By hand nothing of the groups' is touched, nor kept.
    provider.lies(claims={"groups": ["fleet-ops"]})
    assert (await Terminal(api, provider).log_in("s")).status_code == 201
    assert (await api.client().put(f"/users/{user_id}/grants", json={"grants": []})).is_success
    assert await may(api, user_id) == ([], ["operator"])


@pytest.mark.parametrize("terms", [{"roles": PROVISION["roles"]}])
async def test_what_an_earlier_version_gave_by_groups_goes_with_them(api: Api, provider: RunningProvider) -> None:
    """It made users with these roles; what an administrator has granted since is theirs to take away."""
    users_of_old = []
    for name in ("Ada", "Bob"):
        intent = CreateUser(name=name, grants=[Wanted(role="administrator", everything=True)])
        done = await api.bus.dispatch(intent, Caller(actor="sso", correlation_id=uuid4()))
        users_of_old.append(str(done.answer["id"]))
        await linked(api, users_of_old[-1], name)
    ada, bob = users_of_old
    assert (await api.client().put(f"/users/{bob}/grants", json={"grants": [ALL]})).is_success
    provider.lies(claims={"groups": ["fleet-ops"]})
    for name in ("Ada", "Bob"):
        assert (await Terminal(api, provider).log_in(name)).status_code == 201
    assert await may(api, ada) == ([], ["operator"])
    assert await may(api, bob) == (["administrator"], ["operator"])


STRANGERS: list[dict[str, Any]] = [
    {"email": "eve@example.com"},
    {"email": "eve@example.com", "email_verified": False},
    {"email": "eve@example.com.evil.example", "email_verified": True},
    {"email": "eve@evil.example", "email_verified": True},
    {"email": ["eve@example.com"], "email_verified": True},
    {"email": "taken@example.com", "email_verified": True},
    {"email": "@example.com", "email_verified": True},
]


@pytest.mark.parametrize("terms", [PROVISION])
async def test_who_does_not_gets_none(api: Api, provider: RunningProvider) -> None:
    """Nor is anybody ever made a user who is there already, whatever the address."""
    await plain_user(api, "taken@example.com", ALL)
    before = await users(api)
    for number, claims in enumerate(STRANGERS):
        provider.lies(claims=claims)
        refused = await Terminal(api, provider).log_in(f"sub-{number}")
        assert (refused.status_code, refused.json()["code"]) == (403, "identity_not_linked"), claims
    assert await users(api) == before
    assert {why for why, _ in await refusals(api)} == {"sso_not_linked"}


async def test_a_terminal_says_where_the_page_sends_the_answer(api: Api, provider: RunningProvider) -> None:
    """By the state's first letters; the page itself is static, and lets nobody frame it or load anything else."""
    terminal = Terminal(api, provider)
    for more, kind in (({"port": 40_000}, "40000"), ({}, "t")):
        url = parse_qs(urlsplit(await terminal.offered(**more)).query)
        assert terminal.state.startswith(f"{kind}.")
        assert url["redirect_uri"] == [f"{api.url}/login/sso"]
        assert url["code_challenge_method"] == ["S256"]
    assert (await terminal.http.post("/session/sso/offer", json={"terminal": True, "port": 80})).status_code == 422
    for path, kind in (("/login/sso", "text/html"), ("/login/sso.js", "text/javascript")):
        page = await api.client("", check=False).get(api.url + path)
        assert page.headers["content-type"].startswith(kind)
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
    assert (await terminal.http.get("/session/sso")).json() == {"available": True, "name": "127.0.0.1"}


async def test_without_a_provider_nothing_of_it_is_there(postgres_url: str) -> None:
    """Each request says so, and an identity is linked only where its issuer is named."""
    async with administered(postgres_url) as api:
        http = api.client("")
        assert (await http.get("/session/sso")).json() == {"available": False, "name": None}
        for path, body in (
            ("/session/sso/offer", {"terminal": True}),
            ("/session/sso/answer", {"state": "s", "code": "c"}),
            ("/session/sso", {"state": "s", "bearer": True}),
        ):
            refused = await http.post(path, json=body)
            assert (refused.status_code, refused.json()["code"]) == (409, "sso_off"), path
        ada = await plain_user(api)
        assert (await api.client().post(f"/users/{ada}/identities", json={"subject": "s"})).status_code == 422
        await linked(api, ada, "s", issuer="https://login.example.com")


@pytest.mark.parametrize("method", ["client_secret_post", "none"])
async def test_however_the_provider_wants_its_client_shown(
    postgres_url: str, provider: RunningProvider, method: str
) -> None:
    """In the form, or not at all: of a public client PKCE has to do."""
    provider.lies(auth_method=method, metadata={"token_endpoint_auth_methods_supported": [method]})
    secret = None if method == "none" else "only/for+tests:%"
    terms = SsoTerms(issuer=provider.issuer, client_id=CLIENT, client_secret=secret)
    async with administered(postgres_url, sso=terms) as api:
        await linked(api, await plain_user(api), "s")
        assert (await Terminal(api, provider).log_in("s")).status_code == 201
