"""Updates and restarts as commands: their lane, that nothing is tried again by itself, and what follows an install."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from command_bus.event_log import EventLog
from command_bus.handlers.delivery import Deliveries
from command_bus.intents.commands import InstallUpdates, Ping, QueueCommand, Reboot, Retry
from command_bus.intents.rollouts import StartRollout
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load
from domain.commands import SYSTEM_LANE, Command, CommandQueued
from domain.errors import InvalidValueError
from domain.ids import AgentId, is_derived
from domain.patches import MAX_NAMES, RebootPolicy, UpdateOutcome, reboot_after
from domain.patches import Reboot as QueuedReboot
from schema import patches, wire
from tests.command_bus.conftest import Clock, Dispatch, Fleet

RESTARTING = InstallUpdates(reboot=RebootPolicy.IF_NEEDED, reboot_delay_s=60)


async def _queue(dispatch: Dispatch, agent_id: AgentId, spec: InstallUpdates | Reboot, **more: object) -> UUID:
    done = await dispatch(QueueCommand(agent_id=agent_id, spec=spec, **more))  # type: ignore[arg-type]
    return UUID(done.answer["id"])


def _result(command_id: UUID, *, needed: bool | None, outcome: str = "succeeded") -> wire.ResultReport:
    updates = [patches.UpdateOutcome(name="nginx", version="1.24", outcome="installed")]
    patched = patches.PatchReport(updates=updates, installed=1, reboot_needed=needed)
    return wire.ResultReport(command_id=command_id, attempt=1, outcome=outcome, exit_code=0, patched=patched)


async def _following(log: EventLog, command_id: UUID) -> CommandQueued | None:
    found = (await log.read_streams([reboot_after(command_id)])).get(reboot_after(command_id), [])
    assert len(found) <= 1
    event = found[0].event if found else None
    assert event is None or isinstance(event, CommandQueued)
    return event


async def test_they_share_a_lane(dispatch: Dispatch, fleet: Fleet, log: PostgresEventLog) -> None:
    """Whatever lane is asked for, what touches the system has one: an install and a restart never run side by side."""
    agent_id = await fleet.agent()
    for spec in (InstallUpdates(), Reboot()):
        command = await load(log, Command, await _queue(dispatch, agent_id, spec, lane="mine"))
        assert command.queued.lane == SYSTEM_LANE


@pytest.mark.parametrize("spec", [InstallUpdates(), Reboot()])
async def test_nothing_is_tried_again_by_itself(
    dispatch: Dispatch, fleet: Fleet, spec: InstallUpdates | Reboot
) -> None:
    """Neither singly nor in a rollout: somebody is to look first."""
    agent_id = await fleet.agent()
    retry = Retry(max_attempts=2, on=["interrupted"])
    with pytest.raises(InvalidValueError, match="not tried again"):
        await dispatch(QueueCommand(agent_id=agent_id, spec=spec, retry=retry))
    body = {"name": "all", "target": {"include": {"everything": True}}, "spec": spec.model_dump(), "retry": retry}
    with pytest.raises(InvalidValueError, match="not tried again"):
        await dispatch(StartRollout.model_validate(body))
    await dispatch(QueueCommand(agent_id=agent_id, spec=Ping(), retry=retry))


@pytest.mark.parametrize(
    "spec",
    [
        InstallUpdates(names=["a\nb"]),
        InstallUpdates(names=["\x00"]),
        InstallUpdates(names=["a"], versions={"b": "1"}),
        InstallUpdates(held=["a\tb"]),
        Reboot(notice="\x1b[2J"),
    ],
)
async def test_what_no_machine_could_do(dispatch: Dispatch, fleet: Fleet, spec: InstallUpdates | Reboot) -> None:
    """Names that nothing can have, versions of what is not asked for, and notices that are no text are refused."""
    agent_id = await fleet.agent()
    with pytest.raises(InvalidValueError):
        await dispatch(QueueCommand(agent_id=agent_id, spec=spec))


def test_too_many_names() -> None:
    """A list longer than a machine's own is not taken."""
    with pytest.raises(ValueError, match="at most"):
        InstallUpdates(names=["a"] * (MAX_NAMES + 1))


