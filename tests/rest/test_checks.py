"""Checks over REST: what may be defined by whom, on whom each comes to be, and what is shown of what it finds."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from command_bus.context import Caller
from command_bus.event_log import Selection
from command_bus.ids import new_id, utc_now
from command_bus.intents.erasures import EraseAgent
from domain.checks import AgentCheckChanged, AgentCheckEnded, CheckState, agent_check_stream
from domain.errors import InvalidValueError, NotYourCheckError
from domain.ids import AgentId, ClientId
from domain.roles import Role
from gateways.agents.check_keeper import ORPHANS_EVERY, CheckKeeper
from gateways.agents.check_lists import CheckLists
from gateways.agents.checks import CheckReports, CheckTold
from gateways.agents.keys import load_keys
from projections.check_reads import CheckReader
from schema import checks
from schema.checks import CheckReport, CheckValue
from tests.rest.harness import Api, Fleet, made

EVERYTHING = {"include": {"everything": True}}
DISK = {"name": "Disk", "what": {"kind": "disk", "warning": 20, "error": 10}, "target": EVERYTHING}


class Measuring:
    """The parts that keep lists, hand them out and take reports, each told when to look."""

    def __init__(self, api: Api, url: str) -> None:
        self.api = api
        self.at = utc_now()
        self.changed: list[UUID] = []
        key = load_keys(url).delivery
        self.keeper = CheckKeeper(api.log, api.pool, CheckReader(api.pool.connection), lambda: self.at, new_id)
        self.lists = CheckLists(api.log, api.pool, lambda: key, lambda: self.at, self.changed.extend)
        self.reports = CheckReports(api.log, self.lists, lambda: self.at, new_id)
        self.told = CheckTold(api.pool, self.lists)
        self._number = 0

    async def settle(self) -> None:
        """Bring all of it to what the log says."""
        self.at += ORPHANS_EVERY
        for _ in range(2):
            await self.api.waiter.wait(await self.api.log.head(), ["checks", "agents"], 10)
            await self.keeper.turn()
            self.at += ORPHANS_EVERY
        await self.api.waiter.wait(await self.api.log.head(), ["checks", "agents"], 10)
        await self.lists.look()

    def given(self, agent_id: str, has: str = checks.NO_CHECKS) -> list[str] | None:
        """The names of the checks that an agent with another list is handed; None where it has the right one."""
        told = self.lists.to(UUID(agent_id), has)
        return None if told is None else sorted(one.name for one in checks.decode_list(told.body).checks)

    async def report(self, fleet: Fleet, agent_id: str, check_id: str, state: str, **more: Any) -> bool:
        self._number += 1
        told = {"number": self._number, "revision": 1, "state": state, "since": self.at} | more
        report = CheckReport(check_id=UUID(check_id), **told)
        return await self.reports.reported(AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id)), report)

    async def hello(self, agent_id: str, *values: CheckValue) -> None:
        """An agent that has its list says what it measured."""
        self.told.add(AgentId(UUID(agent_id)), self.lists.digest(UUID(agent_id)), values)
        await self.told.flush()


@pytest.fixture
def measuring(api: Api, postgres_url: str) -> Measuring:
    return Measuring(api, postgres_url)


async def events(api: Api, agent_id: str, check_id: str) -> list[Any]:
    stream = Selection(stream_id=agent_check_stream(AgentId(UUID(agent_id)), UUID(check_id)))
    return [one.event for one in await api.log.read(stream)]


async def test_agents_fall_under_checks_by_what_they_are(fleet: Fleet, measuring: Measuring) -> None:
    """All that match, also one that enrolls, is tagged or moved later; none that is suspended or matches no more."""
    one, two = await fleet.agent("web-01"), await fleet.agent("db-01")
    await made(fleet.http, "/checks", DISK)
    tagged = {"name": "Web", "what": {"kind": "cpu", "error": 90}, "target": {"include": {"tags": ["web"]}}}
    web = await made(fleet.http, "/checks", tagged)
    named = {"name": "Db", "what": {"kind": "memory", "error": 90}, "target": {"include": {"matching": {"q": "db-"}}}}
    await made(fleet.http, "/checks", named)
    await measuring.settle()
    assert [measuring.given(agent) for agent in (one, two)] == [["Disk"], ["Db", "Disk"]]
    assert measuring.given(one, measuring.lists.digest(UUID(one))) is None
    assert measuring.given(one, "") is None, "an agent that is too old is told nothing"
    assert set(measuring.changed) == {UUID(one), UUID(two)}
    measuring.changed.clear()
    assert (await fleet.http.put(f"/agents/{one}/tags", json={"tags": ["web"]})).is_success
    three = await fleet.agent("web-02")
    await measuring.settle()
    assert [measuring.given(agent) for agent in (one, two, three)] == [["Disk", "Web"], ["Db", "Disk"], ["Disk"]]
    assert set(measuring.changed) == {UUID(one), UUID(three)}
    assert (await fleet.http.put(f"/agents/{one}/tags", json={"tags": []})).is_success
    assert (await fleet.http.post(f"/agents/{two}/suspend", json={})).is_success
    assert (await fleet.http.put(f"/checks/{web['id']}", json=tagged | {"target": EVERYTHING})).is_success
    await measuring.settle()
    assert [measuring.given(agent) for agent in (one, two, three)] == [["Disk", "Web"], None, ["Disk", "Web"]]
    # A keeper that begins anew comes to the same.
    anew = Measuring(measuring.api, str(measuring.api.pool.conninfo))
    await anew.settle()
    assert [anew.lists.digest(UUID(agent)) for agent in (one, two, three)] == [
        measuring.lists.digest(UUID(agent)) for agent in (one, two, three)
    ]


async def test_a_changed_definition_is_handed_out_anew(fleet: Fleet, measuring: Measuring) -> None:
    """Under another digest, to all who have it; disabled or removed it is nobody's."""
    agent = await fleet.agent("web-01")
    check = await made(fleet.http, "/checks", DISK)
    await measuring.settle()
    before = measuring.lists.digest(UUID(agent))
    assert (await fleet.http.put(f"/checks/{check['id']}", json=DISK | {"interval_s": 600})).is_success
    measuring.changed.clear()
    await measuring.settle()
    assert measuring.changed == [UUID(agent)]
    assert measuring.lists.digest(UUID(agent)) != before
    told = measuring.lists.to(UUID(agent), before)
    assert told is not None
    (given,) = checks.decode_list(told.body).checks
    assert (given.interval_s, given.revision) == (600, 2)
    assert checks.decode_measure(given.what) == checks.DiskMeasure(warning=20, error=10)
    for way, left in (("disable", []), ("enable", ["Disk"]), ("remove", [])):
        assert (await fleet.http.post(f"/checks/{check['id']}/{way}")).is_success
        await measuring.settle()
        assert (measuring.given(agent, "other") or []) == left
    again = await fleet.http.post(f"/checks/{check['id']}/enable")
    assert (again.status_code, again.json()["code"]) == (404, "not_found")


