"""A second person: what a role asks one for is not done before another allows it, and is done once then."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from command_bus.event_log import Selection
from command_bus.handlers.approvals import ApprovalExpiry
from command_bus.ids import new_id, utc_now
from domain.roles import Role
from projections.approvals import due
from tests.rest.harness import Api, Fleet, made
from tests.rest.people import FIRST, SECOND, Person

PING = {"kind": "ping"}
TO_ALL = {"name": "r", "target": {"include": {"everything": True}}, "spec": PING}


def everywhere(role: str) -> dict[str, Any]:
    return {"role": role, "everything": True}


async def keyed(api: Api, name: str, role: str, kind: str = "person") -> httpx2.AsyncClient:
    """Somebody with a key."""
    http = api.client()
    user = await made(http, "/users", {"name": name, "kind": kind, "grants": [everywhere(role)]})
    key = await made(http, "/api-keys", {"name": name, "owner_id": user["id"], "unattended": True})
    return api.client(key["key"])


@pytest.fixture
async def asked(api: Api, fleet: Fleet) -> tuple[httpx2.AsyncClient, str]:
    return await ask(api, fleet)


async def ask(api: Api, fleet: Fleet) -> tuple[httpx2.AsyncClient, str]:
    """Ada, who needs another person for more than one agent, and her request to two."""
    await fleet.agent("a")
    await fleet.agent("b")
    await made(
        fleet.http,
        "/roles",
        {
            "name": "careful",
            "permissions": ["rollouts.start", "commands.queue", "approvals.see", "keys.manage", "people.see"],
            "limits": {"approval_above": 1, "approval_for": ["keys.manage"]},
        },
    )
    ada = await keyed(api, "Ada", "careful")
    response = await ada.post("/rollouts", json=TO_ALL, headers={"Idempotency-Key": "once"})
    assert (response.status_code, response.json()["code"]) == (409, "approval_awaited")
    again = await ada.post("/rollouts", json=TO_ALL, headers={"Idempotency-Key": "once"})
    assert again.json()["approval_id"] == response.json()["approval_id"]
    other = await ada.post("/rollouts", json=TO_ALL | {"name": "other"}, headers={"Idempotency-Key": "once"})
    assert other.json()["code"] == "idempotency_mismatch"
    return ada, str(response.json()["approval_id"])


async def started(api: Api) -> int:
    return len(await api.log.read(Selection(types=("RolloutStarted",))))


async def test_it_is_done_once_when_another_person_allows_it(
    api: Api, fleet: Fleet, asked: tuple[httpx2.AsyncClient, str]
) -> None:
    """Nobody who asked, no program, no key and nobody with too few rights decides; of many who approve, one does."""
    ada, request_id = asked
    path = f"/approvals/{request_id}"
    shown = (await ada.get(path)).json()
    assert (shown["state"], shown["agents"], shown["user"], shown["intent"]) == ("waiting", 2, "Ada", "StartRollout")
    program = await keyed(api, "robot", "administrator", "service")
    watcher = await keyed(api, "Eve", "auditor")
    by_key = await keyed(api, "Zoe", "administrator")
    for client, code in (
        (api.client(), "person_needed"),  # of a program
        (program, "person_needed"),
        (by_key, "person_needed"),
        (watcher, "forbidden"),
        (ada, "forbidden"),
    ):
        assert (await client.post(f"{path}/approve", json={})).json()["code"] == code
    stranger = await made(fleet.http, "/clients", {"name": "Globex"})
    over_there = await made(
        fleet.http, "/users", {"name": "Gil", "grants": [{"role": "administrator", "clients": [stranger["id"]]}]}
    )
    gil = api.client(
        (await made(fleet.http, "/api-keys", {"name": "g", "owner_id": over_there["id"], "unattended": True}))["key"]
    )
    assert (await gil.post(f"{path}/approve", json={})).json()["code"] == "not_found"
    assert (await gil.get(path)).status_code == 404
    assert await started(api) == 0
    bob = (await Person.ready(api, "Bob", everywhere("administrator"))).http
    answers = await asyncio.gather(*(bob.post(f"{path}/approve", json={"reason": "fine"}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"approval_decided"}
    (done,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert (done["state"], done["answer"]["targeted"]) == ("granted", 2)
    assert await started(api) == 1
    (rollout,) = await api.log.read(Selection(types=("RolloutStarted",)))
    assert rollout.causation_id == UUID(request_id)
    again = await ada.post("/rollouts", json=TO_ALL, headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json()["code"]) == (409, "approval_awaited")
    assert "granted" in again.json()["detail"]
    assert await started(api) == 1
    bob.headers["Fleetlog-Wait-Position"] = str(done["position"])
    shown = (await bob.get(path)).json()
    assert (shown["state"], shown["decider"], shown["reason"]) == ("granted", "Bob", "fine")


async def test_it_is_judged_anew_when_it_is_allowed(
    api: Api, fleet: Fleet, asked: tuple[httpx2.AsyncClient, str]
) -> None:
    """More agents than were told, or rights that are gone by then: it is not done, and still waits."""
    _, request_id = asked
    bob = (await Person.ready(api, "Bob", everywhere("administrator"))).http
    await fleet.agent("c")
    response = await bob.post(f"/approvals/{request_id}/approve", json={})
    assert response.json()["code"] == "too_many_agents"
    (ada,) = [item for item in (await fleet.http.get("/users")).json()["items"] if item["name"] == "Ada"]
    assert (await fleet.http.put(f"/users/{ada['id']}/grants", json={"grants": []})).is_success
    assert (await bob.post(f"/approvals/{request_id}/approve", json={})).json()["code"] == "forbidden"
    assert await started(api) == 0
    assert (await bob.post(f"/approvals/{request_id}/refuse", json={"reason": "no"})).json()["state"] == "refused"
    assert (await bob.post(f"/approvals/{request_id}/approve", json={})).json()["code"] == "approval_decided"


async def test_who_asked_may_take_it_back(api: Api, asked: tuple[httpx2.AsyncClient, str]) -> None:
    """By any key of theirs; nobody else may."""
    ada, request_id = asked
    bob = (await Person.ready(api, "Bob", everywhere("administrator"))).http
    assert (await bob.post(f"/approvals/{request_id}/withdraw", json={})).json()["code"] == "not_found"
    assert (await ada.post(f"/approvals/{request_id}/withdraw", json={})).json()["state"] == "withdrawn"
    assert (await bob.post(f"/approvals/{request_id}/approve", json={})).json()["code"] == "approval_decided"


async def test_a_request_that_nobody_decides_expires(api: Api, asked: tuple[httpx2.AsyncClient, str]) -> None:
    """The scheduler says so once its time is up, once, and not before."""
    ada, request_id = asked
    await ada.get(f"/approvals/{request_id}", headers={"Fleetlog-Wait-Position": str(await api.log.head())})

    async def find(now: Any, limit: int) -> list[UUID]:
        async with api.pool.connection() as connection:
            return await due(connection, now, limit)

    expiry = ApprovalExpiry(api.log, find, new_id)
    assert await expiry.expire_due(utc_now()) == 0
    later = utc_now() + timedelta(days=2)
    assert sum(await asyncio.gather(expiry.expire_due(later), expiry.expire_due(later))) == 1
    bob = (await Person.ready(api, "Bob", everywhere("administrator"))).http
    assert (await bob.post(f"/approvals/{request_id}/approve", json={})).json()["code"] == "approval_decided"


async def test_a_key_that_waits_opens_nothing(api: Api, asked: tuple[httpx2.AsyncClient, str]) -> None:
    """Whoever asks for a key is shown it, once; it opens when another person has allowed it, who never sees it."""
    ada, _ = asked
    body = {"name": "ci", "role": "careful"}
    problem = (await ada.post("/api-keys", json=body)).json()
    assert problem["code"] == "approval_awaited"
    new = api.client(problem["secret"])
    assert (await new.get("/me")).status_code == 401
    bob = (await Person.ready(api, "Bob", everywhere("administrator"))).http
    answer = await bob.post(f"/approvals/{problem['approval_id']}/approve", json={})
    assert answer.status_code == 200, answer.text
    assert problem["secret"] not in answer.text
    assert [grant["role"] for grant in (await new.get("/me")).json()["grants"]] == ["careful"]
    assert all(problem["secret"].split("_", 2)[2] not in repr(one) for one in await api.log.read())
    assert Role.ADMIN.value not in answer.text


LEAD = {
    "name": "lead",
    "permissions": [
        *("rollouts.start", "commands.queue", "approvals.see", "approvals.decide", "people.see"),
        *("keys.manage", "users.manage"),
    ],
    "limits": {"approval_above": 1},
}


async def request_of(http: httpx2.AsyncClient) -> str:
    """The path of what somebody asks for."""
    waits = await http.post("/rollouts", json=TO_ALL)
    assert waits.json()["code"] == "approval_awaited", waits.text
    return f"/approvals/{waits.json()['approval_id']}"


async def key_of(api: Api, maker: httpx2.AsyncClient, **more: Any) -> httpx2.AsyncClient:
    return api.client((await made(maker, "/api-keys", {"name": "k", "unattended": True, **more}))["key"])


async def puppet(of: Person, name: str) -> Person:
    """An account that one person makes, and comes in by."""
    user_id = (await made(of.http, "/users", {"name": name, "grants": [everywhere("lead")]}))["id"]
    return await taken_over(of.http, Person(of.api, user_id, name))


async def taken_over(by: httpx2.AsyncClient, whose: Person) -> Person:
    """The same account, by the password that somebody has set."""
    assert (await by.put(f"/users/{whose.user_id}/password", json={"password": FIRST})).is_success
    whose.password = FIRST
    await whose.log_in()
    await whose.change_password(SECOND)
    if not whose.secret:
        await whose.enroll()
    return whose


async def decided(who: Person, path: str, how: str = "approve") -> str:
    """What comes of it: a state, or the code of a refusal."""
    answer = (await who.http.post(f"{path}/{how}", json={})).json()
    return str(answer["state"] if "state" in answer else answer["code"])


async def test_the_other_person_is_another_one(api: Api, fleet: Fleet) -> None:
    """Not whoever made the key that asked, or that key's maker; nor by an account that the asker can come in by."""
    await fleet.agent("a")
    await fleet.agent("b")
    await made(fleet.http, "/roles", LEAD)
    ada, dan = [await Person.ready(api, name, everywhere("lead")) for name in ("Ada", "Dan")]
    own = await key_of(api, ada.http, grants=[everywhere("lead")])
    keys = [own, await key_of(api, own, grants=[everywhere("lead")]), await key_of(api, ada.http, owner_id=dan.user_id)]
    for asker in (ada.http, *keys):
        path = await request_of(asker)
        assert {await decided(ada, path, how) for how in ("approve", "refuse")} == {"own_approval"}
    # Nor whoever could have done it alone, where a key that they made asks.
    zoe = await Person.ready(api, "Zoe", everywhere("administrator"))
    path = await request_of(await key_of(api, zoe.http, grants=[everywhere("lead")]))
    assert await decided(zoe, path) == "own_approval"
    assert await started(api) == 0
    # Two accounts that Ada made and is: neither decides for her, nor for the other, whichever sets a password last.
    bob, cyd = [await puppet(ada, name) for name in ("Bob", "Cyd")]
    waits = [await request_of(http) for http in (ada.http, own, cyd.http)]
    assert {await decided(bob, path) for path in waits} == {"own_approval"}
    await taken_over(cyd.http, bob)
    assert {await decided(bob, path) for path in waits} == {"own_approval"}
    assert await decided(ada, waits[2]) == "own_approval"
    kept = await key_of(api, bob.http, owner_id=bob.user_id)
    # Whoever may do it alone gains nothing by it: their word ends that Bob is hers; not so with a key that she kept.
    await taken_over(fleet.http, bob)
    await taken_over(kept, bob)
    assert await decided(bob, waits[0]) == "own_approval"
    await taken_over(fleet.http, bob)
    assert [await decided(bob, path) for path in waits[:2]] == ["granted"] * 2
    # Dan is himself, until Ada has taken his second factor away.
    assert await decided(dan, await request_of(own)) == "granted"
    path = await request_of(own)
    await made(ada.http, f"/users/{dan.user_id}/second-factor/reset", {})
    dan.secret = ""
    await dan.log_in()
    await dan.enroll()
    assert await decided(dan, path) == "own_approval"
