"""Restarts: a machine restarts once for each command, whatever is killed when, and the command ends when it is back.

No machine is restarted here: the only ``shutdown`` that the agent finds is a script of the test's, which takes note.
"""

import signal
from datetime import datetime
from pathlib import Path

import pytest

from agent.platforms import restarting
from schema import wire
from schema.patches import HANDS_OFF, RebootWork
from tests.agent.scripted import AgentProcess, ScriptedGateway

FIRST_BOOT = "boot-1"
NEXT_BOOT = "boot-2"


class Machine:
    """A machine that does not restart, but takes note that it was told to."""

    def __init__(self, folder: Path, exit_code: int = 0) -> None:
        self._programs = folder / "programs"
        self._programs.mkdir()
        self._noted = folder / "restarts"
        self.exits_with(exit_code)

    def exits_with(self, exit_code: int) -> None:
        shutdown = self._programs / "shutdown"
        shutdown.write_text(f'#!/bin/sh\necho "$@" >> {self._noted}\necho no >&2\nexit {exit_code}\n')
        shutdown.chmod(0o755)

    def environment(self, boot_id: str, **more: str) -> dict[str, str]:
        """The agent's: its boot, and no program but ours."""
        return {"PATH": str(self._programs), "BOOT_ID": boot_id, HANDS_OFF: "", **more}

    @property
    def told(self) -> list[str]:
        return self._noted.read_text().splitlines() if self._noted.exists() else []


@pytest.fixture
def machine(place: Path) -> Machine:
    return Machine(place)


async def _deliver(gateway: ScriptedGateway, work: RebootWork) -> wire.Order:
    order = gateway.order(work, lane="system")
    assert (await gateway.deliver(order))[0].status == "accepted"
    return order


async def test_ends_when_the_machine_is_back(gateway: ScriptedGateway, agent: AgentProcess, machine: Machine) -> None:
    """A restart is told once, has no ending while the machine is the same, and has succeeded with the next boot."""
    agent.start(env=machine.environment(FIRST_BOOT))
    order = await _deliver(gateway, RebootWork())
    await gateway.until(lambda: machine.told or gateway.heard["started"])
    await gateway.until(lambda: gateway.heard["started"])
    assert machine.told == ["-r now"]
    await agent.stop()  # the machine goes down, and its agent with it
    assert not gateway.heard["result"]
    agent.start(env=machine.environment(NEXT_BOOT))
    result = await gateway.result(order.command_id)
    assert (result.outcome, result.detail) == ("succeeded", "the machine has restarted")
    assert isinstance(result.started_at, datetime)
    assert (await gateway.deliver(order))[0].status == "accepted"
    after = gateway.order(wire.PingWork(), lane="system")
    await gateway.deliver(after)
    await gateway.result(after.command_id)
    assert machine.told == ["-r now"]


@pytest.mark.parametrize(
    ("step", "next_boot", "told", "outcome"),
    [
        ("received", NEXT_BOOT, 1, ""),  # nothing was on disk: the redelivery is the first delivery
        ("journaled", FIRST_BOOT, 1, ""),
        ("marked_running", FIRST_BOOT, 0, "interrupted"),
        ("marked_running", NEXT_BOOT, 0, "interrupted"),  # it restarted by itself: not by this command
        ("rebooting", FIRST_BOOT, 0, "interrupted"),
        ("rebooting", NEXT_BOOT, 0, "succeeded"),
        ("restart_told", FIRST_BOOT, 1, "interrupted"),
        ("restart_told", NEXT_BOOT, 1, "succeeded"),
    ],
)
async def test_killed_at(
    gateway: ScriptedGateway,
    agent: AgentProcess,
    machine: Machine,
    step: str,
    next_boot: str,
    told: int,
    outcome: str,
) -> None:
    """Killed at any step and delivered again, a machine is told to restart once at the most, and there is one ending.

    Where the redelivery is what begins it, it is under way then, and is ended by the boot after that.
    """
    agent.start(crash_at=step, env=machine.environment(FIRST_BOOT))
    order = gateway.order(RebootWork(), lane="system")
    await gateway.hello()
    await gateway.client.publish(f"fleet.{gateway.agent_id}.cmd", gateway.delivery(order), reply="nobody")
    assert await agent.exited() == -signal.SIGKILL
    agent.start(env=machine.environment(next_boot, RESTART_TAKES_S="0.5" if outcome else "600"))
    assert (await gateway.deliver(order))[0].status == "accepted"
    if not outcome:
        await gateway.until(lambda: gateway.heard["started"])
        assert len(machine.told) == told
        assert not gateway.heard["result"]
        await agent.kill()
        agent.start(env=machine.environment("boot-3"))
        outcome = "succeeded"
    result = await gateway.result(order.command_id)
    assert result.outcome == outcome
    assert (await gateway.deliver(order))[0].status == "accepted"
    after = gateway.order(wire.PingWork(), lane="system")
    await gateway.deliver(after)
    await gateway.result(after.command_id)
    assert len(machine.told) == told
    assert {r.outcome for r in gateway.heard["result"] if r.command_id == order.command_id} == {outcome}


