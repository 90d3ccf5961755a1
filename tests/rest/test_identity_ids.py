"""Ids of identities at a provider tell nobody whose they are, and what was recorded when they did is found."""

from typing import Any
from uuid import UUID

import psycopg

from command_bus.repository import load
from domain.identities import Identity, IdentityHolder
from domain.ids import UserId
from domain.logins import Login, login_stream
from tests.event_log.samples import metadata
from tests.rest.harness import Api
from tests.rest.provider import RunningProvider
from tests.rest.sso import Terminal, api, linked, of_type, plain_user, provider, running, terms

__all__ = ["api", "provider", "running", "terms"]


def guessed(url: str, identity: Identity) -> list[str]:
    """Where whoever reads the log finds that a guess of an identity is right."""
    query = "SELECT originator_id::text || ' ' || topic || ' ' || convert_from(state, 'UTF8') FROM fleetlog.events"
    with psycopg.connect(url) as connection:
        rows = [row[0] for row in connection.execute(query).fetchall()]
    told = (str(identity.plain_id), identity.plain_id.hex, identity.subject)
    return [row for row in rows if any(one in row for one in told)]


async def link_as_before(api: Api, user_id: str, identity: Identity) -> None:
    """What an earlier version recorded."""
    holder_id = UserId(UUID(user_id))
    login = await load(api.log, Login, login_stream(holder_id))
    holder = await load(api.log, IdentityHolder, identity.plain_id)
    await api.log.append([login.link(holder_id, identity), holder.hold(holder_id)], metadata())


async def identities(api: Api, user_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api.client().get(f"/users/{user_id}/identities")).json()["items"]
    return items


async def test_whoever_guesses_a_subject_does_not_see_it_in_the_log(
    api: Api, provider: RunningProvider, postgres_url: str
) -> None:
    """Linked, logged in with, logged out by the provider and unlinked: nothing in the log is a hash of it alone."""
    identity = Identity(provider.issuer, "corvus-9d1c")
    user_id = await plain_user(api)
    identity_id = await linked(api, user_id, identity.subject)
    assert [one["id"] for one in await identities(api, user_id)] == [identity_id]
    assert identity_id == str(identity.secret_id(await api.log.names_key()))
    assert (await Terminal(api, provider).log_in(identity.subject)).status_code == 201
    (opened,) = await of_type(api, "SessionOpened")
    assert opened["data"]["identity_id"] == identity_id
    logout = {"logout_token": provider.logout_token(sub=identity.subject)}
    assert (await api.client("").post("/session/sso/logout", data=logout)).json() == {"sessions": 1}
    gone = await api.client().post(f"/users/{user_id}/identities/{identity_id}/remove", json={})
    assert gone.is_success, gone.text
    assert guessed(postgres_url, identity) == []


async def test_an_identity_of_before_goes_on(api: Api, provider: RunningProvider, postgres_url: str) -> None:
    """It opens its user's door and nobody else's, its sessions end at a logout, and it is freed by either id."""
    identity, http = Identity(provider.issuer, "s"), api.client()
    user_id, other = await plain_user(api), await plain_user(api, "Bob")
    await link_as_before(api, user_id, identity)
    (shown,) = await identities(api, user_id)
    assert shown["id"] != str(identity.plain_id)
    taken = await http.post(f"/users/{other}/identities", json={"subject": "s"})
    assert (taken.status_code, taken.json()["code"]) == (409, "identity_taken")

    # An earlier version took the answer of the first, and began its session.
    first, second = Terminal(api, provider), Terminal(api, provider)
    assert (await first.hand_in(await first.back_from("s"))).is_success
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("UPDATE fleetlog.sso_flows SET identity_id = %s, taken_at = NULL", [identity.plain_id])
    assert (await first.enter()).status_code == 201
    assert (await second.log_in("s")).status_code == 201
    opened = [one["data"]["identity_id"] for one in await of_type(api, "SessionOpened")]
    assert opened == [str(identity.plain_id), shown["id"]]
    logout = {"logout_token": provider.logout_token(sub="s")}
    assert (await api.client("").post("/session/sso/logout", data=logout)).json() == {"sessions": 2}

    for owner, by, given in ((user_id, str(identity.plain_id), other), (other, shown["id"], user_id)):
        gone = await http.post(f"/users/{owner}/identities/{by}/remove", json={})
        assert gone.is_success, gone.text
        assert await linked(api, given, "s") == shown["id"]
    assert (await load(api.log, IdentityHolder, identity.plain_id)).holder is None
    assert (await Terminal(api, provider).log_in("s")).status_code == 201
