"""The same of what people do for themselves, which no key can, and of what goes by way of a provider."""

from typing import Any

from tests.rest.authenticator import Device
from tests.rest.gains import ALL, Asked, Ground, Row, row
from tests.rest.people import SECOND, Person
from tests.rest.sso import Terminal, linked, plain_user
from tests.rest.test_passkeys import added, asked


def own(gains: str, path: str = "", **body: Any) -> Row:
    """What somebody does for themselves; what is empty in the body is filled in.

    Args:
        gains: types of the events.
        path: what is asked first; its `options` are then what a passkey answers, and its `secret` is theirs.
        body: what is sent. `code` gets a code, and `credential` what a passkey makes of the options.
    """

    async def make(ground: Ground) -> Asked:
        person = await ground.person()
        new_one = path == "/session/passkeys/offer"
        device = await added(person) if "credential" in body and not new_one else Device()
        sent, told = dict(body), {}
        if path:
            answer = await person.http.post(path, json={"code": person.code()} if "second-factor" in path else {})
            assert answer.is_success, answer.text
            told = answer.json()
        person.secret = told.get("secret", person.secret)
        if "credential" in body:
            sent["credential"] = (device.make if new_one else device.sign)(told["options"], person.origin)
        if "code" in body:
            sent["code"] = person.code()
        return Asked({}, sent, person.http, f"user:{person.user_id}")

    return Row(make, gains.split())


async def log_in(ground: Ground) -> Asked:
    person = await ground.person()
    return Asked({}, person.body(), ground.api.client(""), f"user:{person.user_id}")


async def other_session(ground: Ground) -> Asked:
    person = await ground.person()
    before = {one["id"] for one in (await person.http.get("/sessions")).json()["items"]}
    other = Person(ground.api, person.user_id, person.name, person.password, person.secret)
    await other.log_in()
    (opened,) = {one["id"] for one in (await person.http.get("/sessions")).json()["items"]} - before
    return Asked({"session_id": opened}, {}, person.http, f"user:{person.user_id}")


async def enter_by_passkey(ground: Ground) -> Asked:
    person = await ground.person()
    device = await added(person)
    body = {"credential": device.sign(await asked(ground.api), person.origin), "bearer": True}
    return Asked({}, body, ground.api.client(""), f"user:{person.user_id}")


async def prove_by_passkey(ground: Ground) -> Asked:
    person = await ground.person()
    await added(person)
    return Asked({}, {}, person.http, f"user:{person.user_id}")


async def known_passkey(ground: Ground) -> Asked:
    person = await ground.person()
    await added(person)
    (one,) = (await person.http.get("/session/passkeys")).json()["items"]
    return Asked({"passkey_id": one["id"]}, {}, person.http, f"user:{person.user_id}")


async def rename_passkey(ground: Ground) -> Asked:
    asked_for = await known_passkey(ground)
    return Asked(asked_for.ids, {"name": "at home"}, asked_for.http, asked_for.actor)


async def nobody(ground: Ground) -> Asked:
    return Asked({}, {}, ground.api.client(""))


OWN: dict[tuple[str, str], Row] = {
    ("POST", "/session"): row(log_in, "CodeUsed SessionOpened"),
    ("POST", "/session/end"): own("SessionEnded"),
    ("POST", "/session/proof"): own("SessionProved", password=SECOND),
    ("POST", "/session/password"): own(
        "PasswordSet SessionEnded SessionOpened", current=SECOND, new="nine red Flamingos"
    ),
    ("POST", "/session/second-factor/offer"): own("CodeUsed TotpOffered", code=""),
    ("POST", "/session/second-factor"): own(
        "CodeUsed TotpEnrolled SessionEnded SessionOpened", "/session/second-factor/offer", code=""
    ),
    ("POST", "/session/recovery-codes"): own("CodeUsed RecoveryCodesMade", code=""),
    ("POST", "/sessions/revoke"): own("SessionsRevoked"),
    ("POST", "/sessions/{session_id}/revoke"): row(other_session, "SessionEnded"),
    ("POST", "/session/passkey/options"): row(nobody, ""),
    ("POST", "/session/passkey"): row(enter_by_passkey, "PasskeyUsed SessionOpened"),
    ("POST", "/session/proof/passkey/options"): row(prove_by_passkey, ""),
    ("POST", "/session/proof/passkey"): own(
        "PasskeyUsed SessionProved", "/session/proof/passkey/options", credential=""
    ),
    ("POST", "/session/passkeys/offer"): own(""),
    ("POST", "/session/passkeys"): own("PasskeyAdded", "/session/passkeys/offer", name="x", credential=""),
    ("POST", "/session/passkeys/{passkey_id}/rename"): row(rename_passkey, "PasskeyRenamed"),
    ("POST", "/session/passkeys/{passkey_id}/remove"): row(known_passkey, "PasskeyRemoved"),
}
"""What people do for themselves, which no key can."""


