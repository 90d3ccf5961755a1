"""Bad input, each kind of it: told by a code and in words, counted under that code, and nothing changes.

That somebody may not do something, or did not prove who they are, is on record besides.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command_bus.context import Caller
from command_bus.credentials import TOKEN_PREFIX, mint
from command_bus.event_log import LogUnavailableError
from command_bus.ids import new_id, utc_now
from command_bus.intents.api_keys import CreateApiKey
from command_bus.refusals import ALL_MINUTE, EACH_MINUTE, RefusalRecords
from domain.event import Event, Metadata
from domain.ids import ClientId, SiteId, UserId
from domain.refusals import AgentRefused, Door, RefusalsCounted, RequestRefused
from domain.roles import Role
from domain.tokens import EnrollmentToken, EnrollmentTokenCreated
from gateways.agents import http
from projections.timeline import describe
from schema import wire
from tests.conftest import Databases
from tests.rest.harness import Api, Fleet, composed, made, metric

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
PING = {"kind": "ping"}
MAX_BODY_BYTES = 4096


class Machine(msgspec.Struct):
    """A machine with a key of its own; by default it has not enrolled."""

    key: Ed25519PrivateKey = msgspec.field(default_factory=Ed25519PrivateKey.generate)
    agent_id: str = NOBODY

    def asks(self, token: str, **changes: Any) -> dict[str, Any]:
        """The body of its enrollment."""
        return {
            "token": token,
            "public_key": self.key.public_key().public_bytes_raw().hex(),
            "proof": self.key.sign(wire.ENROLL_CONTEXT + token.encode()).hex(),
            "hostname": "web-07",
            "platform": "linux",
            "arch": "x86_64",
            "agent_version": "0.1.0",
        } | changes


class World(msgspec.Struct):
    """A fleet in which there is something to do wrong with."""

    api: Api
    fleet: Fleet
    active: Machine
    suspended: Machine
    retired: Machine
    windows_script: str
    used_up: str
    expired: str
    revoked: str
    auditor: str
    """An API key."""
    stranger: str
    """The API key of another tenant."""

    def client(self, key: str | None = None) -> httpx2.AsyncClient:
        return self.api.client(key)

    async def command(self, agent_id: str | None = None, **more: Any) -> httpx2.Response:
        body = {"agent_id": agent_id or self.active.agent_id, "spec": PING} | more
        return await self.client().post("/commands", json=body)

    async def create(self, content: bytes, **headers: str) -> httpx2.Response:
        return await self.client().post(
            "/clients", content=content, headers={"Content-Type": "application/json"} | headers
        )

    async def enroll(self, body: dict[str, Any] | bytes) -> httpx2.Response:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.client("").post("/enroll", content=content)

    async def check_in(
        self, machine: Machine, *, key: Ed25519PrivateKey | None = None, age_s: float = 0.0, wait_s: float = 0.0
    ) -> httpx2.Response:
        hello = wire.Hello(agent_version="0.1.0", sent_at=utc_now())
        sent_at = utc_now() - timedelta(seconds=age_s)
        asked = wire.HttpCheckIn(
            agent_id=UUID(machine.agent_id), sent_at=sent_at, messages=[wire.encode(hello)], wait_s=wait_s
        )
        return await self.send_check_in(msgspec.msgpack.encode(asked), key or machine.key)

    async def send_check_in(self, body: bytes, key: Ed25519PrivateKey) -> httpx2.Response:
        headers = {wire.HTTP_SIGNATURE_HEADER: key.sign(wire.HTTP_CONTEXT + body).hex()}
        # A problem of theirs may carry a member more than those of the documented API: the time.
        return await self.api.client("", check=False).post("/agent/check-in", content=body, headers=headers)


async def enrolled(fleet: Fleet) -> Machine:
    token = await made(fleet.http, "/enrollment-tokens", {"site_id": fleet.site_id})
    machine = Machine()
    response = await fleet.api.client("").post("/enroll", json=machine.asks(token["token"]))
    assert response.status_code == 201, response.text
    machine.agent_id = response.json()["agent_id"]
    return machine


async def expired_token(fleet: Fleet) -> str:
    """Made two hours ago, for one hour."""
    token = EnrollmentToken(new_id())
    secret = mint(TOKEN_PREFIX, token.stream_id)
    now = utc_now()
    event = EnrollmentTokenCreated(
        site_id=SiteId(UUID(fleet.site_id)),
        client_id=ClientId(UUID(fleet.client_id)),
        secret_sha256=secret.secret_sha256,
        max_uses=1,
        expires_at=now - timedelta(hours=1),
    )
    change = token.create(event, now - timedelta(hours=2))
    await fleet.api.log.append([change], Metadata(actor="system", correlation_id=new_id()))
    return secret.text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(databases: Databases) -> AsyncIterator[World]:
    """One for all, since what is refused changes nothing."""
    with databases() as url:
        async with composed(url, agents=True, max_body_bytes=MAX_BODY_BYTES) as api:
            caller = Caller(actor="system", correlation_id=new_id())
            api.admin_key = str(
                (await api.bus.dispatch(CreateApiKey(name="a", role=Role.ADMIN, unattended=True), caller)).answer["key"]
            )
            fleet = await Fleet.make(api, api.client(), "Acme")
            active, suspended, retired = [await enrolled(fleet) for _ in range(3)]
            await made(fleet.http, f"/agents/{suspended.agent_id}/suspend", {"reason": "lost"})
            await made(fleet.http, f"/agents/{retired.agent_id}/retire", {"reason": "sold"})
            content = {"shell": "powershell", "body": "Get-Date", "platforms": ["windows"]}
            script = await made(fleet.http, "/scripts", {"name": "date", "content": content})
            used_up = await made(fleet.http, "/enrollment-tokens", {"site_id": fleet.site_id})
            assert (await api.client("").post("/enroll", json=Machine().asks(used_up["token"]))).status_code == 201
            revoked = await made(fleet.http, "/enrollment-tokens", {"site_id": fleet.site_id})
            await made(fleet.http, f"/enrollment-tokens/{revoked['id']}/revoke", {})
            other = await Fleet.make(api, api.client(), "Globex")
            assert (
                await api.client().post("/clients", json={"name": "x"}, headers={"Idempotency-Key": "k"})
            ).is_success
            yield World(
                api=api,
                fleet=fleet,
                active=active,
                suspended=suspended,
                retired=retired,
                windows_script=script["id"],
                used_up=used_up["token"],
                expired=await expired_token(fleet),
                revoked=revoked["token"],
                auditor=await api.key(Role.AUDITOR),
                stranger=await api.key(Role.ADMIN, [UUID(other.client_id)]),
            )


def hours(number: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=number)).isoformat()


def run_script(script_id: str, **more: Any) -> dict[str, Any]:
    return {"kind": "run_script", "script_id": script_id} | more


BIG = b'{"name": "' + b"x" * MAX_BODY_BYTES + b'"}'
Send = Callable[[World], Awaitable[httpx2.Response]]
REQUESTS: dict[str, tuple[Send, int, str]] = {
    "unknown agent": (lambda w: w.command(NOBODY), 404, "not_found"),
    "suspended agent": (lambda w: w.command(w.suspended.agent_id), 409, "agent_suspended"),
    "retired agent": (lambda w: w.command(w.retired.agent_id), 409, "agent_retired"),
    "script for another platform": (lambda w: w.command(spec=run_script(w.windows_script)), 422, "wrong_platform"),
    "unknown script": (lambda w: w.command(spec=run_script(NOBODY)), 404, "not_found"),
    "unknown revision": (lambda w: w.command(spec=run_script(w.windows_script, revision=7)), 404, "unknown_revision"),
    "body over the limit": (lambda w: w.create(BIG), 413, "body_too_large"),
    "expiry in the past": (lambda w: w.command(expires_at=hours(-1)), 422, "expiry_in_past"),
    "expiry before the start": (
        lambda w: w.command(expires_at=hours(1), not_before=hours(2)), 422, "expiry_before_start",
    ),
    "time without a zone": (lambda w: w.command(expires_at="2099-01-01T00:00:00"), 422, "invalid_request"),
    "wrong type": (lambda w: w.command(priority="5"), 422, "invalid_request"),
    "unknown field": (lambda w: w.command(prioritty=5), 422, "invalid_request"),
    "unknown kind": (lambda w: w.command(spec={"kind": "fly"}), 422, "invalid_request"),
    "value out of its range": (lambda w: w.create(b'{"name": "\\u0007"}'), 422, "invalid_value"),
    "not JSON": (lambda w: w.create(b"{"), 400, "malformed_json"),
    "another media type": (lambda w: w.create(b"x", **{"Content-Type": "text/xml"}), 415, "unsupported_media_type"),
    "malformed header": (lambda w: w.create(b"{}", **{"Idempotency-Key": "a b"}), 400, "malformed_header"),
    "unknown parameter": (lambda w: w.client().get("/agents?colour=red"), 422, "invalid_request"),
    "bad cursor": (lambda w: w.client().get("/agents?cursor=x"), 400, "invalid_cursor"),
    "position to come": (lambda w: w.client().get("/agents?wait_position=999999999"), 422, "position_ahead"),
    "no key": (lambda w: w.client("").get("/agents"), 401, "unauthenticated"),
    "wrong key": (lambda w: w.client("flk_x").get("/agents"), 401, "unauthenticated"),
    "role that may not": (lambda w: w.client(w.auditor).post("/clients", json={"name": "y"}), 403, "forbidden"),
    "another tenant's agent": (
        lambda w: w.client(w.stranger).get(f"/agents/{w.active.agent_id}"), 404, "not_found",
    ),
    "command for another tenant's agent": (
        lambda w: w.client(w.stranger).post("/commands", json={"agent_id": w.active.agent_id, "spec": PING}),
        404,
        "not_found",
    ),
    "repeated key, another body": (
        lambda w: w.create(b'{"name": "y"}', **{"Idempotency-Key": "k"}), 422, "idempotency_mismatch",
    ),
    "unknown address": (lambda w: w.client().get("/nothing"), 404, "no_such_route"),
    "wrong method": (lambda w: w.client().delete("/commands"), 405, "method_not_allowed"),
    "stale version": (
        lambda w: w.client().patch(f"/clients/{w.fleet.client_id}", json={"name": "x"}, headers={"If-Match": '"9"'}),
        412,
        "stale_version",
    ),
    "name that is taken": (lambda w: w.create(b'{"name": "ACME"}'), 409, "name_taken"),
    "agent that is not suspended": (
        lambda w: w.client().post(f"/agents/{w.active.agent_id}/resume", json={}), 409, "agent_not_suspended",
    ),
}  # fmt: skip
ENROLLMENTS: dict[str, tuple[Send, int, str]] = {
    "token used up": (lambda w: w.enroll(Machine().asks(w.used_up)), 403, "token_used_up"),
    "token expired": (lambda w: w.enroll(Machine().asks(w.expired)), 403, "token_expired"),
    "token revoked": (lambda w: w.enroll(Machine().asks(w.revoked)), 403, "token_revoked"),
    "unknown token": (lambda w: w.enroll(Machine().asks(f"flt_{new_id().hex}_secret")), 403, "unknown_token"),
    "secret of another token": (
        lambda w: w.enroll(Machine().asks(w.used_up[:37] + w.expired[37:])), 403, "unknown_token",
    ),
    "no token": (lambda w: w.enroll(Machine().asks("")), 403, "unknown_token"),
    "another's key": (lambda w: w.enroll(Machine().asks(w.used_up, proof="00" * 64)), 403, "bad_signature"),
    "unknown platform": (lambda w: w.enroll(Machine().asks(w.used_up, platform="vms")), 422, "invalid_value"),
    "wrong type": (lambda w: w.enroll(Machine().asks(w.used_up, hostname=7)), 400, "malformed"),
    "not JSON": (lambda w: w.enroll(b"\xc1"), 400, "malformed"),
    "body over the limit": (lambda w: w.enroll(b"x" * 20_000), 413, "body_too_large"),
}  # fmt: skip
CHECK_INS: dict[str, tuple[Send, int, str]] = {
    "malformed msgpack": (lambda w: w.send_check_in(b"\xc1", w.active.key), 400, "malformed"),
    "wrong type": (
        lambda w: w.send_check_in(msgspec.msgpack.encode({"agent_id": 7}), w.active.key), 400, "malformed",
    ),
    "unknown agent": (lambda w: w.check_in(Machine()), 403, "unknown_agent"),
    "another's key": (lambda w: w.check_in(w.active, key=w.suspended.key), 403, "bad_signature"),
    "suspended agent": (lambda w: w.check_in(w.suspended), 409, "agent_suspended"),
    "retired agent": (lambda w: w.check_in(w.retired), 409, "agent_retired"),
    "clock far off": (lambda w: w.check_in(w.active, age_s=3600), 403, "clock_skew"),
}  # fmt: skip


async def refused_and_counted(
    world: World, send: Send, status: int, code: str, *counter: str, recorded: type[Event] | None = None
) -> None:
    """A clear error to its sender, one more in each counter under that code, and of the log its record at the most."""
    counters = ("fleetlog_http_problems_total", *counter)
    before = {name: await metric(world.api, name, code=code) for name in counters}
    head = await world.api.log.head()
    response = await send(world)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.json()["detail"]) > len("Not found.")
    assert {name: await metric(world.api, name, code=code) for name in counters} == {
        name: count + 1 for name, count in before.items()
    }
    # The minute of earlier refusals may have ended meanwhile.
    gained = [one for one in await world.api.log.read(after=head) if not isinstance(one.event, RefusalsCounted)]
    assert [type(one.event) for one in gained] == ([] if recorded is None else [recorded])
    assert [one.event.code for one in gained if isinstance(one.event, RequestRefused | AgentRefused)] == [
        code for _ in gained
    ]


@pytest.mark.parametrize(("send", "status", "code"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_a_request(world: World, send: Send, status: int, code: str) -> None:
    """Of a person or a program; on record where a key opens nothing, or its owner may not do that."""
    refusal = status == 403 or send is REQUESTS["wrong key"][0]
    await refused_and_counted(world, send, status, code, recorded=RequestRefused if refusal else None)


@pytest.mark.parametrize(("send", "status", "code"), ENROLLMENTS.values(), ids=ENROLLMENTS.keys())
async def test_an_enrollment(world: World, send: Send, status: int, code: str) -> None:
    """Of a machine that may not come in, or not like this; the former is on record."""
    recorded = AgentRefused if status == 403 else None
    await refused_and_counted(world, send, status, code, "fleetlog_enrollments_total", recorded=recorded)


@pytest.mark.parametrize(("send", "status", "code"), CHECK_INS.values(), ids=CHECK_INS.keys())
async def test_a_check_in(world: World, send: Send, status: int, code: str) -> None:
    """Of an agent over HTTP; what it says is not even read. On record, if it said who it is."""
    recorded = AgentRefused if status in (403, 409) else None
    await refused_and_counted(world, send, status, code, "fleetlog_agent_refused_total", recorded=recorded)


async def test_a_refusal_says_whom_it_concerns(world: World) -> None:
    """By ids alone: nothing of a secret is kept, and what is known to be somebody's address is sealed."""
    api = world.api
    user_id = (await made(api.client(), "/users", {"name": "Ada"}))["id"]
    key = await made(api.client(), "/api-keys", {"name": "laptop", "owner_id": user_id})
    forged = key["key"][:-4] + ("AAAA" if not key["key"].endswith("AAAA") else "BBBB")
    used, auditor = (
        await made(api.client(), "/enrollment-tokens", {"site_id": world.fleet.site_id}),
        await api.key(Role.AUDITOR),
    )
    await made(api.client(), f"/enrollment-tokens/{used['id']}/revoke", {})
    head = await api.log.head()
    assert (await api.client(forged).get("/agents")).status_code == 401
    assert (await api.client(auditor).post("/clients", json={"name": "y"})).status_code == 403
    assert (await world.enroll(Machine().asks(used["token"]))).status_code == 403
    assert (await world.check_in(world.active, key=world.retired.key)).status_code == 403
    wrong, forbidden, void, lied = await api.log.read(after=head)
    assert wrong.event == RequestRefused(
        door=Door.KEY,
        code="unauthenticated",
        key_id=UUID(key["id"]),
        user_id=UserId(UUID(user_id)),
        address="127.0.0.1",
    )
    assert isinstance(forbidden.event, RequestRefused)
    assert (forbidden.event.door, forbidden.event.what) == (Door.REQUEST, "POST /clients")
    assert forbidden.event.user_id == UserId(UUID((await api.client(auditor).get("/me")).json()["user_id"]))
    assert forbidden.actor.startswith("key:")
    assert isinstance(void.event, AgentRefused)
    assert (str(void.client_id), void.event.address) == (world.fleet.client_id, "127.0.0.1")
    assert (str(lied.agent_id), str(lied.client_id)) == (world.active.agent_id, world.fleet.client_id)
    kept = [str(bytes(row[4])) for row in await api.log.read_rows(after=head)]
    assert [index for index, body in enumerate(kept) if "127.0.0.1" in body] == [2]
    assert not [text for text in (forged, auditor, used["token"]) if text[40:] in "".join(kept)]
    told = [one["text"] for one in (await api.client().get("/events", params={"after": head})).json()["items"]]
    assert told == [
        f"Refused from 127.0.0.1, key {key['id']}: unauthenticated.",
        "Refused from 127.0.0.1, POST /clients: forbidden.",
        f"Enrollment refused from 127.0.0.1, by token {used['id']}: token revoked.",
        "Check in refused from 127.0.0.1: bad signature.",
    ]


