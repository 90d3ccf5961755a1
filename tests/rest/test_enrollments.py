"""A token that asks for approval: who comes by it is nobody until somebody says so, whatever they try meanwhile."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest
import pytest_asyncio

from agent.enroll import enroll as agent_enroll
from agent.errors import EnrollmentWaitingError as AgentWaitingError
from agent.identity import PENDING_FILE
from command_bus.event_log import Selection
from command_bus.handlers.enrollment import Caps
from command_bus.handlers.enrollments import EnrollmentExpiry
from command_bus.ids import new_id, utc_now
from domain.errors import EnrollmentsFullError, EnrollmentsTooFastError, EnrollmentWaitingError
from domain.roles import Role
from projections.enrollments import due
from schema import wire
from schema.fingerprints import key_fingerprint
from tests.conftest import Databases
from tests.rest.conftest import administered
from tests.rest.gains import ASKS
from tests.rest.harness import Api, Fleet, made, sse
from tests.rest.test_refused_and_counted import Machine

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVIL = "<b>web-07</b>'; --"


class World(msgspec.Struct):
    api: Api
    fleet: Fleet

    async def token(self, **more: Any) -> dict[str, Any]:
        body = {"site_id": self.fleet.site_id, "max_uses": 10, **ASKS} | more
        answer: dict[str, Any] = await made(self.fleet.http, "/enrollment-tokens", body)
        return answer

    async def ask(self, machine: Machine, token: str, **changes: Any) -> httpx2.Response:
        return await self.api.client("", check=False).post("/enroll", json=machine.asks(token, **changes))

    async def waiting(self, token: dict[str, Any], machine: Machine | None = None, **changes: Any) -> dict[str, Any]:
        """A machine that has come, as the administrator sees it."""
        answer = await self.ask(machine or Machine(), token["token"], **changes)
        assert (answer.status_code, answer.json()["code"]) == (409, "enrollment_waiting"), answer.text
        return await self.seen(answer.json()["enrollment_id"])

    async def seen(self, enrollment_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.fleet.http.get(f"/enrollments/{enrollment_id}")).json()
        return answer

    async def decide(self, how: str, *enrollments: str, http: Any = None) -> httpx2.Response:
        body = {"enrollments": list(enrollments), "reason": "because"}
        answer: httpx2.Response = await (http or self.fleet.http).post(f"/enrollments/{how}", json=body)
        return answer

    async def check_in(self, machine: Machine, agent_id: str) -> httpx2.Response:
        hello = wire.encode(wire.Hello(agent_version="0.1.0", sent_at=utc_now()))
        result = wire.encode(wire.ResultReport(command_id=new_id(), attempt=1, outcome="succeeded", exit_code=0))
        asked = wire.HttpCheckIn(agent_id=UUID(agent_id), sent_at=utc_now(), messages=[hello, result])
        body = msgspec.msgpack.encode(asked)
        headers = {wire.HTTP_SIGNATURE_HEADER: machine.key.sign(wire.HTTP_CONTEXT + body).hex()}
        return await self.api.client("", check=False).post("/agent/check-in", content=body, headers=headers)

    async def expire(self, now: datetime) -> int:
        async def find(at: datetime, limit: int) -> list[UUID]:
            async with self.api.pool.connection() as connection:
                return await due(connection, at, limit)

        await self.fleet.http.get("/enrollments")
        await self.fleet.http.get("/enrollment-tokens")
        return await EnrollmentExpiry(self.api.log, find, new_id).expire_due(now)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(databases: Databases) -> AsyncIterator[World]:
    """One for all; each test has tokens of its own."""
    with databases() as url:
        async with administered(url, agents=True) as api:
            yield World(api, await Fleet.make(api, api.client(), "Acme"))


async def test_it_is_known_and_nobody_until_it_is_approved(world: World) -> None:
    """Listed with its key, address and token; no agent, no target, no count, no check-in. Approved, it goes on."""
    token, machine, http = await world.token(note="rack 4"), Machine(), world.fleet.http
    before = (await http.get("/agents/counts")).json()
    one = await world.waiting(token, machine, hostname=EVIL)
    key = machine.key.public_key().public_bytes_raw().hex()
    told = {name: one[name] for name in ("state", "hostname", "address", "token_id", "token_note", "fingerprint")}
    assert told == {
        "state": "waiting",
        "hostname": EVIL,
        "address": "127.0.0.1",
        "token_id": token["id"],
        "token_note": "rack 4",
        "fingerprint": key_fingerprint(key),
    }
    head = await world.api.log.head()
    again = await world.ask(machine, token["token"])
    assert again.json()["enrollment_id"] == one["id"]
    assert 15 <= int(again.headers["Retry-After"]) <= 30
    agent_id = one["agent_id"]
    assert (await world.check_in(machine, agent_id)).json()["code"] == "unknown_agent"
    assert (await world.check_in(machine, one["id"])).json()["code"] == "unknown_agent"
    for path in (f"/agents/{agent_id}", f"/agents/{agent_id}/queue", f"/agents/{agent_id}/timeline"):
        assert (await http.get(path)).status_code == 404
    body = {"agent_id": agent_id, "spec": {"kind": "ping"}}
    assert (await http.post("/commands", json=body)).json()["code"] == "not_found"
    plan = {"name": "r", "target": {"include": {"agents": [agent_id]}}, "spec": {"kind": "ping"}}
    assert (await http.post("/rollouts/plan", json=plan)).json()["code"] == "not_found"
    assert (await http.get("/agents/counts")).json() == before
    assert (await world.api.client("").post("/enrollments/approve", json={"enrollments": [one["id"]]})).is_error
    # Somebody else's key with its token, and its public key without the private half.
    assert (await world.ask(Machine(), token["token"], public_key=key)).json()["code"] == "bad_signature"
    assert await world.api.done_since(head) == []

    done = await world.decide("approve", one["id"])
    assert done.json()["agents"] == [agent_id]
    answer = await world.ask(machine, token["token"])
    assert (answer.status_code, answer.json()["agent_id"]) == (201, agent_id)
    assert (await world.check_in(machine, agent_id)).status_code == 200
    assert (await http.get(f"/agents/{agent_id}")).json()["hostname"] == EVIL
    (listed,) = [one for one in (await http.get("/enrollment-tokens")).json()["items"] if one["id"] == token["id"]]
    assert (listed["uses"], listed["waiting"], listed["approval"]) == (1, 0, "required")
    assert (await world.decide("refuse", one["id"])).json()["code"] == "enrollment_decided"
    story = (await http.get(f"/agents/{agent_id}/timeline")).json()["items"]
    position = next(event["position"] for event in story if event["type"] == "AgentEnrolled")
    causes = (await http.get(f"/events/{position}/causes")).json()
    story_of = ["AgentEnrolled", "EnrollmentApproved", "EnrollmentRequested", "GuardedTokenCreated"]
    assert [link["event"]["type"] for link in causes["items"]] == story_of
    requested = next(event["position"] for event in story if event["type"] == "EnrollmentRequested")
    causes = (await http.get(f"/events/{requested}/causes")).json()
    assert [link["event"]["type"] for link in causes["items"]][-1] == "GuardedTokenCreated"


async def test_who_is_refused_is_told_so_for_good(world: World) -> None:
    """Not by that token and key again; with another token it may ask anew."""
    token, machine = await world.token(), Machine()
    one = await world.waiting(token, machine)
    assert (await world.decide("refuse", one["id"])).is_success
    head = await world.api.log.head()
    for _ in range(2):
        answer = await world.ask(machine, token["token"])
        assert (answer.status_code, answer.json()["code"]) == (403, "enrollment_refused")
        assert "because" not in answer.text
    assert (await world.decide("approve", one["id"])).json()["code"] == "enrollment_decided"
    assert await world.api.done_since(head) == []
    assert (await world.waiting(await world.token(), machine))["id"] != one["id"]
    assert await world.seen(one["id"]) | {"state": "refused", "reason": "because"} == await world.seen(one["id"])


async def test_nobody_else_decides(world: World) -> None:
    """Another tenant's administrator sees nothing of it; one of its site does, live; who may only look may not."""
    other = await Fleet.make(world.api, world.api.client(), f"Globex {new_id()}")
    client_id = UUID(other.client_id)
    stranger = world.api.client(await world.api.key(Role.ADMIN, [client_id]))
    looker = world.api.client(await world.api.key(Role.OPERATOR))
    place = {"role": "administrator", "sites": [world.fleet.site_id]}
    ours = world.api.client(await world.api.key_that_may(grants=[place]))
    token = await world.token()
    async with ours.stream("GET", "/events/stream", params={"after": await world.api.log.head()}) as response:
        one = await world.waiting(token)
        events = sse(response)
        async with asyncio.timeout(20):
            _, kind, event = await anext(events)
        assert event["type"] == "EnrollmentRequested", kind
    head = await world.api.log.head()
    for how in ("approve", "refuse"):
        assert (await world.decide(how, one["id"], http=stranger)).status_code == 404
        assert (await world.decide(how, one["id"], http=looker)).status_code == 403
        assert (await world.decide(how, str(new_id()), http=ours)).status_code == 404
        assert (await world.decide(how, one["token_id"], http=ours)).status_code == 404
    assert await world.api.done_since(head) == []
    assert one["id"] not in (await stranger.get("/enrollments")).text
    assert one["id"] in (await ours.get("/enrollments", params={"token_id": token["id"]})).text
    assert (await world.decide("approve", one["id"], http=ours)).is_success


