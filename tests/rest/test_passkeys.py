"""Passkeys: they open the door at their own address, once for each challenge, to a user whom the device verified."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webauthn.helpers import bytes_to_base64url as b64

from command_bus.handlers.passkeys import _read
from command_bus.ids import new_id
from domain.errors import InvalidValueError
from domain.ids import UserId
from domain.logins import Login, login_stream
from domain.passkeys import MOST, Passkey
from tests.rest.authenticator import PRESENT, Device
from tests.rest.harness import Api
from tests.rest.people import FIRST, SECOND, Person

ALL: dict[str, Any] = {"role": "administrator", "everything": True}


async def added(person: Person) -> Device:
    """A passkey of a person who is logged in."""
    device = Device()
    options = (await person.http.post("/session/passkeys/offer")).json()["options"]
    credential = device.make(options, person.origin)
    answer = await person.http.post("/session/passkeys", json={"name": "laptop", "credential": credential})
    assert answer.is_success, answer.text
    return device


async def asked(api: Api) -> dict[str, Any]:
    options: dict[str, Any] = (await api.client("").post("/session/passkey/options")).json()["options"]
    return options


async def tried(api: Api, credential: Any) -> Any:
    return await api.client("").post("/session/passkey", json={"credential": credential, "bearer": True})


async def test_a_passkey_stands_for_both_factors(api: Api) -> None:
    """Added in a session, it begins another without name, password or code; taken away, it opens nothing."""
    ada = await Person.ready(api, "Ada", ALL)
    device = await added(ada)
    (shown,) = (await ada.http.get("/session/passkeys")).json()["items"]
    assert shown["name"] == "laptop"
    opened = await tried(api, device.sign(await asked(api), ada.origin))
    assert (opened.status_code, opened.json()["pending"]) == (201, [])
    there = api.client(opened.json()["token"])
    assert (await there.get("/me")).json()["actor"] == f"user:{ada.user_id}"
    assert (await ada.events("SessionOpened"))[-1]["data"]["proofs"] == ["passkey"]
    answer = await api.client("").post(
        "/session/passkey", json={"credential": device.sign(await asked(api), ada.origin)}
    )
    assert answer.json()["token"] is None
    assert "HttpOnly" in answer.headers["set-cookie"]
    for _ in range(2):
        assert (await there.post(f"/session/passkeys/{shown['id']}/rename", json={"name": " desk "})).is_success
    (renamed,) = (await there.get("/session/passkeys")).json()["items"]
    assert renamed == {"id": shown["id"], "name": "desk"}
    assert len(await ada.events("PasskeyRenamed")) == 1
    assert (await there.post(f"/session/passkeys/{new_id()}/rename", json={"name": "x"})).status_code == 404
    assert (await there.post(f"/session/passkeys/{shown['id']}/rename", json={"name": " "})).status_code == 422
    assert (await there.post(f"/session/passkeys/{shown['id']}/remove")).is_success
    assert (await there.post(f"/session/passkeys/{shown['id']}/remove")).status_code == 404
    assert (await ada.http.get("/session/passkeys")).json()["items"] == []
    refused = await tried(api, device.sign(await asked(api), ada.origin))
    assert (refused.status_code, refused.json()["code"]) == (401, "login_refused")


async def test_a_passkey_is_a_fresh_proof(api: Api) -> None:
    """Of that session alone: no other key, session, challenge or time proves anything."""
    ada, bob = await Person.ready(api, "Ada", ALL), await Person.ready(api, "Bob")
    device, other = await added(ada), await added(bob)

    async def options(person: Person) -> dict[str, Any]:
        answer = await person.http.post("/session/proof/passkey/options")
        assert answer.is_success, answer.text
        told: dict[str, Any] = answer.json()["options"]
        return told

    async def shown(credential: Any) -> Any:
        return await ada.http.post("/session/proof/passkey", json={"credential": credential})

    api.clock.ahead += timedelta(minutes=10)
    assert (await ada.http.post("/users", json={"name": "x"})).json()["code"] == "fresh_proof_needed"
    asked_of = await options(ada)
    assert [one["id"] for one in asked_of["allowCredentials"]] == [b64(device.credential_id)]
    for wrong in (
        other.sign(asked_of, ada.origin),
        device.sign(await options(bob), ada.origin),
        device.sign(await asked(api), ada.origin),
        device.sign(asked_of, "https://evil.example"),
    ):
        api.guesses._own._counts.clear()
        refused = await shown(wrong)
        assert (refused.status_code, refused.json()["code"]) == (403, "proof_refused")
    assert (await tried(api, device.sign(await options(ada), ada.origin))).status_code == 401
    api.guesses._own._counts.clear()
    good = device.sign(await options(ada), ada.origin, handle="")
    assert (await shown(good)).is_success
    assert (await shown(good)).json()["code"] == "proof_refused"
    assert (await ada.http.post("/users", json={"name": "x"})).status_code == 201
    assert (await ada.events("SessionProved"))[-1]["data"]["proof"] == "passkey"
    carol = await Person.ready(api, "Carol")
    assert (await carol.http.post("/session/proof/passkey/options")).status_code == 404
    assert (await api.client().post("/session/proof/passkey/options")).json()["code"] == "no_session"


Lie = Callable[[Device, dict[str, Any], Person], dict[str, Any]]
LIES: dict[str, Lie] = {
    "a copy of the page": lambda device, options, _: device.sign(options, "https://evil.example"),
    "another port": lambda device, options, ada: device.sign(options, ada.origin + "1"),
    "another host": lambda device, options, ada: device.sign(options, ada.origin, host="evil.example"),
    "nobody verified": lambda device, options, ada: device.sign(options, ada.origin, flags=PRESENT),
    "nobody there": lambda device, options, ada: device.sign(options, ada.origin, flags=0),
    "made for something else": lambda device, options, ada: device.sign(options, ada.origin, kind="webauthn.create"),
    "not asked for": lambda device, options, ada: device.sign(options | {"challenge": b64(bytes(32))}, ada.origin),
    "another user": lambda device, options, ada: device.sign(options, ada.origin, handle=b64(new_id().bytes)),
    "no user": lambda device, options, ada: device.sign(options, ada.origin, handle=""),
    "a copied device": lambda device, options, ada: device.sign(options, ada.origin, count=1),
    "another device": lambda device, options, ada: _impostor(device).sign(options, ada.origin),
}


def _impostor(device: Device) -> Device:
    other = Device()
    other.credential_id, other.user_handle, other.count = device.credential_id, device.user_handle, 50
    return other


@pytest.mark.parametrize("lie", LIES)
async def test_what_is_not_right_in_all_is_refused(api: Api, lie: str) -> None:
    """One answer for all of it, an event that says so, and no session."""
    ada = await Person.ready(api)
    device = await added(ada)
    for _ in range(2):
        assert (await tried(api, device.sign(await asked(api), ada.origin))).status_code == 201
    refused = await tried(api, LIES[lie](device, await asked(api), ada))
    assert (refused.status_code, refused.json()["code"]) == (401, "login_refused")
    (event,) = await ada.events("LoginRefused")
    assert event["data"]["why"] == ("unknown_user" if lie in ("another user", "no user") else "wrong_passkey")
    assert len(await ada.events("SessionOpened")) == 5


async def test_a_challenge_is_answered_once(api: Api) -> None:
    """Replayed, late, or of another purpose it counts for nothing; of two that come at once, one."""
    ada = await Person.ready(api)
    device = await added(ada)
    credential = device.sign(await asked(api), ada.origin)
    both = await asyncio.gather(*(tried(api, credential) for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [201, 401]
    assert (await tried(api, credential)).status_code == 401
    options = await asked(api)
    api.clock.ahead += timedelta(minutes=2)
    assert (await tried(api, device.sign(options, ada.origin))).status_code == 401
    offered = (await ada.http.post("/session/passkeys/offer")).json()["options"]
    mixed = device.sign({"rpId": offered["rp"]["id"], "challenge": offered["challenge"]}, ada.origin)
    assert (await tried(api, mixed)).status_code == 401


async def test_adding_one_asks_for_a_fresh_proof(api: Api) -> None:
    """So does taking one away; a login that is not in order, or a key, has none; another's challenge adds none."""
    ada = await Person.ready(api)
    device = await added(ada)
    (shown,) = (await ada.http.get("/session/passkeys")).json()["items"]
    options = (await ada.http.post("/session/passkeys/offer")).json()["options"]
    assert [one["id"] for one in options["excludeCredentials"]] == [b64(device.credential_id)]
    body = {"name": "x", "credential": Device().make(options, ada.origin)}
    bob = await Person.ready(api, "Bob")
    assert (await bob.http.post("/session/passkeys", json=body)).json()["code"] == "proof_refused"
    for origin, flags in (("https://evil.example", 5), (ada.origin, PRESENT)):
        options = (await ada.http.post("/session/passkeys/offer")).json()["options"]
        wrong = {"name": "x", "credential": Device().make(options, origin, flags=flags)}
        assert (await ada.http.post("/session/passkeys", json=wrong)).json()["code"] == "proof_refused"
    api.clock.ahead += timedelta(minutes=10)
    for path, sent in (
        ("/session/passkeys/offer", {}),
        ("/session/passkeys", body),
        (f"/session/passkeys/{shown['id']}/remove", {}),
    ):
        assert (await ada.http.post(path, json=sent)).json()["code"] == "fresh_proof_needed"
        assert (await api.client().post(path, json=sent)).json()["code"] == "no_session"
    carol = await Person.add(api, "Carol")
    await carol.log_in()
    assert (await carol.http.post("/session/passkeys/offer")).json()["code"] == "login_incomplete"