async def test_a_flood_of_refusals_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first few of each, of all no more than the bound, and the rest in one event: none is lost, nor at the end."""
    log, now = world.api.log, utc_now().replace(second=0)
    records, head = RefusalRecords(log, lambda: now, new_id, "gateway:x"), await log.head()
    for number in range(400):
        for caller in (f"10.0.0.{number % 40}", "10.1.0.1"):
            refused = RequestRefused(door=Door.REQUEST, code="forbidden", address=caller)
            await records.refused(refused, (caller,))
        records.count(Door.KEY, "too_many_failures")
    one_by_one = await log.read(after=head)
    of_one = [one for one in one_by_one if getattr(one.event, "address", "") == "10.1.0.1"]
    assert (len(one_by_one), len(of_one)) == (ALL_MINUTE, EACH_MINUTE)

    async def away(*_: object) -> Any:
        raise LogUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(log, "append", away)
        await records.flush()
    await records.stop()
    (counted,) = await log.read(after=one_by_one[-1].position)
    assert isinstance(counted.event, RefusalsCounted)
    assert {(one.code, one.count) for one in counted.event.counts} == {
        ("forbidden", 800 - ALL_MINUTE),
        ("too_many_failures", 400),
    }
    assert counted.actor == "gateway:x"
    assert f"{800 - ALL_MINUTE} forbidden (request)" in describe(counted)
    await records.flush()
    assert await log.head() == counted.position


async def test_a_long_poll_ends_when_its_agent_is_suspended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the event, by no timer: an answer that was held back to its end would bring nothing, and be no refusal."""
    monkeypatch.setattr(http, "LOOK_EVERY_S", 60.0)
    held = asyncio.create_task(world.check_in(world.active, wait_s=45.0))
    served = world.api.agents
    assert served is not None
    async with asyncio.timeout(20):
        while UUID(world.active.agent_id) not in served._waiters:  # noqa: ASYNC110 -- polled, within a timeout
            await asyncio.sleep(0.02)
    await made(world.fleet.http, f"/agents/{world.active.agent_id}/suspend", {"reason": "lost"})
    response = await held
    assert (response.status_code, response.json()["code"]) == (409, "agent_suspended")


async def test_a_clock_that_is_off_is_told_the_time(world: World) -> None:
    """The refusal carries the server's time, for the agent to set itself by."""
    problem = (await world.check_in(world.active, age_s=3600)).json()
    assert abs(datetime.fromisoformat(problem["server_time"]) - utc_now()) < timedelta(minutes=1)