async def through_provider(ground: Ground) -> tuple[str, Terminal]:
    """Somebody whom the provider vouches for with two factors, and who has shown themselves there just now."""
    subject = ground.name()
    user_id = await plain_user(ground.api, subject, ALL)
    await linked(ground.api, user_id, subject)
    claims = {"amr": ["mfa"], "auth_time": int(ground.api.clock().timestamp()), "sid": subject}
    ground.provider.lies(claims=claims)
    return user_id, Terminal(ground.api, ground.provider)


async def sso_offer(ground: Ground) -> Asked:
    return Asked({}, {"terminal": True}, ground.api.client(""))


async def sso_answer(ground: Ground) -> Asked:
    _, terminal = await through_provider(ground)
    answer = await terminal.back_from(ground.last)
    return Asked({}, answer | {"ticket": terminal.ticket}, terminal.http)


async def sso_log_in(ground: Ground) -> Asked:
    user_id, terminal = await through_provider(ground)
    assert (await terminal.hand_in(await terminal.back_from(ground.last))).is_success
    body = {"state": terminal.state, "ticket": terminal.ticket, "bearer": True}
    return Asked({}, body, terminal.http, f"user:{user_id}")


async def sso_entered(ground: Ground) -> tuple[str, str, Terminal]:
    user_id, terminal = await through_provider(ground)
    subject = ground.last
    assert (await terminal.log_in(subject)).status_code == 201
    return subject, user_id, terminal


async def sso_proof_offer(ground: Ground) -> Asked:
    _, user_id, terminal = await sso_entered(ground)
    return Asked({}, {"terminal": True}, terminal.http, f"user:{user_id}")


async def sso_proof(ground: Ground) -> Asked:
    subject, user_id, terminal = await sso_entered(ground)
    answer = ground.provider.sign_in(await terminal.offered("/session/proof/sso/offer"), subject)
    return Asked({}, answer | {"ticket": terminal.ticket}, terminal.http, f"user:{user_id}")


async def sso_logout(ground: Ground) -> Asked:
    subject, _, _ = await sso_entered(ground)
    body = {"logout_token": ground.provider.logout_token(sid=subject)}
    return Asked({}, body, ground.api.client(""), "sso", form=True)


SSO: dict[tuple[str, str], Row] = {
    ("POST", "/session/sso/offer"): row(sso_offer, ""),
    ("POST", "/session/sso/answer"): row(sso_answer, ""),
    ("POST", "/session/sso"): row(sso_log_in, "SessionOpened"),
    ("POST", "/session/proof/sso/offer"): row(sso_proof_offer, ""),
    ("POST", "/session/proof/sso"): row(sso_proof, "SessionProved"),
    ("POST", "/session/sso/logout"): row(sso_logout, "ProviderLogoutTaken SessionEnded"),
}
"""What goes by way of a provider."""

NOTHING = {
    "/rollouts/plan": "says what would be, and does nothing",
    "/checks/plan": "as above",
    "/session/passkey/options": "a challenge is worth nothing before it is answered; the answer is on record",
    "/session/proof/passkey/options": "as above",
    "/session/passkeys/offer": "as above",
    "/session/sso/offer": "as above: what comes back from the provider is on record",
    "/session/proof/sso/offer": "as above",
    "/session/sso/answer": "says who it is that may come in; that they come in, or are refused, is on record",
}
"""What rightly leaves nothing in the log, and why."""
