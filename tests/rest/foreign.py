"""A real thing of a tenant's for each parameter that an address has, for others to try to reach."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tests.rest.gains import HOOK, SHELL
from tests.rest.harness import Api, made
from tests.rest.people import Person
from tests.rest.sso import linked
from tests.rest.test_passkeys import added


class Owner(msgspec.Struct):
    """A tenant, and what it has by now."""

    api: Api
    http: Any
    name: str
    ids: dict[str, str]
    """Of what there is in every tenant: clients, agents, commands and so on."""
    person: Person | None = None

    async def made(self, path: str, body: dict[str, Any], http: Any = None) -> str:
        return str((await made(http or self.http, path, body))["id"])

    def grant(self, role: str) -> dict[str, Any]:
        return {"role": role, "clients": [self.ids["client_id"]]}


async def _user(owner: Owner) -> str:
    owner.person = await Person.ready(owner.api, f"{owner.name}-person", owner.grant("administrator"))
    return owner.person.user_id


async def _session(owner: Owner) -> str:
    assert owner.person is not None
    (one,) = (await owner.person.http.get("/sessions")).json()["items"]
    return str(one["id"])


async def _passkey(owner: Owner) -> str:
    assert owner.person is not None
    await added(owner.person)
    (one,) = (await owner.person.http.get("/session/passkeys")).json()["items"]
    return str(one["id"])


async def _key(owner: Owner) -> str:
    body = {"name": f"{owner.name}-key", "owner_id": owner.ids["user_id"]}
    return await owner.made("/api-keys", body)


async def _approval(owner: Owner) -> str:
    """What somebody with a role over the tenant alone wants to do in it."""
    limits = {"approval_for": ["sites.manage"]}
    may = ["sites.manage", "clients.see", "approvals.see"]
    await owner.made("/roles", {"name": f"{owner.name}-careful", "permissions": may, "limits": limits})
    grants = [owner.grant(f"{owner.name}-careful")]
    user_id = await owner.made("/users", {"name": f"{owner.name}-asker", "grants": grants})
    key = await made(owner.http, "/api-keys", {"name": f"{owner.name}-asks", "owner_id": user_id})
    path = f"/clients/{owner.ids['client_id']}/sites"
    waits = await owner.api.client(key["key"]).post(path, json={"name": f"{owner.name}-annex"})
    assert waits.json()["code"] == "approval_awaited", waits.text
    return str(waits.json()["approval_id"])


async def _extract(owner: Owner) -> str:
    assert owner.person is not None
    return await owner.made(
        "/audit/extracts", {"client_id": owner.ids["client_id"], "format": "ndjson"}, owner.person.http
    )


async def _position(owner: Owner) -> str:
    found = await owner.http.get("/events", params={"agent_id": owner.ids["agent_id"], "limit": 1})
    return str(found.json()["items"][0]["position"])


async def _constant(_owner: Owner) -> str:
    return "1"


MAKERS: dict[str, Callable[[Owner], Awaitable[str]]] = {
    "user_id": _user,
    "session_id": _session,
    "passkey_id": _passkey,
    "identity_id": lambda owner: linked(owner.api, owner.ids["user_id"], f"{owner.name}-subject"),
    "role_id": lambda owner: owner.made("/roles", {"name": f"{owner.name}-role", "permissions": ["agents.see"]}),
    "key_id": _key,
    "approval_id": _approval,
    "destination_id": lambda owner: owner.made("/destinations", {"name": f"{owner.name}-hook", "to": HOOK}),
    "extract_id": _extract,
    "script_id": lambda owner: owner.made("/scripts", {"name": f"{owner.name}-script", "content": SHELL}),
    "position": _position,
    "revision": _constant,
    "checkpoint": _constant,
}
"""In this order: what comes later needs what comes before. What every tenant is furnished with is not among them."""


async def belongings(api: Api, name: str, ids: dict[str, str]) -> Owner:
    """Have one of each made that a tenant is not furnished with; `ids` gains them.

    Args:
        api: to make them through.
        name: of the tenant.
        ids: what it has.
    """
    owner = Owner(api, api.client(), name, ids)
    for parameter, make in MAKERS.items():
        ids[parameter] = await make(owner)
    return owner
