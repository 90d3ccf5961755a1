"""The fan-out on a real log, its read models beside it."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest

from command_bus import rollouts
from command_bus.bus import CommandBus
from command_bus.context import Caller
from command_bus.event_log import ATOMIC_EVENTS, ConflictError
from command_bus.ids import new_id, utc_now
from command_bus.intents.agents import MoveAgent, RetireAgent, SuspendAgent
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.commands import CancelCommand, Ping, QueueCommand, RunShell
from command_bus.intents.hours import Hours
from command_bus.intents.rollouts import (
    AbortRollout,
    Exclude,
    Guard,
    Include,
    Limits,
    PauseRollout,
    PlanRollout,
    ReleaseRollout,
    ResumeRollout,
    RetryRollout,
    Target,
    Wave,
)
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load
from command_bus.rollouts import FanOut
from domain.access import Access
from domain.agents import (
    Agent,
    AgentConnected,
    AgentDisconnected,
    AgentEnrolled,
    AgentFactsReported,
    Platform,
)
from domain.commands import Command, CommandState
from domain.commands import Ping as DomainPing
from domain.errors import EmptyRolloutError, InvalidFilterError, NotFoundError, NothingToRetryError
from domain.event import Metadata
from domain.hours import zone
from domain.ids import AgentId, ClientId, SiteId
from domain.roles import Role
from domain.rollout_terms import Order, Selector
from domain.rollout_terms import Target as DomainTarget
from domain.rollouts import Rollout, RolloutStarted, RolloutState, command_id
from domain.scopes import Scope
from domain.scripts import Shell
from projections.rebuild import rebuild
from schema.wire import Accepted, ResultReport
from tests.command_bus.conftest import Dispatch
from tests.command_bus.rolling import (
    PATIENCE_S,
    CrashError,
    CrashingLog,
    Rolling,
    count_queued,
    queued_per_agent,
    rollout,
)
from tests.command_bus.rolling_out import Impatient


async def test_each_agent_gets_a_command_in_the_name_of_whoever_asked(rolling: Rolling, caller: Caller) -> None:
    """The commands are like any other, and tell who is behind them and which rollout they belong to."""
    agents = await rolling.agents(3)
    rollout_id = await rolling.start(reason="patch day", expires_in_s=3600)
    await rolling.settle()
    for agent_id in agents:
        (queued,) = (await rolling.log.read_streams([command_id(rollout_id, agent_id, 1)])).popitem()[1]
        assert (queued.actor, queued.correlation_id) == (caller.actor, caller.correlation_id)
        assert queued.causation_id == rollout_id
        assert (queued.agent_id, queued.client_id) == (agent_id, rolling.fleet.client_id)
        assert queued.event.reason == "patch day"  # type: ignore[attr-defined]
        assert queued.event.expires_at == rolling.clock() + timedelta(hours=1)  # type: ignore[attr-defined]
    assert await rolling.counts(rollout_id) == {"queued": 3}
    await rolling.finish(rollout_id)
    await rolling.settle()
    assert (await rolling.story(rollout_id)).state is RolloutState.COMPLETED
    assert await rolling.counts(rollout_id) == {"succeeded": 3}


async def test_a_fan_out_killed_again_and_again_queues_each_command_once(rolling: Rolling, postgres_url: str) -> None:
    """Schedulers are killed at any moment, two of them at work: nobody is queued twice, and nobody is missed."""
    agents = await rolling.agents(400)
    rollout_id = await rolling.start()
    wanted = iter([20, 120, 260])
    until = next(wanted)
    kills = 0
    async with AsyncExitStack() as stack:
        watching = await stack.enter_async_context(await rolling.connection())

        def begin() -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, "-m", "tests.command_bus.rolling_out", postgres_url])
            stack.callback(process.wait, PATIENCE_S)
            stack.callback(process.kill)
            return process

        processes = [begin(), begin()]
        deadline = time.monotonic() + PATIENCE_S
        while (count := await count_queued(watching)) < len(agents):
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in processes)
            if count >= until:
                for process in processes:
                    process.kill()
                    kills += 1
                processes = [begin(), begin()]
                until = next(wanted, len(agents) + 1)
            await asyncio.sleep(0.01)
    assert kills >= 4
    assert await queued_per_agent(rolling.log) == Counter(dict.fromkeys(agents, 1))
    one = await rolling.story(rollout_id)
    assert one.cursor == len(one.entries) == len(agents)
    rolling.follow()
    assert await rolling.counts(rollout_id) == {"queued": len(agents)}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
async def test_whoever_takes_over_goes_on_where_the_log_is(
    rolling: Rolling, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    """A death just before or after any step, with waves, a limit and a guard in between, changes no outcome."""
    monkeypatch.setattr("command_bus.rollouts.BATCH", 4)
    agents = await rolling.agents(12)
    rollout_id = await rolling.start(
        waves=[Wave(count=3), Wave(percent=40)], limits=Limits(in_flight=5), guard=Guard(max_failed_percent=90)
    )
    log: Any = CrashingLog(rolling.log, at, after=after)
    rolling.fan_out = FanOut(log, rolling.in_flight, rolling.reads, Impatient(), new_id)
    crashes = 0
    while (await rolling.story(rollout_id)).state is not RolloutState.COMPLETED:
        try:
            moved = await rolling.turn()
        except CrashError:
            crashes += 1
            rolling.fan_out = rolling.another()
            continue
        one = await rolling.story(rollout_id)
        open_ = (await rolling.counts(rollout_id))["queued"]
        assert open_ <= 5
        assert one.cursor - one.skipped == (await queued_per_agent(rolling.log)).total()
        if not moved:
            assert await rolling.finish(rollout_id, at_most=2) > 0
    assert crashes == 1
    assert await queued_per_agent(rolling.log) == Counter(dict.fromkeys(agents, 1))


async def test_two_at_once_disturb_each_other_and_nothing_else(rolling: Rolling) -> None:
    """Two that believe to lead record each step once."""
    agents = await rolling.agents(40)
    await rolling.start(limits=Limits(per_minute=120))
    both = [rolling.another(), rolling.another()]
    while (await queued_per_agent(rolling.log)).total() < len(agents):
        await asyncio.gather(*(one.turn(rolling.clock()) for one in both))
        rolling.clock.pass_(timedelta(seconds=1))
    assert await queued_per_agent(rolling.log) == Counter(dict.fromkeys(agents, 1))


async def test_clients_share_each_turn_alike(
    rolling: Rolling, dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client's three rollouts and another's one: each client's queues grow alike, until one of them is through."""
    monkeypatch.setattr(rollouts, "BATCH", 12)
    await rolling.agents(40)
    theirs = [await rolling.start(target=Target(include=Include(clients=[rolling.fleet.client_id]))) for _ in range(3)]
    client_id = UUID((await dispatch(CreateClient(name="Another"))).answer["id"])
    site_id = UUID((await dispatch(CreateSite(client_id=client_id, name="Main"))).answer["id"])
    rolling.fleet = msgspec.structs.replace(rolling.fleet, client_id=client_id, site_id=site_id)
    await rolling.agents(40)
    own = await rolling.start(target=Target(include=Include(clients=[client_id])))
    await rolling.turn()  # the first, in which nobody knows yet who goes on
    before = {one: (await rolling.story(one)).cursor for one in (*theirs, own)}
    while (await rolling.story(own)).cursor < 40 and await rolling.turn():
        grown = {one: (await rolling.story(one)).cursor - before[one] for one in (*theirs, own)}
        assert abs(sum(grown[one] for one in theirs) - grown[own]) <= 6
    await rolling.settle()
    assert [(await rolling.story(one)).cursor for one in (*theirs, own)] == [40] * 4


