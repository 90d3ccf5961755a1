"""Why something happened, and the story of one thing."""

from typing import Any
from uuid import UUID

import pytest

from command_bus.event_log import Selection
from command_bus.handlers.housekeeping import Housekeeping
from command_bus.handlers.refused_orders import RefusedOrderReports
from command_bus.ids import new_id, utc_now
from domain.ids import AgentId, ClientId
from projections.pending import QueueReader
from schema.wire import RefusalReport
from tests.rest.gains import ASKS, waits
from tests.rest.harness import Api, Fleet, made
from tests.rest.people import Person
from tests.rest.test_approvals import TO_ALL, ask, everywhere
from tests.rest.test_isolation import read_pages
from tests.rest.test_rollouts import settle, start


async def chain(http: Any, path: str) -> tuple[list[tuple[str, str | None]], dict[str, Any]]:
    response = await http.get(path)
    assert response.status_code == 200, response.text
    answer = response.json()
    return [(item["event"]["type"], item["because"]) for item in answer["items"]], answer


async def test_a_command_leads_back_to_who_asked_for_it(api: Api, fleet: Fleet) -> None:
    """From its ending, step by step, to the request; a retry leads on to what it repeats, and to that one's request."""
    http = api.client()
    agent = await fleet.agent()
    command = await fleet.command(agent)
    await fleet.accept(agent, command)
    await fleet.start(agent, command)
    await fleet.finish(agent, command, "failed")
    links, answer = await chain(http, f"/commands/{command}/causes")
    story = [("CommandFailed", None), ("CommandStarted", "follows"), ("CommandDelivered", "follows")]
    assert links == [*story, ("CommandQueued", "follows")]
    me = (await http.get("/me")).json()["actor"]
    assert (answer["begun_by"], answer["hidden"]) == (me, False)
    # The very request: its id was in its answer.
    retried = await http.post(f"/commands/{command}/retry", json={})
    again = retried.json()["id"]
    links, answer = await chain(http, f"/commands/{again}/causes")
    steps = [(name, "follows") for name, _ in story[1:]]
    assert links == [("CommandQueued", None), ("CommandFailed", "retry_of"), *steps, ("CommandQueued", "follows")]
    links, answer = await chain(http, f"/events/{retried.headers['Fleetlog-Position']}/causes")
    assert links[0] == ("CommandQueued", None)
    # Who cancels begins a story of their own.
    other = await fleet.command(agent)
    cancelled = await http.post(f"/commands/{other}/cancel", json={"reason": "no"})
    links, answer = await chain(http, f"/commands/{other}/causes")
    assert links == [("CommandCancelled", None)]
    assert answer["correlation_id"] == cancelled.headers["X-Request-Id"]


async def test_a_rollouts_command_leads_back_to_who_started_the_rollout(api: Api, fleet: Fleet) -> None:
    """Why a machine did something is a question for its command; the click was on the rollout."""
    http = api.client()
    agent = await fleet.agent()
    rollout = await start(fleet)
    await settle(api, fleet)
    (listed,) = (await fleet.http.get(f"/rollouts/{rollout}/agents")).json()["items"]
    command = listed["command_id"]
    await fleet.accept(agent, command)
    links, answer = await chain(http, f"/commands/{command}/causes")
    assert links[:2] == [("CommandDelivered", None), ("CommandQueued", "follows")]
    assert links[-1][0] == "RolloutStarted"
    assert "queued_by" in [because for _, because in links]
    assert answer["begun_by"] == (await fleet.http.get("/me")).json()["actor"]
    assert (answer["items"][-1]["event"]["stream_id"], answer["hidden"]) == (rollout, False)


async def test_what_another_allowed_leads_back_to_both(api: Api, fleet: Fleet) -> None:
    """From the command over the second person's approval to the click of whoever asked, who began it."""
    ada, request_id = await ask(api, fleet)
    bob = (await Person.ready(api, "Bob", everywhere("administrator"))).http
    await made(bob, f"/approvals/{request_id}/approve", {})
    await settle(api, fleet)
    (rollout,) = (await fleet.http.get("/rollouts")).json()["items"]
    listed = (await fleet.http.get(f"/rollouts/{rollout['id']}/agents")).json()["items"]
    links, answer = await chain(fleet.http, f"/commands/{listed[0]['command_id']}/causes")
    assert links[-3:] == [
        ("RolloutStarted", links[-3][1]),
        ("ApprovalGranted", "approved"),
        ("ApprovalRequested", "asked"),
    ]
    assert links[0] == ("CommandQueued", None)
    assert answer["begun_by"] == (await ada.get("/me")).json()["actor"]
    refused = await ada.post("/rollouts", json=TO_ALL | {"name": "again"})
    await made(bob, f"/approvals/{refused.json()['approval_id']}/refuse", {})
    position = await api.log.head()
    links, _ = await chain(bob, f"/events/{position}/causes")
    assert links == [("ApprovalRefused", None), ("ApprovalRequested", "asked")]


async def test_what_an_agents_end_took_along_leads_to_who_ended_it(api: Api, fleet: Fleet) -> None:
    """What waited for a machine that was retired ends without anybody's word on it; why is the click on the machine."""
    agent = await fleet.agent()
    command = await fleet.command(agent)
    bob = (await Person.ready(api, "Bob", everywhere("administrator"))).http
    await made(bob, f"/agents/{agent}/retire", {})
    keeper = Housekeeping(api.log, api.in_flight, QueueReader(api.pool.connection), new_id)
    assert await keeper.abandon_retired(utc_now()) == 1
    links, answer = await chain(bob, f"/commands/{command}/causes")
    assert links == [("CommandCancelled", None), ("AgentRetired", "agent_retired")]
    assert answer["begun_by"] == (await bob.get("/me")).json()["actor"]


