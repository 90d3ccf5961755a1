"""Open rollouts: agents that come to match a target later are taken in, once, by whoever does the work."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from command_bus.bus import CommandBus
from command_bus.context import Caller
from command_bus.ids import new_id
from command_bus.intents.agents import MoveAgent, ResumeAgent, SuspendAgent
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.rollouts import (
    AbortRollout,
    CloseRollout,
    Include,
    PauseRollout,
    ResumeRollout,
    Target,
    Wave,
)
from command_bus.repository import load
from command_bus.rollouts import FanOut
from domain.access import Access
from domain.agents import Agent, AgentFactsReported
from domain.errors import EmptyRolloutError, NotFoundError, RolloutNotOpenError
from domain.event import Metadata
from domain.ids import AgentId, ClientId
from domain.permissions import Permission
from domain.roles import Role
from domain.rollouts import RolloutState
from domain.scopes import Scope
from projections.rollouts import get_rollout
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

DAY_S = 24 * 3600


async def tag(rolling: Rolling, agent_id: AgentId, *tags: str) -> None:
    agent = await load(rolling.log, Agent, agent_id)
    await rolling.log.append([agent.tag(list(tags))], Metadata(actor="system", correlation_id=new_id()))


async def test_whoever_comes_to_match_gets_its_command_once(rolling: Rolling) -> None:
    """Enrolled, tagged, moved, resumed or told by its facts: each joins when it comes to match, and once."""
    at_first, tagged, moved, suspended, told, never = await rolling.agents(6)
    await tag(rolling, at_first, "web")
    other = await rolling.fleet.dispatch(CreateSite(client_id=rolling.fleet.client_id, name="Branch"))
    site_id = UUID(other.answer["id"])
    await rolling.fleet.dispatch(SuspendAgent(agent_id=suspended))
    await tag(rolling, suspended, "web")
    await tag(rolling, told, "web")
    await rolling.tell(told, AgentFactsReported(facts={"os_version": "11"}))
    await rolling.tell(at_first, AgentFactsReported(facts={"os_version": "12"}))
    rolling.follow()
    include = Include(tags=["web"], sites=[site_id], filter="not facts.os_version < '12'")
    rollout_id = await rolling.start(target=Target(include=include), joins_within_s=DAY_S)
    await rolling.settle()
    assert await queued_per_agent(rolling.log) == Counter([at_first])
    for agent_id in (tagged, moved, suspended):
        await rolling.tell(agent_id, AgentFactsReported(facts={"os_version": "12"}))
    await tag(rolling, tagged, "db", "web")
    await rolling.fleet.dispatch(MoveAgent(agent_id=moved, site_id=site_id))
    await rolling.fleet.dispatch(ResumeAgent(agent_id=suspended))
    await rolling.tell(told, AgentFactsReported(facts={"os_version": "12.1"}))
    rolling.follow()
    await rolling.settle()
    for agent_id in (tagged, told):
        await tag(rolling, agent_id)
        await tag(rolling, agent_id, "web")
    rolling.follow()
    await rolling.settle()
    assert await queued_per_agent(rolling.log) == Counter([at_first, tagged, moved, suspended, told])
    assert await rolling.counts(rollout_id) == {"queued": 5}
    await rolling.finish(rollout_id)
    await rolling.settle()
    assert (await rolling.story(rollout_id)).state is RolloutState.RUNNING
    rolling.clock.pass_(timedelta(days=2))
    await rolling.settle()
    one = await rolling.story(rollout_id)
    assert (one.state, one.open_until, one.targeted) == (RolloutState.COMPLETED, None, 5)
    await tag(rolling, never, "web")
    rolling.follow()
    await rolling.settle()
    assert (await rolling.story(rollout_id)).targeted == 5


async def test_who_joined_in_time_is_taken_in_though_nobody_looked(rolling: Rolling) -> None:
    """A scheduler that was away when the time ran out takes in who joined before, closes, and then completes."""
    await rolling.agents(1)
    rollout_id = await rolling.start(joins_within_s=3600)
    late = await rolling.agents(3)
    rolling.clock.pass_(timedelta(hours=2))
    await rolling.settle()
    one = await rolling.story(rollout_id)
    assert (one.targeted, one.open_until, one.state) == (4, None, RolloutState.RUNNING)
    assert set(late) <= set(await queued_per_agent(rolling.log))


async def test_it_is_not_closed_before_everything_in_time_was_seen(
    rolling: Rolling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More joined than one look takes: the last look is the one that finds nothing more."""
    monkeypatch.setattr("command_bus.rollout_growth.LOOKED_AT_ONCE", 2)
    await rolling.agents(1)
    rollout_id = await rolling.start(joins_within_s=3600)
    await rolling.agents(5)
    rolling.clock.pass_(timedelta(hours=2))
    await rolling.settle()
    one = await rolling.story(rollout_id)
    assert (one.targeted, one.open_until) == (6, None)