async def test_what_an_agent_reports_is_recorded_once(api: Api, fleet: Fleet, measuring: Measuring) -> None:
    """What changed, from what and since when; nothing for what stands already, and nothing for what always passed."""
    agent = await fleet.agent("web-01")
    check = (await made(fleet.http, "/checks", DISK))["id"]
    await measuring.settle()
    assert not await measuring.report(fleet, agent, check, "passing")
    assert await measuring.report(fleet, agent, check, "failing", value=4.5, unit="% free", detail="/var\x1b[31m")
    assert not await measuring.report(fleet, agent, check, "failing", value=4.4)
    since = measuring.at - timedelta(days=1)
    assert await measuring.report(fleet, agent, check, "warning", number=70, since=since)
    assert not await measuring.report(fleet, agent, check, "passing", number=70, since=since), "its number was heard"
    assert await measuring.report(fleet, agent, check, "passing", since=measuring.at + timedelta(days=3))
    first, second, third = await events(api, agent, check)
    assert first == AgentCheckChanged(
        check_id=UUID(check),  # type: ignore[arg-type]
        check="Disk",
        revision=1,
        was=None,
        state=CheckState.FAILING,
        value=4.5,
        unit="% free",
        since=first.since,
        number=first.number,
        detail="/var [31m",
    )
    assert (second.was, second.state, second.since) == (CheckState.FAILING, CheckState.WARNING, since)
    assert (third.was, third.since) == (CheckState.WARNING, measuring.at), "no time that is not there yet"
    timeline = (await fleet.http.get(f"/agents/{agent}/timeline")).json()["items"]
    assert [one["text"] for one in timeline if one["type"] == "AgentCheckChanged"] == [
        "Check 'Disk' is passing, and was warning.",
        "Check 'Disk' is warning, and was failing.",
        "Check 'Disk' is failing (4.5 % free): /var [31m.",
    ]
    causes = {one.causation_id for one in await api.log.read(Selection(types=("AgentCheckChanged",)))}
    assert causes == {UUID(check)}


