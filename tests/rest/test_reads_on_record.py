"""Whoever sees what a command printed is on record by then: each read of the API, and all of them.

A route without a row in the table fails here; so does one that shows an output which its row does not speak of.
"""

import asyncio
import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from command_bus.context import Caller
from command_bus.event_log import LogUnavailableError, Selection
from command_bus.handlers.output_reads import OutputReadRecords
from command_bus.ids import new_id
from command_bus.postgres import app_conninfo
from domain.event import Recorded
from domain.output_reads import NOT_SHOWN, OutputRead, Way
from domain.permissions import Permission
from domain.roles import Role
from gateways.agents.outputs import OutputStore
from gateways.rest.openapi import build_document
from gateways.rest.route import API, EVENT_STREAM, Route
from gateways.rest.routes import ROUTES
from projections import replays
from schema.wire import OutputLive, StreamReport
from tests.audit.chaining import signed
from tests.rest.gains import ALL
from tests.rest.harness import Api, Fleet, made, sse
from tests.rest.test_isolation import furnish
from tests.rest.test_rollouts import members, settle

PRINTED = b"the-word-that-was-printed"
REPORT = StreamReport(
    size=len(PRINTED), sha256=hashlib.sha256(PRINTED).hexdigest(), inline=zlib.compress(PRINTED), tail=PRINTED
)


class Read(msgspec.Struct, frozen=True):
    """A read of a route, and by which way it shows an output; None where it shows none."""

    way: Way | None = None
    query: dict[str, Any] = {}


NONE = [Read()]
EVENTS = [Read(), Read(Way.EVENTS, {"outputs": "true"})]
READS: dict[str, list[Read]] = {
    "/commands": NONE,
    "/commands/{command_id}": [Read(Way.TAIL)],
    "/commands/{command_id}/output": [Read(Way.WHOLE)],
    "/commands/{command_id}/live": [Read(Way.LIVE)],
    "/commands/{command_id}/events": EVENTS,
    "/commands/{command_id}/causes": NONE,
    "/agents": NONE,
    "/agents/counts": NONE,
    "/agents/{agent_id}": NONE,
    "/agents/{agent_id}/queue": NONE,
    "/agents/{agent_id}/timeline": EVENTS,
    "/agents/{agent_id}/software": NONE,
    "/agents/{agent_id}/checks": NONE,
    "/checks": NONE,
    "/checks/{check_id}": NONE,
    "/checks/{check_id}/machines": NONE,
    "/agents/{agent_id}/telemetry": NONE,
    "/agents/{agent_id}/notes": NONE,
    "/agents/{agent_id}/fields": NONE,
    "/events": [*EVENTS, Read(Way.EVENTS, {"outputs": "true", "correlation_id": "{correlation_id}"})],
    "/events/export": [Read(), Read(Way.EVENTS, {"outputs": "true", "actor": "{agent}"})],
    "/events/stream": [
        Read(None, {"after": 0}),
        Read(Way.EVENTS, {"after": 0, "outputs": "true", "correlation_id": "{correlation_id}", "actor": "{agent}"}),
    ],
    "/events/{position}/causes": NONE,
    "/names": NONE,
    "/diff": NONE,
    "/timeline": [*EVENTS[:1], Read(Way.EVENTS, {"outputs": "true", "rollout_id": "{rollout_id}"})],
    "/rollouts": NONE,
    "/rollouts/{rollout_id}": NONE,
    "/rollouts/{rollout_id}/stream": NONE,
    "/rollouts/{rollout_id}/agents": NONE,
    "/rollouts/{rollout_id}/sites": NONE,
    "/rollouts/{rollout_id}/outcomes": [Read(Way.OUTCOMES)],
    "/favourites": NONE,
    "/scripts": NONE,
    "/scripts/{script_id}": NONE,
    "/scripts/{script_id}/revisions": NONE,
    "/scripts/{script_id}/revisions/{revision}": NONE,
    "/clients": NONE,
    "/clients/{client_id}": NONE,
    "/clients/{client_id}/sites": NONE,
    "/clients/{client_id}/fields": NONE,
    "/sites": NONE,
    "/sites/{site_id}": NONE,
    "/sites/{site_id}/fields": NONE,
    "/enrollment-tokens": NONE,
    "/enrollments": NONE,
    "/enrollments/{enrollment_id}": NONE,
    "/users": NONE,
    "/users/{user_id}": NONE,
    "/users/{user_id}/identities": NONE,
    "/session": NONE,
    "/sessions": NONE,
    "/session/passkeys": NONE,
    "/session/sso": NONE,
    "/permissions": NONE,
    "/roles": NONE,
    "/roles/{role_id}": NONE,
    "/api-keys": NONE,
    "/me": NONE,
    "/approvals": NONE,
    "/approvals/{approval_id}": NONE,
    "/audit/head": NONE,
    "/audit/checkpoints": NONE,
    "/audit/checkpoints/{checkpoint}": NONE,
    "/audit/events/{position}/proof": [Read(None, {"body": "false"}), Read(Way.PROOF)],
    "/audit/extracts/{extract_id}": [Read(None, {"format": "html"}), Read(Way.EXTRACT)],
    "/secrets": NONE,
    "/secrets/{secret_id}": NONE,
    "/fields": NONE,
    "/fields/{field_id}": NONE,
    "/views": NONE,
    "/views/{view_id}": NONE,
    "/destinations": NONE,
    "/destinations/{destination_id}": NONE,
    "/retention": NONE,
    "/server-keys": NONE,
    "/status": NONE,
    "/read-models": NONE,
    "/read-models/rows": [Read(None, {"table": "rollouts"}), Read(Way.ROWS, {"table": "commands"})],
}
BY_PATH = {route.path: route for route in ROUTES if route.method == "GET"}
SHOW = [(path, one) for path, reads in READS.items() for one in reads if one.way is not None]