async def test_it_does_not_wait_for_ever(world: World) -> None:
    """Its time ends, or its token is revoked; then nobody lets it in any more, and it is told so."""
    late, leaked = await world.token(wait_s=60), await world.token()
    machines = [Machine(), Machine()]
    slow, guest = [await world.waiting(*pair) for pair in zip((late, leaked), machines, strict=True)]
    assert await world.expire(utc_now()) == 0
    await made(world.fleet.http, f"/enrollment-tokens/{leaked['id']}/revoke", {})
    assert (await world.decide("approve", guest["id"])).json()["code"] == "token_revoked"
    assert await world.expire(utc_now() + timedelta(seconds=61)) == 2
    assert await world.expire(utc_now() + timedelta(seconds=61)) == 0
    ends = [(one["state"], one["reason"]) for one in [await world.seen(slow["id"]), await world.seen(guest["id"])]]
    assert ends == [("expired", "time"), ("expired", "token_revoked")]
    for machine, token in zip(machines, (late, leaked), strict=True):
        assert (await world.ask(machine, token["token"])).json()["code"] == "enrollment_expired"
    for one in (slow, guest):
        assert (await world.decide("approve", one["id"])).json()["code"] == "enrollment_decided"


async def test_a_leaked_token_cannot_flood(world: World) -> None:
    """However many come at once, so many wait by it and no more; a client's tokens leave room for another's."""
    token, other = await world.token(), await world.token()
    neighbour = await Fleet.make(world.api, world.fleet.http, "Neighbour")
    theirs = await world.token(site_id=neighbour.site_id)
    held = (await world.fleet.http.get("/enrollments", params={"state": "waiting"})).json()["items"]
    ours = sum(one["client_id"] == world.fleet.client_id for one in held)
    gate = world.api.enrollment(caps=Caps(per_token=3, in_all=len(held) + ours + 8))

    async def come(text: str) -> str:
        try:
            await gate.enroll(msgspec.convert(Machine().asks(text), wire.EnrollRequest))
        except (EnrollmentWaitingError, EnrollmentsFullError) as error:
            return error.code
        return "in"

    came = await asyncio.gather(*(come(token["token"]) for _ in range(10)))
    assert sorted(came) == ["enrollment_waiting"] * 3 + ["enrollments_full"] * 7
    assert [await come(other["token"]) for _ in range(2)] == ["enrollment_waiting", "enrollments_full"]
    assert await come(theirs["token"]) == "enrollment_waiting"
    waiting = (await world.fleet.http.get("/enrollments", params={"token_id": token["id"]})).json()["items"]
    ids = [one["id"] for one in waiting]
    assert (await world.decide("refuse", *ids)).is_success
    assert await come(token["token"]) == "enrollment_waiting"
    # Each token at its own pace.
    hurried = world.api.enrollment(spend=lambda key: 7.2 if key == token["id"] else 0.0)
    with pytest.raises(EnrollmentsTooFastError) as fast:
        await hurried.enroll(msgspec.convert(Machine().asks(token["token"]), wire.EnrollRequest))
    assert fast.value.extra == {"retry_after_s": 8}