async def test_no_agent_reports_for_a_check_that_it_was_not_given(fleet: Fleet, measuring: Measuring) -> None:
    """Another agent's, one that there is not, one that was taken away, or a state that there is not."""
    one, two = await fleet.agent("web-01"), await fleet.agent("web-02")
    target = {"include": {"agents": [one]}}
    check = (await made(fleet.http, "/checks", DISK | {"target": target}))["id"]
    await measuring.settle()
    for agent, about in ((two, check), (one, str(uuid4())), (one, one)):
        with pytest.raises(NotYourCheckError):
            await measuring.report(fleet, agent, about, "failing")
    with pytest.raises(InvalidValueError):
        await measuring.report(fleet, one, check, "ended")
    await measuring.hello(two, CheckValue(check_id=UUID(check), at=measuring.at, state="failing"))
    assert (await fleet.http.get(f"/agents/{two}/checks")).json()["items"] == []
    assert await measuring.report(fleet, one, check, "failing")
    assert (await fleet.http.post(f"/checks/{check}/disable")).is_success
    await measuring.settle()
    with pytest.raises(NotYourCheckError):
        await measuring.report(fleet, one, check, "passing")


async def test_what_is_not_measured_any_more_is_ended_on_record(api: Api, fleet: Fleet, measuring: Measuring) -> None:
    """A check that failed somewhere fails there no longer once it is removed, or its machine is none of its target."""
    one, two = await fleet.agent("web-01"), await fleet.agent("web-02")
    check = (await made(fleet.http, "/checks", DISK))["id"]
    await measuring.settle()
    for agent in (one, two):
        await measuring.report(fleet, agent, check, "failing")
    assert (await fleet.http.post(f"/agents/{two}/retire", json={})).is_success
    await measuring.settle()
    assert isinstance((await events(api, two, check))[-1], AgentCheckEnded)
    assert len(await events(api, one, check)) == 1
    assert (await fleet.http.get("/agents/counts", params={"failing": 1})).json()["total"] == 1
    assert (await fleet.http.post(f"/checks/{check}/remove", json={"reason": "done"})).is_success
    await measuring.settle()
    assert len(await events(api, one, check)) == len(await events(api, two, check)) == 2
    assert (await fleet.http.get("/agents/counts", params={"failing": 1})).json()["total"] == 0
    (over,) = (await fleet.http.get(f"/agents/{one}/checks")).json()["items"]
    assert (over["name"], over["state"], over["was"], over["given"]) == ("Disk", "ended", "failing", False)