async def test_a_restart_follows(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog, clock: Clock
) -> None:
    """Where the machine says that it takes one: a command of its own, once, in the name of whoever asked."""
    agent_id = await fleet.agent()
    command_id = await _queue(dispatch, agent_id, RESTARTING)
    told = _result(command_id, needed=True)
    assert await deliveries.finished(agent_id, told, "g") == ""
    queued = await _following(log, command_id)
    assert queued is not None
    assert queued.spec == QueuedReboot(delay_s=60, notice="Updates were installed.")
    assert queued.lane == SYSTEM_LANE
    assert queued.expires_at > clock()
    (first,) = (await log.read_streams([reboot_after(command_id)]))[reboot_after(command_id)]
    (of_install, *_) = (await log.read_streams([command_id]))[command_id]
    assert (first.actor, first.correlation_id) == (of_install.actor, of_install.correlation_id)
    assert not is_derived(reboot_after(command_id))  # who may queue a command may have queued this
    assert await deliveries.finished(agent_id, told, "g") == "duplicate"
    await asyncio.gather(*(deliveries.finished(agent_id, told, f"g{n}") for n in range(5)))
    assert await _following(log, command_id) is not None
    installed = (await load(log, Command, command_id)).state
    assert installed == "succeeded"


async def test_the_first_to_hear_of_it_died(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the result and the restart a gateway dies: the agent was not answered, says it again, and it follows."""
    agent_id = await fleet.agent()
    command_id = await _queue(dispatch, agent_id, RESTARTING)

    async def dies(_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(deliveries, "_restart_after", dies)
        with pytest.raises(ConnectionResetError):
            await deliveries.finished(agent_id, _result(command_id, needed=True), "g")
    assert await _following(log, command_id) is None
    assert await deliveries.finished(agent_id, _result(command_id, needed=True), "g") == "duplicate"
    assert await _following(log, command_id) is not None


@pytest.mark.parametrize(
    ("spec", "needed", "outcome"),
    [
        (RESTARTING, False, "succeeded"),
        (RESTARTING, None, "succeeded"),
        (RESTARTING, True, "interrupted"),
        (RESTARTING, True, "timed_out"),
        (InstallUpdates(), True, "succeeded"),
        (Reboot(), True, "succeeded"),
    ],
)
async def test_no_restart_follows(
    dispatch: Dispatch,
    fleet: Fleet,
    deliveries: Deliveries,
    log: PostgresEventLog,
    spec: InstallUpdates | Reboot,
    needed: bool | None,
    outcome: str,
) -> None:
    """Where none is needed, was asked for, or the install was cut short; an agent cannot have one by claiming it."""
    agent_id = await fleet.agent()
    command_id = await _queue(dispatch, agent_id, spec)
    await deliveries.finished(agent_id, _result(command_id, needed=needed, outcome=outcome), "g")
    assert await _following(log, command_id) is None


async def test_an_agent_says_too_much(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog
) -> None:
    """A long list is cut and counted, text becomes one line, and an outcome that there is none of is a failure."""
    agent_id = await fleet.agent()
    command_id = await _queue(dispatch, agent_id, InstallUpdates())
    named = patches.UpdateOutcome(name="a\x1b[2J" + "b" * 900, version="1", outcome="exploded", why="x\ny" * 900)
    told = patches.PatchReport(updates=[named] * 1000, more=-5, installed=-1)
    report = wire.ResultReport(command_id=command_id, attempt=1, outcome="failed", patched=told)
    await deliveries.finished(agent_id, report, "g")
    last = (await log.read_streams([command_id]))[command_id][-1].event
    patched = last.result.patched  # type: ignore[attr-defined]
    assert (len(patched.updates), patched.more, patched.installed) == (300, 700, 0)
    first: UpdateOutcome = patched.updates[0]
    assert (first.outcome, len(first.name), len(first.why)) == ("failed", 200, 300)
    assert first.name.isprintable()
    assert first.why.isprintable()


async def test_it_waits_as_long_as_its_install(
    dispatch: Dispatch, fleet: Fleet, deliveries: Deliveries, log: PostgresEventLog, clock: Clock
) -> None:
    """A restart expires with what it follows, and an hour later where that is over by then."""
    agent_id = await fleet.agent()
    late = clock() + timedelta(minutes=10)
    command_id = await _queue(dispatch, agent_id, RESTARTING, expires_at=late)
    await deliveries.finished(agent_id, _result(command_id, needed=True), "g")
    queued = await _following(log, command_id)
    assert queued is not None
    assert queued.expires_at == clock() + timedelta(hours=1)
