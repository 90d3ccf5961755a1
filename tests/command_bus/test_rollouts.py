"""The fan-out on a real log, its read models beside it."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest

from command_bus import rollouts
from command_bus.context import Caller
from command_bus.event_log import ATOMIC_EVENTS, ConflictError
from command_bus.handlers.housekeeping import Housekeeping
from command_bus.ids import new_id, utc_now
from command_bus.intents.agents import MoveAgent, RetireAgent, SuspendAgent
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.commands import Ping, QueueCommand
from command_bus.intents.rollouts import (
    AbortRollout,
    Guard,
    Include,
    Limits,
    PauseRollout,
    ResumeRollout,
    Target,
    Wave,
)
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load
from command_bus.rollouts import FanOut
from domain.agents import (
    Agent,
    AgentEnrolled,
    Platform,
)
from domain.commands import Command, CommandState
from domain.event import Metadata
from domain.ids import ClientId, SiteId
from domain.rollouts import RolloutState, command_id
from projections.pending import QueueReader
from schema.wire import Accepted, ResultReport
from tests.command_bus.conftest import Dispatch
from tests.command_bus.rolling import (
    PATIENCE_S,
    CrashError,
    CrashingLog,
    Rolling,
    count_queued,
    queued_per_agent,
)
from tests.command_bus.rolling_out import Impatient
from tests.projections.database import deliverable


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


@asynccontextmanager
async def lent(url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(app_conninfo(url), autocommit=True) as connection:
        yield connection


async def test_its_part_waits_a_month_for_who_is_away(rolling: Rolling) -> None:
    """Where nothing else is said, a command waits for thirty days, and then its agent's part has expired."""
    back, gone = await rolling.agents(2)
    rollout_id = await rolling.start()
    await rolling.settle()
    rolling.clock.pass_(timedelta(days=29))
    housekeeping = Housekeeping(rolling.log, rolling.in_flight, QueueReader(partial(lent, rolling.url)), new_id)
    assert await housekeeping.expire_due(rolling.clock()) == 0
    async with await rolling.connection() as connection:
        waiting = await deliverable(connection, [back, gone], now=rolling.clock(), window=8)
    assert {row.agent_id for row in waiting} == {back, gone}
    accepted = Accepted(command_id=command_id(rollout_id, back, 1), attempt=1, status="accepted")
    await rolling.deliveries.accepted(back, [accepted], "test", None)
    report = ResultReport(command_id=command_id(rollout_id, back, 1), attempt=1, outcome="succeeded", exit_code=0)
    await rolling.deliveries.finished(back, report, "test")
    rolling.clock.pass_(timedelta(days=2))
    assert await housekeeping.expire_due(rolling.clock()) == 1
    rolling.follow()
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"succeeded": 1, "expired": 1}
    assert (await rolling.story(rollout_id)).state is RolloutState.COMPLETED


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