async def test_what_a_rollouts_abort_took_back_leads_to_who_aborted_it(api: Api, fleet: Fleet) -> None:
    """And not to whoever had started it."""
    await fleet.agent()
    rollout = await start(fleet)
    await settle(api, fleet)
    bob = (await Person.ready(api, "Bob", everywhere("administrator"))).http
    await made(bob, f"/rollouts/{rollout}/abort", {})
    await settle(api, fleet)
    (listed,) = (await fleet.http.get(f"/rollouts/{rollout}/agents")).json()["items"]
    links, answer = await chain(bob, f"/commands/{listed['command_id']}/causes")
    assert links == [("CommandCancelled", None), ("RolloutAborted", "rollout_aborted")]
    assert answer["begun_by"] == (await bob.get("/me")).json()["actor"]


async def test_a_machine_that_waited_leads_back_to_who_let_it_in_and_who_made_the_token(api: Api, fleet: Fleet) -> None:
    """Over the approval to its own request, and over that to the token."""
    token = await made(fleet.http, "/enrollment-tokens", {"site_id": fleet.site_id, **ASKS})
    enrollment_id = await waits(api, token["token"], "newcomer")
    await made(fleet.http, "/enrollments/approve", {"enrollments": [enrollment_id]})
    (enrolled,) = await api.log.read(Selection(types=("AgentEnrolled",)), backwards=True, limit=1)
    links, _ = await chain(fleet.http, f"/events/{enrolled.position}/causes")
    assert links == [
        ("AgentEnrolled", None),
        ("EnrollmentApproved", "approved"),
        ("EnrollmentRequested", "asked"),
        ("GuardedTokenCreated", "token"),
    ]


async def test_what_lies_beyond_what_one_may_see_is_not_told(api: Api, fleet: Fleet) -> None:
    """An agent leads back to the token that let it in; one who sees no such events hears that there is more."""
    http = api.client()
    agent = await fleet.agent()
    (enrolled,) = (await http.get("/events", params={"agent_id": agent, "type": "AgentEnrolled"})).json()["items"]
    path = f"/events/{enrolled['position']}/causes"
    links, _ = await chain(http, path)
    assert [because for _, because in links][:2] == [None, "token"]
    assert links[-1][0] == "EnrollmentTokenCreated"
    theirs = api.client(await api.key_that_may(grants=[{"role": "administrator", "clients": [fleet.client_id]}]))
    links, _ = await chain(theirs, path)
    assert links[0] == ("AgentEnrolled", None)
    elsewhere = await Fleet.make(api, api.client(), "Globex")
    stranger = api.client(await api.key_that_may(grants=[{"role": "administrator", "clients": [elsewhere.client_id]}]))
    assert (await stranger.get(path)).status_code == 404


@pytest.mark.parametrize("limit", [1, 3, 500])
async def test_the_story_of_one_thing_is_whole(api: Api, fleet: Fleet, limit: int) -> None:
    """All about a user and all that they did, each event once and in order, whatever the page's size; both ways."""
    http = api.client()
    user = (await made(http, "/users", {"name": "Ada", "grants": [{"role": "operator", "everything": True}]}))["id"]
    keys = [(await made(http, "/api-keys", {"name": name, "owner_id": user}))["key"] for name in "ab"]
    agent = await fleet.agent()
    await api.waiter.wait(await api.log.head(), ["api_keys", "agents"], 10)
    commands = []
    for key in keys:
        client = api.client(key)
        commands.append((await made(client, "/commands", {"agent_id": agent, "spec": {"kind": "ping"}}))["id"])
    story = await read_pages(http, "/timeline", user_id=user, limit=limit)
    assert [one["type"] for one in story] == ["UserCreated", "CommandQueued", "CommandQueued"]
    assert [one["stream_id"] for one in story[1:]] == commands
    back = await read_pages(http, "/timeline", user_id=user, limit=limit, backwards="true")
    assert back == story[::-1]
    assert [one["stream_id"] for one in await read_pages(http, "/timeline", command_id=commands[0])] == commands[:1]
    report = RefusalReport(
        run="x", number=1, at=utc_now(), what="delivery", code="replayed", command_id=UUID(commands[0]), attempt=1
    )
    ids = AgentId(UUID(agent)), ClientId(UUID(fleet.client_id))
    assert await RefusedOrderReports(api.log, new_id).reported(*ids, report)
    of_command = await read_pages(http, "/timeline", command_id=commands[0], limit=limit)
    assert [one["type"] for one in of_command] == ["CommandQueued", "OrderRefused"]
    assert of_command[1]["text"].endswith("attempt 1: it came before, and was not run once more.")
    script = await made(http, "/scripts", {"name": "s", "content": {"shell": "sh", "body": "true"}})
    of_script = await read_pages(http, "/timeline", script_id=script["id"], limit=limit)
    assert [one["type"] for one in of_script] == ["ScriptCreated", "ScriptRevised"]
    target = {"include": {"agents": [agent]}}
    rollout = await made(http, "/rollouts", {"name": "r", "target": target, "spec": {"kind": "ping"}})
    of_rollout = await read_pages(http, "/timeline", rollout_id=rollout["id"], limit=limit)
    assert "RolloutStarted" in [one["type"] for one in of_rollout]
    of_request = await read_pages(http, "/timeline", correlation_id=of_rollout[0]["correlation_id"], limit=limit)
    assert of_request == of_rollout