def test_every_read_has_a_row() -> None:
    """By the OpenAPI document."""
    found = {path.removeprefix(API) for path, methods in build_document(ROUTES)["paths"].items() if "get" in methods}
    assert set(READS) == found


class Printed(msgspec.Struct):
    """A fleet in which something was printed."""

    api: Api
    fleet: Fleet
    ids: dict[str, str]
    position: int
    """Of the event that says so."""

    async def read(self, http: Any, path: str, asked: Read) -> str:
        """All that a route says, or what a stream says until it is quiet."""
        route = BY_PATH[path]
        query = {name: str(value).format(**self.ids) for name, value in asked.query.items()}
        address = path.format(**self.ids)
        if asked.way is Way.LIVE:
            self.api.live.say(
                OutputLive(command_id=UUID(self.ids["command_id"]), attempt=1, stream="stdout", offset=0, data=PRINTED)
            )
        if route.media_type == EVENT_STREAM:
            return await self._stream(http, route, address, query, 0.3 if asked.way is None else 10.0)
        return str((await http.get(address, params=query)).text)

    @staticmethod
    async def _stream(http: Any, route: Route, address: str, query: dict[str, str], patience_s: float) -> str:
        seen = ""
        async with http.stream("GET", address, params=query) as response:
            try:
                async with asyncio.timeout(patience_s):
                    async for _, name, data in sse(response):
                        seen += base64.b64decode(data["data"]).decode() if name == "output" else json.dumps(data)
                        if PRINTED.decode() in seen:
                            break
            except TimeoutError:
                assert route.streams
        return seen

    async def reads(self, after: int = 0) -> list[Recorded]:
        return await self.api.log.read(Selection(types=("OutputRead",)), after=after)