async def test_a_use_is_a_machine_that_is_let_in(world: World) -> None:
    """So a token for one may have several waiting; who is approved uses it up; a choice is decided whole."""
    token = await world.token(max_uses=1)
    first, second = [await world.waiting(token) for _ in range(2)]
    head = await world.api.log.head()
    assert (await world.decide("approve", first["id"], second["id"])).json()["code"] == "token_used_up"
    assert await world.api.done_since(head) == []
    deciding = [world.decide("approve", one["id"]) for one in (first, second, first)]
    codes = sorted(answer.status_code for answer in await asyncio.gather(*deciding))
    assert codes[0] == 200
    assert len(await world.api.log.read(Selection(stream_id=UUID(token["id"]), types=("EnrollmentTokenUsed",)))) == 1
    assert (await world.ask(Machine(), token["token"])).json()["code"] == "token_used_up"
    wrong = await world.fleet.http.post("/enrollment-tokens", json={"site_id": world.fleet.site_id, "wait_s": 60})
    assert wrong.json()["code"] == "invalid_value"


async def test_a_real_agent_waits_and_starts_by_itself(world: World, tmp_path: Path) -> None:
    """Enrolled, approved while nothing runs, and then only started: it comes in, and what it waited with is gone."""
    token = await world.token()
    with pytest.raises(AgentWaitingError) as waiting:
        await asyncio.to_thread(agent_enroll, world.api.url, token["token"], tmp_path, name="box")
    (one,) = (await world.fleet.http.get("/enrollments", params={"token_id": token["id"]})).json()["items"]
    assert one["id"] in str(waiting.value)
    assert one["fingerprint"] in str(waiting.value)
    await world.decide("approve", one["id"])
    argv = [sys.executable, "-m", "agent", "run", "--transport", "http", "--state-dir", str(tmp_path)]
    running = await asyncio.create_subprocess_exec(*argv)
    try:
        came = Selection(agent_id=UUID(one["agent_id"]), types=("AgentConnected",))
        async with asyncio.timeout(20):
            async for page in world.api.log.follow(0, came):
                if page:
                    break
    finally:
        running.terminate()
        assert await running.wait() == 0
    assert not (tmp_path / PENDING_FILE).exists()
