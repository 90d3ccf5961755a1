"""What stops a rollout, what does not, and who is waited for."""

from datetime import timedelta

import psycopg
import pytest

from command_bus.ids import new_id, utc_now
from command_bus.intents.commands import CancelCommand
from command_bus.intents.hours import Hours
from command_bus.intents.rollouts import (
    Guard,
    PlanRollout,
    ReleaseRollout,
    ResumeRollout,
    RetryRollout,
    Wave,
)
from command_bus.postgres import app_conninfo
from command_bus.repository import load
from domain.agents import (
    AgentConnected,
    AgentDisconnected,
    AgentFactsReported,
)
from domain.commands import Command
from domain.commands import Ping as DomainPing
from domain.errors import NothingToRetryError
from domain.event import Metadata
from domain.hours import zone
from domain.ids import AgentId, ClientId, SiteId
from domain.rollout_events import RolloutStarted
from domain.rollout_terms import Order, Selector
from domain.rollout_terms import Target as DomainTarget
from domain.rollouts import Rollout, RolloutState, command_id
from projections.rebuild import rebuild
from schema.wire import Accepted, ResultReport
from tests.command_bus.rolling import (
    Rolling,
    queued_per_agent,
    rollout,
)


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


async def test_who_answered_a_moment_ago_is_not_silent(rolling: Rolling) -> None:
    """An answer that no read model has read yet counts: as much longer is waited as they may be behind."""
    (agent_id,) = await rolling.agents(1)
    await rolling.tell(agent_id, AgentConnected(gateway="g"))
    guard = Guard(max_unanswered_percent=1, answer_within_s=10, min_ended=1)
    rollout_id = await rolling.start(guard=guard)
    await rolling.settle()
    accepted = Accepted(command_id=command_id(rollout_id, agent_id, 1), attempt=1, status="accepted")
    await rolling.deliveries.accepted(agent_id, [accepted], "test", None)  # and the read models do not follow
    rolling.clock.pass_(timedelta(seconds=12))
    await rolling.turn()
    assert (await rolling.story(rollout_id)).state is RolloutState.RUNNING
    rolling.clock.pass_(timedelta(seconds=18))
    await rolling.turn()
    assert (await rolling.story(rollout_id)).state is RolloutState.PAUSED


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