@pytest.fixture
async def printed(api: Api, postgres_url: str) -> Printed:
    """One of everything, a command and a rollout's that printed the word, all of it under a checkpoint."""
    http = api.client()
    tenant = await furnish(api, "acme")
    fleet = Fleet(api, http, tenant.ids["client_id"], tenant.ids["site_id"])
    await OutputStore(api.pool).put_inline([REPORT])
    await settle(api, fleet)
    (member,) = await members(fleet, tenant.ids["rollout_id"])
    await fleet.finish(member["agent_id"], member["command_id"], stdout=REPORT)
    command_id = await fleet.command(tenant.ids["agent_id"])
    await fleet.finish(tenant.ids["agent_id"], command_id, stdout=REPORT)
    (ended,) = await api.log.read(Selection(stream_id=UUID(command_id), types=("CommandSucceeded",)))
    script = await made(http, "/scripts", {"name": "s", "content": {"shell": "sh", "body": "true"}})
    ids = tenant.ids | {"command_id": command_id, "script_id": script["id"], "revision": "1", "checkpoint": "1"}
    ids |= {"position": str(ended.position), "agent": ended.actor, "correlation_id": str(ended.correlation_id)}
    ids["user_id"] = (await made(http, "/users", {"name": "Ada"}))["id"]
    ids["role_id"] = (await made(http, "/roles", {"name": "r", "permissions": []}))["id"]
    to = {"kind": "webhook", "url": "https://hook.example.com/in"}
    ids["destination_id"] = (await made(http, "/destinations", {"name": "d", "to": to}))["id"]
    ids["extract_id"] = (await made(http, "/audit/extracts", {"format": "ndjson"}))["id"]
    await asyncio.to_thread(signed, postgres_url)
    return Printed(api, fleet, ids | {"approval_id": str(new_id()), "enrollment_id": str(new_id())}, ended.position)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_outputs_are_for_who_may_read_them(printed: Printed, elsewhere: bool) -> None:
    """Who may see all else sees none by any way, though they may read another client's."""
    api, http = printed.api, printed.api.client()
    others = [one for one in Permission if one is not Permission.COMMANDS_OUTPUT]
    await made(http, "/roles", {"name": "no outputs", "permissions": others})
    grants: list[dict[str, Any]] = [{"role": "no outputs", "everything": True}]
    if elsewhere:
        await made(http, "/roles", {"name": "outputs", "permissions": [Permission.COMMANDS_OUTPUT]})
        client = (await made(http, "/clients", {"name": "Elsewhere"}))["id"]
        grants.append({"role": "outputs", "clients": [client]})
    reader = api.client(await api.key_that_may(grants=grants), check=False)
    extract = (await made(reader, "/audit/extracts", {"format": "ndjson"}))["id"]
    mine = Printed(api, printed.fleet, printed.ids | {"extract_id": extract}, printed.position)
    head = await api.log.head()
    for path, asked in SHOW:
        assert PRINTED.decode() not in await mine.read(reader, path, asked), path
    for table in (await reader.get("/read-models")).json()["items"]:
        rows = await reader.get("/read-models/rows", params={"table": table["table"], "limit": 200})
        assert (rows.status_code, PRINTED.decode() in rows.text) == (200, False), table
    for column in ("result=", "late_result=1"):
        guess = await reader.get("/read-models/rows", params={"table": "commands", "filter": column})
        assert (guess.status_code, guess.json()["code"]) == (403, "forbidden")
    asked_for = {"table": "commands", "filter": f"command_id={printed.ids['command_id']}"}
    (row,) = (await reader.get("/read-models/rows", params=asked_for)).json()["items"]
    assert (row["result"], row["late_result"]) == (NOT_SHOWN, None)
    assert not [one for one in await printed.reads(head) if one.event.way is not Way.EXTRACT]
    command = (await reader.get(f"/commands/{printed.ids['command_id']}")).json()
    assert command["result"]["stdout"]["tail"] == NOT_SHOWN
    assert (await reader.get(f"/commands/{printed.ids['command_id']}/output")).status_code == (
        404 if elsewhere else 403
    )


async def test_every_read_of_an_output_is_on_record(printed: Printed) -> None:
    """Once, by whom and by which way, under the request's id; and what has no such record shows no output."""
    http, wrong = printed.api.client(), []
    me = (await http.get("/me")).json()["actor"]
    for path, reads in READS.items():
        for asked in reads:
            head = await printed.api.log.head()
            text = await printed.read(http, path, asked)
            again = await printed.read(http, path, asked) if asked.way is not None else text
            gained = await printed.reads(head)
            ways = [one.event.way for one in gained if isinstance(one.event, OutputRead)]
            shown = PRINTED.decode() in text and PRINTED.decode() in again
            if (shown, ways) != (asked.way is not None, [asked.way] if asked.way else []):
                wrong.append(f"{path} {asked.query}: shown {shown}, gained {ways}")
            if {one.actor for one in gained} - {me}:
                wrong.append(f"{path}: by {gained[0].actor}")
    assert wrong == []


@contextmanager
def nothing_recorded(api: Api) -> Iterator[None]:
    """The log can be read, and takes nothing."""

    async def refuse(*_: object) -> Any:
        raise LogUnavailableError("away")

    append = api.log.append
    api.log.append = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        api.log.append = append  # type: ignore[method-assign]


async def test_what_cannot_be_recorded_is_not_shown(printed: Printed) -> None:
    """Not one byte of it, by any way: the record is on disk before."""
    http = printed.api.client(check=False)
    with nothing_recorded(printed.api):
        for path, asked in SHOW:
            text = await printed.read(http, path, asked)
            assert PRINTED.decode() not in text, path
    assert await printed.reads() == []


async def test_who_polls_or_follows_is_on_record_once_an_hour(printed: Printed) -> None:
    """In whichever process; another reader, and the next hour, are others. As of then counts as now does."""
    api, path = printed.api, f"/commands/{printed.ids['command_id']}"
    readers = [api.client(await api.key()) for _ in range(8)]
    for _ in range(3):
        await asyncio.gather(*(http.get(path) for http in readers))
    found = await printed.reads()
    assert len({one.actor for one in found}) == len(found) == 8
    assert isinstance(found[0].event, OutputRead)
    elsewhere = OutputReadRecords(api.log, api.clock)
    await elsewhere.read(found[0].event, Caller(actor=found[0].actor, correlation_id=new_id()))
    assert len(await printed.reads()) == 8
    api.clock.ahead = timedelta(hours=1)
    await readers[0].get(path)
    assert len(await printed.reads()) == 9