async def test_machines_are_found_by_what_checks_find(fleet: Fleet, measuring: Measuring) -> None:
    """By how many fail or warn, and by a check's name in any case: in the list, its order, counts and rollouts."""
    one, two, three = [await fleet.agent(f"web-0{number}") for number in (1, 2, 3)]
    disk = (await made(fleet.http, "/checks", DISK))["id"]
    load = (
        await made(fleet.http, "/checks", {"name": "Load", "what": {"kind": "cpu", "warning": 9}, "target": EVERYTHING})
    )["id"]
    await measuring.settle()
    await measuring.report(fleet, one, disk, "failing")
    await measuring.report(fleet, two, disk, "failing")
    await measuring.report(fleet, two, load, "failing")
    await measuring.report(fleet, three, load, "warning")

    async def found(**query: Any) -> list[str]:
        names = [agent["name"] for agent in (await fleet.http.get("/agents", params=query)).json()["items"]]
        filters = {name: value for name, value in query.items() if name not in ("sort", "limit")}
        assert (await fleet.http.get("/agents/counts", params=filters)).json()["total"] == len(names)
        return names

    assert await found(failing=1) == ["web-01", "web-02"]
    assert await found(failing=2) == ["web-02"]
    assert await found(warning=1) == ["web-03"]
    assert await found(check="LOAD") == ["web-02", "web-03"]
    assert await found(check="Loa") == []
    assert await found(sort="-failing") == ["web-02", "web-01", "web-03"]
    assert await found(sort="failing") == ["web-03", "web-01", "web-02"]
    listed = (await fleet.http.get("/agents", params={"sort": "name"})).json()["items"]
    assert [(agent["failing"], agent["warning"]) for agent in listed] == [(1, 0), (2, 0), (0, 1)]
    plan = {"name": "r", "spec": {"kind": "ping"}, "target": {"include": {"matching": {"failing": 1, "check": "disk"}}}}
    assert (await made(fleet.http, "/rollouts", plan))["targeted"] == 2
    shown = (await fleet.http.get("/checks")).json()["items"]
    assert [(check["name"], check["machines"], check["counts"]) for check in shown] == [
        ("Disk", 3, {"info": 0, "warning": 0, "unknown": 0, "failing": 2}),
        ("Load", 3, {"info": 0, "warning": 1, "unknown": 0, "failing": 1}),
    ]
    path = f"/checks/{load}/machines"
    assert [row["name"] for row in (await fleet.http.get(path)).json()["items"]] == ["web-02", "web-03"]
    assert [row["name"] for row in (await fleet.http.get(path, params={"state": "warning"})).json()["items"]] == [
        "web-03"
    ]
    first = (await fleet.http.get(path, params={"limit": 1})).json()
    rest = (await fleet.http.get(path, params={"limit": 1, "cursor": first["next"]})).json()
    assert [row["name"] for row in (*first["items"], *rest["items"])] == ["web-02", "web-03"]


async def test_a_machines_checks_say_how_they_stand_and_why_not(api: Api, fleet: Fleet, measuring: Measuring) -> None:
    """Not delivered yet; then passing by what was measured; then what it found, since when; and as of then."""
    agent = await fleet.agent("web-01")
    check = (await made(fleet.http, "/checks", DISK))["id"]
    path = f"/agents/{agent}/checks"
    assert (await fleet.http.get(path)).json() == {"agent_id": agent, "delivered": True, "items": []}
    await measuring.settle()
    waiting = (await fleet.http.get(path)).json()
    assert (waiting["delivered"], waiting["items"][0]["state"], waiting["items"][0]["measured"]) == (False, None, None)
    await measuring.hello(agent, CheckValue(check_id=UUID(check), at=measuring.at, state="passing", value=55.5))
    passing = (await fleet.http.get(path)).json()
    assert passing["delivered"]
    assert (passing["items"][0]["state"], passing["items"][0]["measured"]["value"]) == ("passing", 55.5)
    await measuring.report(fleet, agent, check, "failing", value=1.5, unit="% free")
    then = await api.log.head()
    await measuring.report(fleet, agent, check, "warning", value=15.0, unit="% free")
    (now,) = (await fleet.http.get(path)).json()["items"]
    assert (now["state"], now["was"], now["value"], now["unit"]) == ("warning", "failing", 15.0, "% free")
    seen = (await fleet.http.get(f"/agents/{agent}", params={"at": then})).json()
    assert (seen["failing"], seen["warning"]) == (1, 0)
    assert (await fleet.http.get(f"/agents/{agent}")).json()["warning"] == 1