async def test_steps_are_short_while_others_write(rolling: Rolling, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is half of the one before where somebody else was at the log meanwhile, and twice it where nobody was."""
    monkeypatch.setattr(rollouts, "BATCH", 16)
    monkeypatch.setattr(rollouts, "SHARED", 4)
    rolling.fan_out = rolling.another()
    agents = await rolling.agents(100)
    rollout_id = await rolling.start()
    steps = []
    for others_write in (False, True, True, True, False, False, False, False):
        before = (await rolling.story(rollout_id)).cursor
        if others_write:
            await rolling.fleet.dispatch(QueueCommand(agent_id=agents[0], spec=Ping()))
        await rolling.turn()
        steps.append((await rolling.story(rollout_id)).cursor - before)
    assert steps == [16, 16, 8, 4, 4, 8, 16, 16]


async def test_an_abort_takes_back_what_waits_and_lets_finish_what_runs(rolling: Rolling) -> None:
    """Queued commands are cancelled, running ones are not touched, and nothing new is queued."""
    await rolling.agents(6)
    rollout_id = await rolling.start(waves=[Wave(count=4)])
    await rolling.turn()
    one = await rolling.story(rollout_id)
    running = one.entries[0]
    accepted = Accepted(command_id=command_id(rollout_id, running.agent_id, 1), attempt=1, status="accepted")
    await rolling.deliveries.accepted(running.agent_id, [accepted], "test", None)
    rolling.follow()
    await rolling.fleet.dispatch(AbortRollout(rollout_id=rollout_id, reason="wrong version"))
    rolling.follow()
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"waiting": 2, "cancelled": 3, "delivered": 1}
    await rolling.finish(rollout_id)
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"waiting": 2, "cancelled": 3, "succeeded": 1}


async def test_an_abort_asks_the_agent_for_what_may_be_on_its_way(rolling: Rolling) -> None:
    """What a gateway may have handed over is asked back, and asked for once."""
    (agent_id,) = await rolling.agents(1)
    rollout_id = await rolling.start()
    await rolling.settle()
    rolling.in_flight.command_ids.add(command_id(rollout_id, agent_id, 1))
    await rolling.fleet.dispatch(AbortRollout(rollout_id=rollout_id))
    rolling.follow()
    await rolling.settle()
    command = await load(rolling.log, Command, command_id(rollout_id, agent_id, 1))
    assert (command.state, command.cancel_requested) == (CommandState.QUEUED, True)


async def test_a_pause_holds_and_a_resume_goes_on(rolling: Rolling) -> None:
    """While it is paused nothing is queued, whatever time passes."""
    await rolling.agents(4)
    rollout_id = await rolling.start(limits=Limits(in_flight=1))
    await rolling.settle()
    await rolling.fleet.dispatch(PauseRollout(rollout_id=rollout_id))
    await rolling.finish(rollout_id)
    rolling.clock.pass_(timedelta(hours=1))
    await rolling.settle()
    assert (await queued_per_agent(rolling.log)).total() == 1
    await rolling.fleet.dispatch(ResumeRollout(rollout_id=rollout_id))
    rolling.follow()
    await rolling.settle()
    assert (await queued_per_agent(rolling.log)).total() == 2


async def test_a_guard_stops_it_and_the_failed_are_retried(rolling: Rolling) -> None:
    """Half of the first wave fails: it pauses by itself; once mended, who failed gets another command, nobody else."""
    agents = await rolling.agents(10)
    rollout_id = await rolling.start(
        waves=[Wave(count=4, manual=True)], guard=Guard(max_failed_percent=25, min_ended=4)
    )
    await rolling.settle()
    await rolling.finish(rollout_id, "failed", at_most=2)
    await rolling.finish(rollout_id)
    await rolling.settle()
    assert (await rolling.story(rollout_id)).state is RolloutState.PAUSED
    await rolling.fleet.dispatch(RetryRollout(rollout_id=rollout_id, reason="mended"))
    rolling.follow()
    with pytest.raises(NothingToRetryError):
        await rolling.fleet.dispatch(RetryRollout(rollout_id=rollout_id))
    await rolling.fleet.dispatch(ResumeRollout(rollout_id=rollout_id))
    rolling.follow()
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"succeeded": 2, "queued": 2, "waiting": 6}
    await rolling.finish(rollout_id)
    await rolling.settle()
    await rolling.fleet.dispatch(ReleaseRollout(rollout_id=rollout_id))
    rolling.follow()
    await rolling.settle()
    await rolling.finish(rollout_id)
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"succeeded": 10}
    assert sorted((await queued_per_agent(rolling.log)).values()) == [1] * 8 + [2] * 2
    assert (await rolling.story(rollout_id)).state is RolloutState.COMPLETED
    assert set(await queued_per_agent(rolling.log)) == set(agents)


async def test_one_that_breaks_a_rule_stops_and_the_others_go_on(rolling: Rolling) -> None:
    """A rollout recorded by a program with other rules is paused, with the reason; the one beside it is served."""
    (agent_id,) = await rolling.agents(1)
    broken = Rollout(new_id())
    order = Order(spec=DomainPing(), priority=99, expires_in_s=60)
    started = RolloutStarted(
        name="broken",
        target=DomainTarget(include=Selector(everything=True)),
        order=order,
        client_ids=(),
        targeted=0,
        wave_sizes=(),
    )
    changes = broken.start(started, [(agent_id, ClientId(rolling.fleet.client_id), SiteId(rolling.fleet.site_id))])
    await rolling.log.append(changes, Metadata(actor="key:x", correlation_id=new_id()))
    good = await rolling.start()
    await rolling.settle()
    assert (await rolling.story(broken.stream_id)).state is RolloutState.PAUSED
    assert (await rolling.story(broken.stream_id)).cursor == 0
    assert await rolling.counts(good) == {"queued": 1}


async def test_who_changed_since_the_start_is_skipped(rolling: Rolling) -> None:
    """Retired, suspended and moved to another client: none of them gets a command, and each is counted."""
    agents = await rolling.agents(4)
    rollout_id = await rolling.start()
    other = await rolling.fleet.dispatch(CreateClient(name="Globex"))
    site = await rolling.fleet.dispatch(CreateSite(client_id=UUID(other.answer["id"]), name="Main"))
    await rolling.fleet.dispatch(RetireAgent(agent_id=agents[0]))
    await rolling.fleet.dispatch(SuspendAgent(agent_id=agents[1]))
    await rolling.fleet.dispatch(MoveAgent(agent_id=agents[2], site_id=UUID(site.answer["id"])))
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"skipped": 3, "queued": 1}
    await rolling.finish(rollout_id)
    await rolling.settle()
    assert (await rolling.story(rollout_id)).state is RolloutState.COMPLETED


async def test_a_command_cancelled_by_hand_is_no_failure(rolling: Rolling) -> None:
    """It ends the rollout's part of its agent, and is not retried."""
    (agent_id,) = await rolling.agents(1)
    rollout_id = await rolling.start(guard=Guard(max_failed_percent=0, min_ended=1))
    await rolling.settle()
    await rolling.fleet.dispatch(CancelCommand(command_id=command_id(rollout_id, agent_id, 1)))
    rolling.follow()
    await rolling.settle()
    assert (await rolling.story(rollout_id)).state is RolloutState.COMPLETED
    with pytest.raises(NothingToRetryError):
        await rolling.fleet.dispatch(RetryRollout(rollout_id=rollout_id))


async def test_a_plan_says_who_and_why_not_and_starts_nothing(rolling: Rolling) -> None:
    """Who is excluded, unfit or away is named with the reason."""
    linux = await rolling.agents(3)
    windows = await rolling.agents(2, Platform.WINDOWS)
    await rolling.fleet.dispatch(SuspendAgent(agent_id=linux[0]))
    rolling.follow()
    before = await rolling.log.head()
    done = await rolling.fleet.dispatch(
        rollout(
            PlanRollout,
            spec=RunShell(shell=Shell.CMD, line="ver"),
            target=Target(include=Include(clients=[rolling.fleet.client_id]), exclude=Exclude(agents=[windows[0]])),
            waves=[Wave(count=1)],
        )
    )
    assert done.answer["targeted"] == 1
    assert done.answer["waves"] == [1]
    assert done.answer["agents"] == [str(windows[1])]
    assert done.answer["excluded"] == {"excluded": 1, "suspended": 1, "wrong_platform": 2}
    assert {(one["agent_id"], one["reason"]) for one in done.answer["left_out"]} == {
        (str(windows[0]), "excluded"),
        (str(linux[0]), "suspended"),
        (str(linux[1]), "wrong_platform"),
        (str(linux[2]), "wrong_platform"),
    }
    assert await rolling.log.head() == before


async def test_a_plan_tells_a_mistake_from_a_wish(rolling: Rolling) -> None:
    """Each reason is counted; who is left out since it does not tell what was asked comes before who is not meant."""
    agents = [*await rolling.agents(4), *await rolling.agents(1, Platform.WINDOWS)]
    for agent_id, facts in (
        (agents[0], {"machine_type": "server", "os_version": "12"}),
        (agents[1], {"machine_type": "server", "os_version": "9"}),
        (agents[2], {"machine_type": "server"}),
        (agents[3], {"machine_type": "toaster", "os_version": "12"}),
    ):
        await rolling.tell(agent_id, AgentFactsReported(facts=facts))
    include = Include(everything=True, platforms=["linux"], machine_types=["server"], filter="facts.os_version >= '10'")
    done = await rolling.fleet.dispatch(rollout(PlanRollout, target=Target(include=include)))
    assert done.answer["agents"] == [str(agents[0])]
    assert done.answer["excluded"] == {
        "filter_not_met": 1,
        "filter_unknown": 1,
        "machine_type_unknown": 1,
        "other_platform": 1,
    }
    reasons = [one["reason"] for one in done.answer["left_out"]]
    assert set(reasons[:2]) == {"filter_unknown", "machine_type_unknown"}
    assert set(reasons[2:]) == {"filter_not_met", "other_platform"}


async def test_a_guard_on_silence_knows_who_is_away(rolling: Rolling) -> None:
    """Who took its command and is silent, or is there and does not take it, trips it; who is just away does not."""
    agents = await rolling.agents(6)
    away, stuck, silent, gone, well = agents[0], agents[1], agents[2], agents[3], agents[4:]
    for agent_id in agents[1:]:
        await rolling.tell(agent_id, AgentConnected(gateway="g"))
    guard = Guard(max_unanswered_percent=50, answer_within_s=600, min_ended=1)
    rollout_id = await rolling.start(guard=guard)
    await rolling.settle()

    async def accepts(agent_id: AgentId) -> None:
        accepted = Accepted(command_id=command_id(rollout_id, agent_id, 1), attempt=1, status="accepted")
        await rolling.deliveries.accepted(agent_id, [accepted], "test", None)

    for agent_id in (silent, gone, *well):
        await accepts(agent_id)
    rolling.follow()
    await rolling.tell(gone, AgentDisconnected(gateway="g"))
    later = utc_now() + timedelta(seconds=1)
    assert (await rolling.reads.tally(rollout_id, later)).unanswered == 5
    assert (await rolling.reads.tally(rollout_id, later - timedelta(hours=1))).unanswered == 0
    for agent_id in well:
        report = ResultReport(command_id=command_id(rollout_id, agent_id, 1), attempt=1, outcome="succeeded")
        await rolling.deliveries.finished(agent_id, report, "test")
    rolling.follow()
    tally = await rolling.reads.tally(rollout_id, later)
    assert (tally.ended, tally.unanswered) == (2, 3)
    await rolling.turn()
    assert (await rolling.story(rollout_id)).state is RolloutState.RUNNING
    rolling.clock.pass_(timedelta(seconds=700))
    await rolling.turn()
    story = await rolling.story(rollout_id)
    assert story.state is RolloutState.PAUSED
    assert story.excused.unanswered == 3
    # Known by now: after a resume the same silence does not trip it again.
    await rolling.fleet.dispatch(ResumeRollout(rollout_id=rollout_id))
    rolling.follow()
    await rolling.turn()
    assert (await rolling.story(rollout_id)).state is RolloutState.RUNNING
    assert {away, stuck} <= set(agents)


async def test_nobody_is_silent_while_the_read_models_are_behind(rolling: Rolling, postgres_url: str) -> None:
    """The answer may be among what they have not read: a projector that stands still trips no guard."""
    (agent_id,) = await rolling.agents(1)
    await rolling.tell(agent_id, AgentConnected(gateway="g"))
    rollout_id = await rolling.start()
    await rolling.settle()
    later = utc_now() + timedelta(seconds=1)
    assert (await rolling.reads.tally(rollout_id, later)).unanswered == 1
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        # As if what is yet to be read had been recorded a minute ago.
        admin.execute("UPDATE read.tracking SET position = position - 1 WHERE projection = 'commands'")
        admin.execute("ALTER TABLE fleetlog.events DISABLE TRIGGER append_only")
        admin.execute("UPDATE fleetlog.events SET recorded_at = recorded_at - interval '1 minute'")
    assert (await rolling.reads.tally(rollout_id, later)).unanswered == 0


@pytest.mark.parametrize(
    ("include", "exclude", "found"),
    [
        ({"everything": True}, {}, {0, 1, 2}),
        ({"everything": True, "platforms": ["windows"]}, {}, {2}),
        ({"everything": True, "online": True}, {}, set()),
        ({"everything": True, "online": False}, {}, {0, 1, 2}),
        ({"everything": True}, {"platforms": ["linux"]}, {2}),
        ({"everything": True}, {"online": False}, set()),
        ({"agents": [0, 2]}, {}, {0, 2}),
        ({"agents": [0, 2]}, {"agents": [0]}, {2}),
        ({"sites": ["site"], "platforms": ["linux"]}, {}, {0, 1}),
        ({"clients": ["client"]}, {"sites": ["site"]}, set()),
        ({"tags": ["web"], "agents": [2]}, {}, {0, 2}),
        ({"everything": True}, {"tags": ["web", "db"]}, {1, 2}),
        ({"everything": True, "machine_types": ["server"]}, {}, {0}),
        ({"everything": True, "machine_types": ["server", "workstation"]}, {}, {0, 2}),
        ({"everything": True}, {"machine_types": ["workstation"]}, {0, 1}),
        ({"everything": True, "filter": "facts.memory_bytes > 4e9"}, {}, {0}),
        ({"everything": True, "filter": "not facts.memory_bytes > 4e9"}, {}, {2}),
        ({"everything": True, "filter": "has facts.users"}, {"filter": "facts.users = 'bob'"}, {2}),
        ({"tags": ["web"], "filter": "facts.users = 'bob'; DROP TABLE agents"}, {}, None),
    ],
)
async def test_who_is_meant(
    rolling: Rolling, include: dict[str, Any], exclude: dict[str, Any], found: set[int] | None
) -> None:
    """Named lists add up, all else narrows down, and any match excludes."""
    agents = [*await rolling.agents(2), *await rolling.agents(1, Platform.WINDOWS)]
    tagged = await load(rolling.log, Agent, agents[0])
    await rolling.log.append([tagged.tag(["web"])], Metadata(actor="system", correlation_id=new_id()))
    server = {"machine_type": "server", "memory_bytes": 8_000_000_000, "users": ["alice", "bob"]}
    await rolling.tell(agents[0], AgentFactsReported(facts=server))
    desktop = {"machine_type": "workstation", "memory_bytes": 2_000_000_000, "users": []}
    await rolling.tell(agents[2], AgentFactsReported(facts=desktop))
    named = {"site": rolling.fleet.site_id, "client": rolling.fleet.client_id} | dict(enumerate(agents))

    def with_ids(given: dict[str, Any]) -> dict[str, Any]:
        return {
            key: [named[one] for one in value] if key in ("clients", "sites", "agents") else value
            for key, value in given.items()
        }

    target = Target(include=Include(**with_ids(include)), exclude=Exclude(**with_ids(exclude)))
    if found is None:
        with pytest.raises(InvalidFilterError, match="at 20"):
            await rolling.fleet.dispatch(rollout(PlanRollout, target=target))
        return
    done = await rolling.fleet.dispatch(rollout(PlanRollout, target=target))
    assert {UUID(one) for one in done.answer["agents"]} == {agents[i] for i in found}


async def test_only_who_the_caller_sees_is_meant(rolling: Rolling, bus: CommandBus, dispatch: Dispatch) -> None:
    """Everything is everything of one's own; others' things, and rollouts that reach them, do not exist."""
    mine = await rolling.agents(2)
    rollout_id = await rolling.start()
    other = ClientId(UUID((await dispatch(CreateClient(name="Globex"))).answer["id"]))
    rolling.follow()
    stranger = Caller(actor="key:b", access=Access.as_role(Role.OPERATOR, Scope.of([other])), correlation_id=new_id())
    with pytest.raises(EmptyRolloutError):
        await bus.dispatch(rollout(), stranger)
    for included in ({"agents": mine}, {"clients": [rolling.fleet.client_id]}, {"sites": [rolling.fleet.site_id]}):
        with pytest.raises(NotFoundError):
            await bus.dispatch(rollout(target=Target(include=Include(**included))), stranger)
    for intent in (PauseRollout, ResumeRollout, ReleaseRollout, AbortRollout, RetryRollout):
        with pytest.raises(NotFoundError):
            await bus.dispatch(intent(rollout_id=rollout_id), stranger)


async def test_a_step_is_recorded_whole_or_not_at_all(log: PostgresEventLog) -> None:
    """A conflict in the last of as many changes as a step may have leaves nothing of the others."""
    agents = [Agent(new_id()) for _ in range(ATOMIC_EVENTS)]
    enrolled = AgentEnrolled(
        site_id=SiteId(new_id()),
        client_id=ClientId(new_id()),
        token_id=None,
        hostname="h",
        platform=Platform.LINUX,
        arch="x86_64",
        agent_version="1",
        public_key="00" * 32,
    )
    changes = [agent.enroll(enrolled) for agent in agents]
    metadata = Metadata(actor="system", correlation_id=new_id())
    await log.append(changes[-1:], metadata)
    before = await log.head()
    with pytest.raises(ConflictError):
        await log.append_bulk(changes, metadata)
    assert await log.head() == before


async def test_ten_thousand_are_queued_in_a_few_steps(rolling: Rolling) -> None:
    """A step takes 2,000, so a large rollout is a handful of transactions."""
    agents = await rolling.agents(10_000)
    await rolling.start()
    turns = 0
    began = utc_now()
    while await rolling.fan_out.turn(rolling.clock()):
        turns += 1
    print(f"10,000 queued in {(utc_now() - began).total_seconds():.2f} s")  # noqa: T201 - shown with -s
    assert turns == 5
    assert await queued_per_agent(rolling.log) == Counter(dict.fromkeys(agents, 1))


async def test_each_machine_has_hours_of_its_own(rolling: Rolling) -> None:
    """Ten at night is another moment in each zone; who does not tell its zone is left out, as the plan says."""
    berlin, nepal, offset, unknown = await rolling.agents(4)
    for agent_id, facts in (
        (berlin, {"timezone": "Europe/Berlin", "utc_offset_minutes": 60}),
        (nepal, {"timezone": "Asia/Kathmandu", "utc_offset_minutes": 345}),
        (offset, {"timezone": None, "utc_offset_minutes": -210}),
    ):
        await rolling.tell(agent_id, AgentFactsReported(facts=facts))
    hours = Hours(begins="22:00", ends="05:00")
    planned = await rolling.fleet.dispatch(rollout(PlanRollout, hours=hours))
    assert planned.answer["excluded"] == {"timezone_unknown": 1}
    assert planned.answer["left_out"] == [{"agent_id": str(unknown), "reason": "timezone_unknown"}]
    rolling.clock.now = rolling.clock.now.replace(hour=12, minute=0) + timedelta(days=1)
    rollout_id = await rolling.start(hours=hours, expires_in_s=3600)
    await rolling.settle()
    for agent_id, name in ((berlin, "Europe/Berlin"), (nepal, "Asia/Kathmandu"), (offset, "-03:30")):
        command = await load(rolling.log, Command, command_id(rollout_id, agent_id, 1))
        queued = command.queued
        assert queued.hours is not None
        assert queued.hours.timezone == name
        assert queued.not_before == queued.hours.opening(rolling.clock.now)
        assert queued.not_before.astimezone(zone(name)).strftime("%H:%M") == "22:00"
        assert queued.expires_at == queued.not_before + timedelta(hours=1)
    everywhere = await rolling.start(hours=Hours(begins="22:00", ends="05:00", timezone="America/New_York"))
    await rolling.settle()
    command = await load(rolling.log, Command, command_id(everywhere, unknown, 1))
    assert command.queued.hours is not None
    assert command.queued.hours.timezone == "America/New_York"


async def test_who_waits_for_its_hours_is_not_silent(rolling: Rolling) -> None:
    """An agent that is online by day and has a command for the night owes no answer."""
    (agent_id,) = await rolling.agents(1)
    await rolling.tell(agent_id, AgentConnected(gateway="g"))
    now = rolling.clock.now
    begins, ends = (now - timedelta(hours=1)).strftime("%H:%M"), (now + timedelta(hours=1)).strftime("%H:%M")
    rollout_id = await rolling.start(hours=Hours(begins=begins, ends=ends, timezone="UTC"))
    plain = await rolling.start()
    await rolling.settle()
    rebuild(app_conninfo(rolling.url), "pending")
    later = utc_now() + timedelta(seconds=1)
    assert (await rolling.reads.tally(rollout_id, later)).unanswered == 0
    assert (await rolling.reads.tally(plain, later)).unanswered == 1
