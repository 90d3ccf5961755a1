"""Bad requests: each is told what is wrong by a code that never changes, and changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import psycopg
import pytest
import pytest_asyncio

from command_bus.ids import new_id
from command_bus.postgres import app_conninfo
from gateways.rest.parts import MIB
from tests.conftest import Databases
from tests.rest.conftest import administered
from tests.rest.harness import Api, Fleet, composed, made

PING = {"kind": "ping"}
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def postgres_url(databases: Databases) -> Iterator[str]:
    """One for all, since what is refused changes nothing."""
    with databases() as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(postgres_url: str) -> AsyncIterator[Api]:
    async with administered(postgres_url) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(api: Api) -> Fleet:
    return await Fleet.make(api, api.client(), "Acme")


async def test_an_unknown_address_is_named(api: Api) -> None:
    """Nothing lives there: 404 `no_such_route`, also without a key, since there is nothing to protect."""
    for path in ("/nothing", "/commands/", "/agents/x/y/z"):
        response = await api.client().get(path)
        assert (response.status_code, response.json()["code"]) == (404, "no_such_route")


async def test_a_wrong_method_is_told_the_right_ones(api: Api) -> None:
    """405 with Allow; OPTIONS asks for it politely."""
    response = await api.client().delete("/commands")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    options = await api.client("").options("/commands")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")


async def test_head_is_get_without_a_body(api: Api, fleet: Fleet) -> None:
    """HEAD gives the headers of GET, also where GET would stream for ever."""
    response = await fleet.http.head(f"/clients/{fleet.client_id}")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["etag"] == '"1"'
    for path in ("/events/stream", "/events/export"):
        response = await api.client().head(path)
        assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", {}, 400, "malformed_json"),
        (b"", {}, 400, "malformed_json"),
        (b"\xff\xfe", {}, 400, "malformed_json"),
        (b'{"name": "\\ud800"}', {}, 400, "malformed_json"),
        (b"[]", {}, 422, "invalid_request"),
        (b'{"name": 5}', {}, 422, "invalid_request"),
        (b"{}", {}, 422, "invalid_request"),
        (b'{"name": "x", "nmae": "y"}', {}, 422, "invalid_request"),
        (b'{"name": "a\\u0000b"}', {}, 422, "invalid_request"),
        (b'{"name": "\\u0007"}', {}, 422, "invalid_value"),
        (b'{"name": "x"}', {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"name": "x"}', {"Idempotency-Key": "a b"}, 400, "malformed_header"),
    ],
)
async def test_a_bad_body_is_refused(api: Api, content: bytes, headers: dict[str, str], status: int, code: str) -> None:
    """Not JSON, not text, of a wrong type, unknown or missing fields: refused before anything is decided."""
    before = await api.log.head()
    response = await api.client().post(
        "/clients", content=content, headers={"Content-Type": "application/json"} | headers
    )
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert await api.done_since(before) == []


async def test_each_wrong_field_is_pointed_at(api: Api) -> None:
    """Validation names every field that is wrong, by JSON Pointer."""
    body = {"agent_id": "me", "spec": {"kind": "run_shell", "shell": "fish", "line": ""}, "priority": "5", "x/y": 1}
    response = await api.client().post("/commands", json=body)
    assert response.status_code == 422
    pointers = {error["pointer"] for error in response.json()["errors"]}
    assert pointers == {
        "/agent_id", "/spec/run_shell/shell", "/spec/run_shell/line", "/priority", "/x~1y",
    }  # fmt: skip


async def test_a_body_over_the_limit_is_refused(fleet: Fleet) -> None:
    """413, whether its length is told or found out, and the connection stays usable for others."""
    big = b'{"name": "' + b"x" * MIB + b'"}'

    async def parts() -> Any:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    for content in (big, parts()):
        try:
            response = await fleet.http.post("/clients", content=content, headers={"Content-Type": "application/json"})
        except httpx2.WriteError:
            continue  # the server closed before all was sent, as it may
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert (await fleet.http.get("/clients")).status_code == 200


async def test_bad_query_parameters_are_refused(api: Api) -> None:
    """Unknown, repeated, out of range, of a wrong type: 422, each named."""
    client = api.client()
    for query in (
        "limit=0",
        "limit=501",
        "limit=ten",
        "limit=5.0",
        "limit=1_0",
        "limit=5&limit=6",
        "nonsense=1",
        "client_id=x",
        "online=yes",
        "state=asleep",
        "sort=age",
        "q=%00",
        "wait_position=-1",
    ):
        response = await client.get(f"/agents?{query}")
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), query
        assert response.json()["errors"][0]["pointer"] == "?" + query.partition("=")[0]
    for query in ("since=yesterday", "since=5", "since=2026-01-01T00:00:00", "type=Nothing"):
        response = await client.get(f"/events?{query}")
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), query
    for since in ("2026-01-01T00:00:00Z", "2026-01-01T02:00:00.5%2B02:00"):
        assert (await client.get(f"/events?since={since}&until=2099-01-01T00:00:00Z")).json()["items"]
    for path in ("/clients?cursor=bm9uc2Vuc2U", "/events?cursor=x", "/events?cursor=-1"):
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor"), path


async def test_an_id_that_is_none_names_nothing(api: Api) -> None:
    """What could never be an id is not found, as an unknown one is."""
    client = api.client()
    for path in (
        "/agents/x",
        f"/agents/{NOBODY}",
        f"/agents/{NOBODY}/queue",
        f"/agents/{NOBODY}/timeline",
        f"/clients/{NOBODY}/sites",
        f"/sites/{NOBODY}",
        f"/scripts/{NOBODY}",
        f"/scripts/{NOBODY}/revisions",
        f"/scripts/{NOBODY}/revisions/0",
        f"/commands/{NOBODY}",
        f"/commands/{NOBODY}/output",
        f"/commands/{NOBODY}/live",
        f"/commands/{NOBODY}/events",
    ):
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), path


async def test_a_command_for_no_one_is_refused(api: Api, fleet: Fleet) -> None:
    """Unknown, suspended and retired agents take no commands, each for its own reason."""
    agent_id = await fleet.agent()
    before = await api.log.head()
    response = await fleet.http.post("/commands", json={"agent_id": NOBODY, "spec": PING})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert await api.done_since(before) == []
    await made(fleet.http, f"/agents/{agent_id}/suspend", {"reason": "lost"})
    response = await fleet.http.post("/commands", json={"agent_id": agent_id, "spec": PING})
    assert (response.status_code, response.json()["code"]) == (409, "agent_suspended")
    await made(fleet.http, f"/agents/{agent_id}/retire", {"reason": "sold"})
    response = await fleet.http.post("/commands", json={"agent_id": agent_id, "spec": PING})
    assert (response.status_code, response.json()["code"]) == (409, "agent_retired")


async def test_a_script_for_another_platform_is_refused(fleet: Fleet) -> None:
    """A script runs where it says that it can, and nowhere else."""
    agent_id = await fleet.agent()
    content = {"shell": "powershell", "body": "Get-Date", "platforms": ["windows"]}
    script = await made(fleet.http, "/scripts", {"name": "date", "content": content})
    spec = {"kind": "run_script", "script_id": script["id"]}
    response = await fleet.http.post("/commands", json={"agent_id": agent_id, "spec": spec})
    assert (response.status_code, response.json()["code"]) == (422, "wrong_platform")
    response = await fleet.http.post("/commands", json={"agent_id": agent_id, "spec": spec | {"revision": 7}})
    assert (response.status_code, response.json()["code"]) == (404, "unknown_revision")


async def test_times_that_cannot_be_are_refused(fleet: Fleet) -> None:
    """An expiry in the past, before the start, without a zone, or as a number."""
    agent_id = await fleet.agent()
    now = datetime.now(UTC)

    async def refused(**times: Any) -> tuple[int, str]:
        response = await fleet.http.post("/commands", json={"agent_id": agent_id, "spec": PING, **times})
        return response.status_code, response.json()["code"]

    soon = (now + timedelta(hours=1)).isoformat()
    later = (now + timedelta(hours=2)).isoformat()
    assert await refused(expires_at=(now - timedelta(seconds=5)).isoformat()) == (422, "expiry_in_past")
    assert await refused(expires_at=soon, not_before=later) == (422, "expiry_before_start")
    assert await refused(expires_at="2099-01-01T00:00:00") == (422, "invalid_request")
    assert await refused(expires_at=4102444800) == (422, "invalid_request")
    assert await refused(expires_at="4102444800") == (422, "invalid_request")


async def test_positions_that_cannot_be_are_refused(api: Api) -> None:
    """A read cannot have seen what the log does not hold, and does not wait for it."""
    client = api.client()
    response = await client.get("/clients", headers={"Fleetlog-Wait-Position": "999999999"})
    assert (response.status_code, response.json()["code"]) == (422, "position_ahead")
    response = await client.get("/clients", headers={"Fleetlog-Wait-Position": "soon"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_header")


async def test_what_was_just_made_is_not_called_unknown(api: Api, postgres_url: str) -> None:
    """While the read model has not come to it, it is waited for; what nobody ever made is not."""
    http = api.client(**{"Fleetlog-Wait-Position": "0"})
    async with await psycopg.AsyncConnection.connect(app_conninfo(postgres_url)) as connection:
        await connection.execute(
            "SELECT * FROM tracking WHERE projection = 'clients' FOR UPDATE"
        )  # the projector stands still
        made = (await http.post("/clients", json={"name": "Globex"})).json()
        reading = asyncio.create_task(http.get(f"/clients/{made['id']}"))
        assert (await http.get(f"/clients/{new_id()}")).status_code == 404
        assert not reading.done()
    assert (await reading).json()["name"] == "Globex"


async def test_a_read_model_that_stays_behind_is_said_so(postgres_url: str) -> None:
    """A read that waited in vain tells a slow read model from a thing that is not there."""
    async with composed(postgres_url, wait_position_s=0.2) as api:
        http = api.client(await api.key(), **{"Fleetlog-Wait-Position": "0"})
        async with await psycopg.AsyncConnection.connect(app_conninfo(postgres_url)) as connection:
            await connection.execute("SELECT * FROM tracking WHERE projection = 'clients' FOR UPDATE")
            made = (await http.post("/clients", json={"name": "Initech"})).json()
            response = await http.get(f"/clients/{made['id']}")
            assert (response.status_code, response.json()["code"]) == (503, "projection_behind")


async def test_the_request_id_is_taken_or_made(fleet: Fleet) -> None:
    """A UUID sent as X-Request-Id is the correlation id of the events that the request causes; nonsense is not."""
    wanted = str(new_id())
    response = await fleet.http.post("/clients", json={"name": "Traced"}, headers={"X-Request-Id": wanted})
    assert response.headers["x-request-id"] == wanted
    events = (await fleet.http.get("/events", params={"correlation_id": wanted})).json()["items"]
    assert "ClientCreated" in [event["type"] for event in events]
    response = await fleet.http.get("/clients", headers={"X-Request-Id": "nonsense"})
    assert response.headers["x-request-id"] != "nonsense"