async def test_erased_it_is_gone(api: Api, fleet: Fleet, measuring: Measuring) -> None:
    """What was said beside a state may tell whose machine it was."""
    agent = await fleet.agent("web-01")
    check = (await made(fleet.http, "/checks", DISK))["id"]
    await measuring.settle()
    await measuring.report(fleet, agent, check, "failing", detail="/home/ada is full")
    value = CheckValue(check_id=UUID(check), at=measuring.at, state="failing", detail="/home/ada is full")
    await measuring.hello(agent, value)
    assert "ada" in (await fleet.http.get(f"/agents/{agent}/checks")).text
    assert (await fleet.http.post(f"/agents/{agent}/retire", json={})).is_success
    await measuring.settle()
    await api.bus.dispatch(
        EraseAgent(agent_id=UUID(agent), reason="asked"), Caller(actor="system", correlation_id=new_id())
    )
    for path in ("timeline", "checks"):
        assert "ada" not in (await fleet.http.get(f"/agents/{agent}/{path}")).text


async def test_what_cannot_be_meant_is_refused(fleet: Fleet) -> None:
    """Thresholds the wrong way round, none at all, a target by how machines fare, placeholders, unknown scripts."""
    for what in (
        {"kind": "disk", "warning": 10, "error": 20},
        {"kind": "cpu", "warning": 90, "error": 80},
        {"kind": "memory"},
        {"kind": "reach", "host": "-O/etc/passwd"},
        {"kind": "reach", "host": "a b"},
        {"kind": "shell", "shell": "sh", "line": "echo {{secret.password}}"},
        {"kind": "shell", "shell": "sh", "line": "x", "info_codes": [3], "warning_codes": [3]},
    ):
        refused = await fleet.http.post("/checks", json=DISK | {"what": what})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_value"), what
    for target in (
        {"include": {"everything": True, "online": True}},
        {"include": {"matching": {"failing": 1}}},
        {"include": {"everything": True}, "exclude": {"matching": {"check": "Disk"}}},
        {"include": {"matching": {"pending": 1}}},
        {"include": {}},
    ):
        refused = await fleet.http.post("/checks", json=DISK | {"target": target})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_value"), target
    for target in ({"include": {"agents": [str(uuid4())]}}, {"include": {"sites": [str(uuid4())]}}):
        assert (await fleet.http.post("/checks", json=DISK | {"target": target})).status_code == 404
    script = {"kind": "script", "script_id": str(uuid4())}
    assert (await fleet.http.post("/checks", json=DISK | {"what": script})).status_code == 404
    planned = await made(fleet.http, "/checks/plan", DISK)
    assert planned["targeted"] == 0
    assert (await fleet.http.get("/checks")).json()["items"] == []


async def test_a_script_is_pinned_and_handed_out_whole(fleet: Fleet, measuring: Measuring) -> None:
    """The revision of now, whatever is revised later; its agent has nothing to look up."""
    agent = await fleet.agent("web-01")
    content = {"shell": "sh", "body": "exit 0", "args": ["a"], "env": {"A": "b"}}
    script = await made(fleet.http, "/scripts", {"name": "s", "content": content})
    what = {"kind": "script", "script_id": script["id"], "warning_codes": [3], "severity": "info", "timeout_s": 9}
    check = await made(fleet.http, "/checks", DISK | {"what": what})
    assert (
        await fleet.http.post(f"/scripts/{script['id']}/revisions", json={"content": content | {"body": "exit 1"}})
    ).is_success
    await measuring.settle()
    told = measuring.lists.to(UUID(agent), checks.NO_CHECKS)
    assert told is not None
    (given,) = checks.decode_list(told.body).checks
    measure = checks.decode_measure(given.what)
    assert isinstance(measure, checks.ScriptMeasure)
    assert b"exit 0" in measure.work
    assert (measure.warning_codes, measure.otherwise) == ([3], "info")
    shown = (await fleet.http.get(f"/checks/{check['id']}")).json()
    assert shown["what"]["revision"] == 1