async def test_of_any_number_at_once_each_is_shown_it(printed: Printed) -> None:
    """They take turns at the record: nobody is turned away for coming when many others do."""
    api, path = printed.api, f"/commands/{printed.ids['command_id']}"
    readers = [api.client(await api.key()) for _ in range(24)]
    answers = await asyncio.gather(*(http.get(path) for http in readers))
    assert [one.status_code for one in answers] == [200] * len(readers)
    found = await printed.reads()
    assert len({one.actor for one in found}) == len(found) == len(readers)


async def test_the_record_names_the_attempt_that_printed_it(printed: Printed) -> None:
    """And not the one that runs by now. Of an attempt that the log knows nothing of, nothing is shown or recorded."""
    api, fleet, http = printed.api, printed.fleet, printed.api.client()
    agent_id = printed.ids["agent_id"]
    retry = {"max_attempts": 2, "on": ["failed"], "backoff_s": 0}
    command_id = await fleet.command(agent_id, retry=retry)
    await fleet.finish(agent_id, command_id, "failed", stdout=REPORT)
    head = await api.log.head()

    async def gained() -> list[tuple[Way, int | None]]:
        events = [one.event for one in await printed.reads(head)]
        return sorted((one.way, one.attempt) for one in events if isinstance(one, OutputRead))

    assert (await http.get(f"/commands/{command_id}")).json()["attempt"] == 2
    whole = await http.get(f"/commands/{command_id}/output")
    assert f"{command_id}-1.stdout" in whole.headers["Content-Disposition"]
    assert await gained() == [(Way.TAIL, 1), (Way.WHOLE, 1)]
    for attempt in (*range(3, 40), -1, 2):
        api.live.say(
            OutputLive(command_id=UUID(command_id), attempt=attempt, stream="stdout", offset=0, data=b"%d" % attempt)
        )
    async with http.stream("GET", f"/commands/{command_id}/live") as response:
        async with asyncio.timeout(10):
            async for _, name, data in sse(response):
                if name == "output":
                    assert base64.b64decode(data["data"]) == b"2"
                    break
    assert await gained() == [(Way.LIVE, 2), (Way.TAIL, 1), (Way.WHOLE, 1)]
    await fleet.finish(agent_id, command_id, attempt=2, stdout=REPORT)
    for path in (f"/commands/{command_id}", f"/commands/{command_id}/output"):
        assert PRINTED.decode() in (await http.get(path)).text
    assert await gained() == [(Way.LIVE, 2), (Way.TAIL, 1), (Way.TAIL, 2), (Way.WHOLE, 1), (Way.WHOLE, 2)]


async def test_a_read_of_the_past_is_a_read(printed: Printed, postgres_url: str) -> None:
    """By a replay, too."""
    position = await printed.api.log.head()
    await asyncio.to_thread(replays.make, app_conninfo(postgres_url), position, "then")
    answer = await printed.fleet.http.get(f"/commands/{printed.ids['command_id']}", params={"at": "then"})
    assert PRINTED.decode() in answer.text
    (read,) = await printed.reads(position)
    assert isinstance(read.event, OutputRead)
    assert (read.event.way, str(read.event.command_id)) == (Way.TAIL, printed.ids["command_id"])


async def test_it_is_told_in_the_stories_of_both(printed: Printed) -> None:
    """Of the command and of who read it, in a sentence, to those who see the client and to nobody else."""
    api, http = printed.api, printed.fleet.http
    user_id = (await made(http, "/users", {"name": "Eve", "grants": [ALL]}))["id"]
    key = await made(http, "/api-keys", {"name": "laptop", "owner_id": user_id})
    await api.client(key["key"]).get(f"/commands/{printed.ids['command_id']}/output")
    await api.client(key["key"]).get(f"/rollouts/{printed.ids['rollout_id']}/outcomes")
    said = f"Output of command {printed.ids['command_id']} (attempt 1) read: all of it."
    alike = f"Outputs of rollout {printed.ids['rollout_id']} read, those alike together."
    for query, sentence in (
        ({"command_id": printed.ids["command_id"]}, said),
        ({"agent_id": printed.ids["agent_id"]}, said),
        ({"user_id": user_id}, said),
        ({"user_id": user_id}, alike),
        ({"rollout_id": printed.ids["rollout_id"]}, alike),
    ):
        story = (await http.get("/timeline", params=query | {"backwards": "true"})).json()["items"]
        assert sentence in [one["text"] for one in story], query
    other = await Fleet.make(api, http, "Globex")
    for client_id, seen in ((printed.fleet.client_id, 2), (other.client_id, 0)):
        scoped = api.client(await api.key(Role.AUDITOR, [UUID(client_id)]))
        assert len((await scoped.get("/events", params={"type": "OutputRead"})).json()["items"]) == seen