async def test_a_pause_holds_commands_and_not_the_list(rolling: Rolling) -> None:
    """Who joins while it is paused is listed, and served after the resume; an abort takes in nobody."""
    await rolling.agents(1)
    rollout_id = await rolling.start(joins_within_s=DAY_S)
    await rolling.fleet.dispatch(PauseRollout(rollout_id=rollout_id))
    rolling.follow()
    await rolling.agents(2)
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"waiting": 3}
    await rolling.fleet.dispatch(ResumeRollout(rollout_id=rollout_id))
    rolling.follow()
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"queued": 3}
    await rolling.fleet.dispatch(AbortRollout(rollout_id=rollout_id))
    rolling.follow()
    await rolling.agents(2)
    await rolling.settle()
    assert await rolling.counts(rollout_id) == {"cancelled": 3}


async def test_it_is_closed_by_hand(rolling: Rolling) -> None:
    """Who is in it goes on, nobody joins any more, and it completes."""
    await rolling.agents(1)
    rollout_id = await rolling.start(joins_within_s=DAY_S)
    await rolling.fleet.dispatch(CloseRollout(rollout_id=rollout_id, reason="enough"))
    with pytest.raises(RolloutNotOpenError):
        await rolling.fleet.dispatch(CloseRollout(rollout_id=rollout_id))
    await rolling.agents(1)
    await rolling.settle()
    await rolling.finish(rollout_id)
    await rolling.settle()
    one = await rolling.story(rollout_id)
    assert (one.state, one.targeted) == (RolloutState.COMPLETED, 1)


async def test_nobody_of_another_client_joins(rolling: Rolling, bus: CommandBus, dispatch: Dispatch) -> None:
    """Everything is everything of whoever asked, later as well; a rollout for nobody yet is not everybody's to see."""
    mine = ClientId(rolling.fleet.client_id)
    admin = Caller(actor="key:mine", access=Access.as_role(Role.ADMIN, Scope.of([mine])), correlation_id=new_id())
    with pytest.raises(EmptyRolloutError):
        await bus.dispatch(rollout(), admin)
    done = await bus.dispatch(rollout(joins_within_s=DAY_S), admin)
    rollout_id = UUID(done.answer["id"])
    for_all = UUID((await dispatch(rollout(joins_within_s=DAY_S))).answer["id"])
    globex = UUID((await dispatch(CreateClient(name="Globex"))).answer["id"])
    site = await dispatch(CreateSite(client_id=globex, name="Main"))
    (own, others) = await rolling.agents(2)
    await rolling.fleet.dispatch(MoveAgent(agent_id=others, site_id=UUID(site.answer["id"])))
    rolling.follow()
    stranger = Caller(actor="key:b", access=Access.as_role(Role.ADMIN, Scope.of([globex])), correlation_id=new_id())
    for one, caller, seen in ((rollout_id, admin, True), (for_all, admin, False), (for_all, stranger, False)):
        async with await rolling.connection() as connection:
            assert (
                await get_rollout(connection, one, client_ids=caller.access.scope(Permission.ROLLOUTS_SEE)) is not None
            ) is seen
    with pytest.raises(NotFoundError):
        await bus.dispatch(AbortRollout(rollout_id=for_all), stranger)
    await rolling.settle()
    assert [entry.agent_id for entry in (await rolling.story(rollout_id)).entries] == [own]
    both = await rolling.story(for_all)
    assert {entry.agent_id for entry in both.entries} == {own, others}
    assert set(both.client_ids) == {mine, globex}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 8))
async def test_whoever_takes_over_takes_in_the_same(
    rolling: Rolling,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    after: bool,
) -> None:
    """A death just before or after any step of one that grows, waves in between, changes no outcome."""
    monkeypatch.setattr("command_bus.rollouts.BATCH", 2)
    agents = await rolling.agents(4)
    rollout_id = await rolling.start(waves=[Wave(count=2)], joins_within_s=3600)
    log: Any = CrashingLog(rolling.log, at, after=after)
    rolling.fan_out = FanOut(log, rolling.in_flight, rolling.reads, Impatient(), new_id)
    crashes = 0
    while (await rolling.story(rollout_id)).state is not RolloutState.COMPLETED:
        if len(agents) < 7:
            agents += await rolling.agents(1)
        else:
            rolling.clock.pass_(timedelta(hours=2))
        try:
            moved = await rolling.turn()
        except CrashError:
            crashes += 1
            rolling.fan_out = rolling.another()
            continue
        finally:
            rolling.follow()
        if not moved:
            await rolling.finish(rollout_id, at_most=2)
    assert crashes == 1
    assert await queued_per_agent(rolling.log) == Counter(dict.fromkeys(agents, 1))
    assert await rolling.counts(rollout_id) == {"succeeded": 7}


async def test_a_scheduler_killed_while_it_grows_loses_nobody(rolling: Rolling, postgres_url: str) -> None:
    """Machines enroll while two schedulers take them in and are killed again and again: each gets one command."""
    agents = await rolling.agents(10)
    rollout_id = await rolling.start(joins_within_s=DAY_S)
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
        wanted = 60
        while (count := await count_queued(watching)) < 180:
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in processes)
            if len(agents) < 180:
                agents += await rolling.agents(10)
            if count >= wanted:
                for process in processes:
                    process.kill()
                    kills += 1
                processes = [begin(), begin()]
                wanted += 60
            await asyncio.sleep(0.01)
    assert kills >= 4
    assert await queued_per_agent(rolling.log) == Counter(dict.fromkeys(agents, 1))
    rolling.follow()
    assert await rolling.counts(rollout_id) == {"queued": 180}
    assert (await rolling.story(rollout_id)).targeted == 180