async def test_who_acts_on_one_client_targets_that_client_alone(api: Api, fleet: Fleet, measuring: Measuring) -> None:
    """Everything is everything of theirs, also when somebody who sees more mends it; they see no more than that."""
    ours = await fleet.agent("web-01")
    other = await Fleet.make(api, api.client(), "Globex")
    theirs = await other.agent("globex-01")
    limited = api.client(await api.key(Role.OPERATOR, [UUID(fleet.client_id)]))
    check = (await made(limited, "/checks", DISK | {"name": "Ours"}))["id"]
    whole = (await made(fleet.http, "/checks", DISK | {"name": "All"}))["id"]
    assert (await limited.post("/checks", json=DISK | {"target": {"include": {"agents": [theirs]}}})).status_code == 404
    assert [one["name"] for one in (await limited.get("/checks")).json()["items"]] == ["Ours"]
    for method, path in (
        ("GET", f"/checks/{whole}"),
        ("GET", f"/checks/{whole}/machines"),
        ("GET", f"/agents/{theirs}/checks"),
        ("POST", f"/checks/{whole}/disable"),
        ("POST", f"/checks/{whole}/remove"),
    ):
        assert (await limited.request(method, path)).status_code == 404, path
    assert (await limited.put(f"/checks/{whole}", json=DISK)).status_code == 404
    await measuring.settle()
    assert [measuring.given(agent) for agent in (ours, theirs)] == [["All", "Ours"], ["All"]]
    assert (await fleet.http.put(f"/checks/{check}", json=DISK | {"name": "Ours", "interval_s": 60})).is_success
    await measuring.settle()
    assert [measuring.given(agent) for agent in (ours, theirs)] == [["All", "Ours"], ["All"]]
    # On their own machines they see what a check of the whole fleet finds.
    await measuring.report(fleet, ours, whole, "failing")
    seen = (await limited.get(f"/agents/{ours}/checks")).json()["items"]
    assert [(one["name"], one["state"]) for one in seen] == [("All", "failing"), ("Ours", None)]


async def test_a_check_that_runs_something_needs_what_running_needs(
    api: Api, fleet: Fleet, measuring: Measuring
) -> None:
    """To define it, and for as long as it is measured: who may run no more has it run no more."""
    agent = await fleet.agent("web-01")
    line = DISK | {"name": "Line", "what": {"kind": "shell", "shell": "sh", "line": "exit 0"}}
    role = await made(fleet.http, "/roles", {"name": "checks", "permissions": ["checks.manage", "checks.see"]})
    grants = [{"role": "checks", "everything": True}]
    http = api.client(await api.key_that_may(grants=grants))
    assert (await http.post("/checks", json=DISK)).is_success
    assert (await http.post("/checks", json=line)).status_code == 403
    change = {"name": "checks", "permissions": ["checks.manage", "checks.see", "commands.shell"]}
    assert (await fleet.http.patch(f"/roles/{role['id']}", json=change)).is_success
    http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    run = await http.post("/checks", json=line)
    if run.status_code == 403:  # what a key may is believed for a second
        await api.waiter.wait(await api.log.head(), ["roles"], 10)
        run = await http.post("/checks", json=line)
    assert run.is_success, run.text
    await measuring.settle()
    assert measuring.given(agent) == ["Disk", "Line"]
    assert (await fleet.http.patch(f"/roles/{role['id']}", json=change | {"permissions": ["checks.manage"]})).is_success
    measuring.at += timedelta(seconds=5)
    await measuring.settle()
    assert measuring.given(agent) == ["Disk"]
    helpdesk = api.client(await api.key(Role.HELPDESK))
    assert (await helpdesk.post("/checks", json=DISK)).status_code == 403
    assert (await helpdesk.get("/checks")).status_code == 200
