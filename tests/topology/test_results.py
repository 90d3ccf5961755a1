"""What an agent did reaches the log once, whatever is killed in between, in any order (invariants 3 and 6)."""

import shutil
import signal

import pytest

from tests.topology.harness import Machine, Platform

pytestmark = pytest.mark.serial


@pytest.fixture
def machine(machines: list[Machine]) -> Machine:
    return machines[0]


def test_an_agent_is_killed_in_the_middle_of_a_script(platform: Platform, machine: Machine) -> None:
    """The outcome is `interrupted`, said once; the script is not run again, and the machine goes on with what waits."""
    cut = machine.shell(f"echo begun >> {platform.effects}/cut; sleep 60; echo finished >> {platform.effects}/cut")
    after = machine.shell(f"echo after >> {platform.effects}/cut")
    platform.until(lambda: platform.effect("cut") == ["begun"], "the script to run")
    machine.kill()
    machine.start()
    platform.ended_once(cut, "interrupted")
    platform.ended_once(after)
    assert platform.effect("cut") == ["begun", "after"]


@pytest.mark.embedded
def test_everything_between_a_result_and_the_log_is_killed(platform: Platform, machine: Machine) -> None:
    """A result made while the gateway, NATS and Postgres are down survives the agent's death, and is recorded once."""
    going = platform.folder / "going-on"
    command = machine.shell(
        f"echo run >> {platform.effects}/kept; while [ ! -e {going} ]; do sleep 0.05; done; echo the result"
    )
    platform.until(lambda: platform.effect("kept") == ["run"], "the script to run")
    with platform.looking_away():
        for process in (platform.role("gateway"), platform.server("nats"), platform.server("postgres")):
            process.kill()
        going.touch()
        platform.until(lambda: machine.results_to_send() == 1, "the result to be on the machine's disk")
        machine.kill()
    machine.start(wait=False)
    platform.until_healthy()
    platform.ended_once(command)
    assert platform.effect("kept") == ["run"]
    assert platform.ended(command)["result"]["stdout"]["tail"] == "the result\n"
    platform.until(lambda: machine.results_to_send() == 0, "the result to be acknowledged")


@pytest.mark.parametrize("step", ["ended", "sent"])
def test_an_agent_dies_between_its_result_and_the_answer(platform: Platform, machine: Machine, step: str) -> None:
    """Killed before its result was sent, or before it was acknowledged: the result is in the log once."""
    machine.kill()
    machine.start(crash_at=step)
    command = machine.shell(f"echo run >> {platform.effects}/{step}")
    assert machine.exited() == -signal.SIGKILL
    machine.start()
    platform.ended_once(command)
    assert platform.effect(step) == ["run"]


def test_a_machine_is_set_back_to_a_snapshot(platform: Platform, machine: Machine) -> None:
    """What it had accepted since is lost with its disk: it ends as `interrupted`, or is tried again where it may be."""
    machine.kill()
    snapshot = platform.folder / "snapshot"
    shutil.copytree(machine.state_dir, snapshot)
    machine.start(crash_at="exited")
    going = platform.folder / "going-back"
    line = f"echo run >> {platform.effects}/set-back; while [ ! -e {going} ]; do sleep 0.05; done"
    lost = machine.shell(line)
    again = machine.shell(line, retry={"max_attempts": 2, "on": ["interrupted"], "backoff_s": 0})
    platform.until(lambda: platform.effect("set-back") == ["run"], "the first script to run")
    platform.until(lambda: platform.api.get(f"/commands/{again}")["state"] == "delivered", "the second to be accepted")
    going.touch()
    assert machine.exited() == -signal.SIGKILL
    shutil.rmtree(machine.state_dir)
    snapshot.rename(machine.state_dir)
    machine.start()
    platform.ended_once(lost, "interrupted")
    assert "set back" in platform.ended(lost)["result"]["detail"]
    platform.ended_once(again)
    assert platform.ended(again)["attempt"] == 2
    assert platform.effect("set-back") == ["run", "run"]