async def test_nothing_overtakes_a_restart_under_way(
    gateway: ScriptedGateway, agent: AgentProcess, machine: Machine
) -> None:
    """An agent that was killed as it told the machine lets nothing begin in the lane until that is settled."""
    agent.start(crash_at="restart_told", env=machine.environment(FIRST_BOOT))
    order = gateway.order(RebootWork(), lane="system")
    after = gateway.order(wire.PingWork(), lane="system")
    beside = gateway.order(wire.PingWork())
    await gateway.hello()
    delivery = gateway.delivery(order, after)
    await gateway.client.publish(f"fleet.{gateway.agent_id}.cmd", delivery, reply="nobody")
    assert await agent.exited() == -signal.SIGKILL
    agent.start(env=machine.environment(FIRST_BOOT))
    await gateway.deliver(beside)
    await gateway.result(beside.command_id)
    assert {report.command_id for report in gateway.heard["result"]} == {beside.command_id}


async def test_cancelled_before_it_was_told(gateway: ScriptedGateway, agent: AgentProcess, machine: Machine) -> None:
    """While those who are logged in still have time, a restart can be called off."""
    agent.start(env=machine.environment(FIRST_BOOT))
    order = await _deliver(gateway, RebootWork(delay_s=600, notice="Save your work."))
    await gateway.until(lambda: gateway.heard["started"])
    assert (await gateway.cancel(order.command_id))[str(order.command_id)] == "ending"
    assert (await gateway.result(order.command_id)).outcome == "cancelled"
    assert not machine.told


async def test_a_machine_that_will_not(gateway: ScriptedGateway, agent: AgentProcess, place: Path) -> None:
    """One that refuses, or stays although it was told, has failed, and says why."""
    refuses = Machine(place, exit_code=1)
    agent.start(env=refuses.environment(FIRST_BOOT, RESTART_TAKES_S="0.2"))
    result = await gateway.result((await _deliver(gateway, RebootWork())).command_id)
    assert (result.outcome, result.detail) == ("failed", "shutdown ended with 1: no")
    refuses.exits_with(0)
    result = await gateway.result((await _deliver(gateway, RebootWork())).command_id)
    assert (result.outcome, result.detail) == ("failed", "the machine was told to restart, and did not")


async def test_hands_off(gateway: ScriptedGateway, agent: AgentProcess, machine: Machine) -> None:
    """An agent that is to leave its machine as it is refuses, and tells nobody to restart anything."""
    agent.start(env=machine.environment(FIRST_BOOT) | {HANDS_OFF: "1"})
    (answer,) = await gateway.deliver(gateway.order(RebootWork(), lane="system"))
    assert (answer.status, answer.code) == ("rejected", "hands_off")
    assert not machine.told


def test_newer_than_the_boot() -> None:
    """Of a machine with rpm, one of the packages that take a restart is newer than its boot, or none is."""
    printed = "1700000000\npackage kernel-rt is not installed\n1700000500\n"
    assert restarting.newer_than_boot(printed, 1700000100.0)
    assert not restarting.newer_than_boot(printed, 1700000600.0)
