"""kill -9 of the agent at every step: nothing runs twice, nothing that was accepted is lost (invariants 3 and 6)."""

import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.platforms import PLATFORM
from tests.agent.scripted import AgentProcess, ScriptedGateway, script


@pytest.mark.parametrize(
    ("step", "lines", "outcome"),
    [
        ("received", 1, "succeeded"),  # nothing was on disk: the redelivery is the first delivery
        ("journaled", 1, "succeeded"),  # on disk, so it runs without being delivered again
        ("marked_running", 0, "interrupted"),  # it might have run: it must not run again
        ("spawned", None, "interrupted"),  # it may have come to the line, or not
        ("exited", 1, "interrupted"),
        ("ended", 1, "succeeded"),
        ("sent", 1, "succeeded"),
        ("acknowledged", 1, "succeeded"),
    ],
)
async def test_killed_at(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path, step: str, lines: int | None, outcome: str
) -> None:
    """Killed at any step and delivered again, an attempt runs at most once and has one ending."""
    ran = place / "ran"
    agent.start(crash_at=step)
    order = gateway.order(script(f"echo run >> {ran}"))
    await gateway.hello()
    await gateway.client.publish(f"fleet.{gateway.agent_id}.cmd", gateway.delivery(order), reply="nobody")
    assert await agent.exited() == -signal.SIGKILL
    agent.start()
    assert (await gateway.deliver(order))[0].status == "accepted"
    result = await gateway.result(order.command_id)
    assert result.outcome == outcome
    after = gateway.order(script("true"))
    await gateway.deliver(after)
    await gateway.result(after.command_id)
    seen = len(ran.read_text().splitlines()) if ran.exists() else 0
    assert seen == lines if lines is not None else seen <= 1
    assert {r.outcome for r in gateway.heard["result"] if r.command_id == order.command_id} == {outcome}


async def test_accepted_work_survives_without_redelivery(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """What was accepted runs after a crash though nobody delivers it again."""
    ran = place / "ran"
    agent.start()
    first = gateway.order(script("sleep 300"))
    waiting = [gateway.order(script(f"echo {n} >> {ran}")) for n in range(3)]
    await gateway.deliver(first, *waiting)
    await gateway.until(lambda: gateway.heard["started"])
    await agent.kill()
    agent.start()
    for order in waiting:
        assert (await gateway.result(order.command_id)).outcome == "succeeded"
    assert ran.read_text().split() == ["0", "1", "2"]
    assert (await gateway.result(first.command_id)).outcome == "interrupted"


async def test_leftovers_are_ended_and_swept(gateway: ScriptedGateway, agent: AgentProcess, place: Path) -> None:
    """After a crash the script's processes are ended, its file is removed, and what it had printed is reported."""
    pids = place / "pids"
    agent.start()
    order = gateway.order(
        script(f"echo before the crash; echo $$ > {pids}; setsid sleep 300 & echo $! >> {pids}; sleep 301")
    )
    await gateway.deliver(order)
    await gateway.until(lambda: gateway.live and gateway.heard["started"])
    scripts = PLATFORM.scripts_dir(gateway.state_dir)
    assert len(list(scripts.iterdir())) == 1
    await agent.kill()
    started = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    assert all(process.is_running() for process in started)
    agent.start()
    result = await gateway.result(order.command_id)
    assert (result.outcome, result.detail) == ("interrupted", "the agent was killed while it ran")
    assert gateway.output(result.stdout) == b"before the crash\n"
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in started)
    assert not list(scripts.iterdir())


async def test_agent_started_by_a_script_does_not_end_itself(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """An agent that carries a left-over attempt's marker recovers without ending itself."""
    agent.start()
    order = gateway.order(script("sleep 300"))
    await gateway.deliver(order)
    await gateway.until(lambda: gateway.heard["started"])
    await agent.kill()
    agent.start(env={"FLEETLOG_COMMAND_ID": str(order.command_id), "FLEETLOG_ATTEMPT": "1"})
    assert (await gateway.result(order.command_id)).outcome == "interrupted"


async def test_results_wait_for_the_server(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """A result that nobody acknowledged is repeated, also after a crash, until somebody does."""
    gateway.silent.add("result")
    agent.start()
    order = gateway.order(script("echo kept"))
    await gateway.deliver(order)
    await gateway.result(order.command_id)
    await agent.kill()
    gateway.heard["result"].clear()
    gateway.silent.clear()
    agent.start()
    assert gateway.output((await gateway.result(order.command_id)).stdout) == b"kept\n"


async def test_what_a_set_back_disk_forgot_is_interrupted(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """Set back to before it was accepted, a command is answered for at the hello, and does not run when it comes again.

    What goes on here is left alone; a list that the server has not signed is passed over.
    """
    ran = place / "ran"
    gateway.hello_interval_s = 1.0
    agent.start()
    await gateway.hello()
    await agent.stop()
    shutil.copytree(gateway.state_dir, place / "snapshot")
    lost = gateway.order(script(f"echo run >> {ran}"))
    gateway.heard["hello"].clear()
    agent.start(crash_at="exited")
    await gateway.hello()
    await gateway.client.publish(f"fleet.{gateway.agent_id}.cmd", gateway.delivery(lost), reply="nobody")
    assert await agent.exited() == -signal.SIGKILL
    shutil.rmtree(gateway.state_dir)
    (place / "snapshot").rename(gateway.state_dir)
    gateway.held_key = Ed25519PrivateKey.generate()
    gateway.held = [(lost.command_id, 1)]
    gateway.heard["hello"].clear()
    agent.start()
    going_on = gateway.order(script("sleep 300"))
    await gateway.deliver(going_on)
    gateway.held.append((going_on.command_id, 1))
    await gateway.until(lambda: len(gateway.heard["hello"]) >= 2)
    assert not gateway.heard["result"]
    gateway.held_key = gateway.server_key
    result = await gateway.result(lost.command_id)
    assert result.outcome == "interrupted"
    assert "set back" in result.detail
    assert (await gateway.deliver(lost))[0].status == "accepted"
    after = gateway.order(script("true"), lane="system")
    await gateway.deliver(after)
    await gateway.result(after.command_id)
    assert ran.read_text() == "run\n"
    assert going_on.command_id not in {report.command_id for report in gateway.heard["result"]}


async def test_second_agent_is_refused(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Two agents never share a state directory."""
    agent.start()
    await gateway.hello()
    second = AgentProcess(gateway.state_dir)
    second.start()
    assert await second.exited() != 0
    assert psutil.pid_exists(agent.pid)
    os.kill(agent.pid, 0)