@pytest.mark.parametrize("how", ["password", "second-factor", "disable", "change"])
async def test_who_is_reset_has_no_passkey_left(api: Api, how: str) -> None:
    """What an administrator resets may have been in wrong hands; who changes their own password keeps theirs."""
    ada = await Person.ready(api)
    device = await added(ada)
    admin, user = api.client(), f"/users/{ada.user_id}"
    match how:
        case "password":
            await admin.put(f"{user}/password", json={"password": FIRST})
        case "second-factor":
            await admin.post(f"{user}/second-factor/reset", json={})
        case "disable":
            await admin.post(f"{user}/disable", json={})
        case "change":
            await ada.change_password(FIRST)
    answer = await tried(api, device.sign(await asked(api), ada.origin))
    assert answer.status_code == (201 if how == "change" else 401)
    if how == "password":
        ada.password = FIRST
        await ada.log_in()
        await ada.change_password(SECOND)
        assert (await tried(api, device.sign(await asked(api), ada.origin))).status_code == 401


NOISE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["id", "rawId", "type", "response", "clientDataJSON", "authenticatorData", "signature", "userHandle"]


@given(st.dictionaries(st.sampled_from(FIELDS), NOISE | st.just("public-key") | st.just("AAAA")), NOISE)
def test_whatever_is_sent_is_read_or_is_none(told: dict[str, Any], response: Any) -> None:
    """No message is an error of ours."""
    credential, user_id = _read(told | {"response": response})
    assert credential is None or user_id is None or isinstance(user_id, UUID)


@pytest.mark.parametrize("field", ["clientDataJSON", "authenticatorData", "signature", "userHandle"])
async def test_a_damaged_answer_is_refused(api: Api, field: str) -> None:
    """Each part of it cut, and replaced by noise."""
    ada = await Person.ready(api)
    device = await added(ada)
    good = device.sign(await asked(api), ada.origin)
    for damaged in (good["response"][field][:-6], "AAAA", "!", ""):
        sent = good | {"response": good["response"] | {field: damaged}}
        assert (await tried(api, sent)).status_code in (401, 429), damaged


def test_nobody_has_too_many() -> None:
    """Twenty at the most, each once."""
    user_id = UserId(new_id())
    login = Login(login_stream(user_id))
    for number in range(MOST):
        login.add_passkey(user_id, Passkey("x", str(number), "key"), synced=False)
    for number in (3, MOST):
        with pytest.raises(InvalidValueError):
            login.add_passkey(user_id, Passkey("x", str(number), "key"), synced=False)
