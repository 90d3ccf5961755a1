"""Checks on a real agent process: whose list it takes, what it measures, and what it tells, whatever is killed."""

import asyncio
import shutil
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import measuring
from agent.platforms import PLATFORM, services
from schema import checks, wire
from schema.checks import CheckReport, ChecksChanged, GivenCheck
from tests.agent.scripted import AgentProcess, ScriptedGateway, script

NEVER = checks.encode({"kind": "a newer kind"})


def check(what: Any, **more: Any) -> GivenCheck:
    packed = what if isinstance(what, bytes) else checks.encode(what)
    return GivenCheck(**{"check_id": uuid4(), "revision": 1, "name": "c", "interval_s": 1, "what": packed} | more)


def runs(body: str, **more: Any) -> checks.ScriptMeasure:
    work = script(body, timeout_s=more.pop("timeout_s", 30))
    return checks.ScriptMeasure(**{"work": wire.encode(work), "otherwise": "failing"} | more)


def said(gateway: ScriptedGateway, check_id: UUID) -> list[CheckReport]:
    return [one for one in gateway.heard["check"] if one.check_id == check_id]


async def report(gateway: ScriptedGateway, one: GivenCheck, state: str) -> CheckReport:
    """Wait until a check is reported to be in a state."""
    await gateway.until(lambda: [told for told in said(gateway, one.check_id) if told.state == state])
    return next(told for told in said(gateway, one.check_id) if told.state == state)


async def test_this_machine_is_measured(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Disk, processor, memory, a script and a port: each is told once, with its value, and goes on being measured."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        disk = check(checks.DiskMeasure(path="/", error=0.001))
        full = check(checks.DiskMeasure(path="/", warning=99.999))
        missing = check(checks.DiskMeasure(path="/no/such/place", error=1.0))
        memory = check(checks.LoadMeasure(of="memory", error=0.001, samples=3))
        processor = check(checks.LoadMeasure(of="cpu", error=99.999))
        script_check = check(runs("echo all is well; exit 7", warning_codes=[7]))
        slow = check(runs("sleep 60", timeout_s=1, otherwise="info"))
        there = check(checks.ReachMeasure(host="127.0.0.1", port=port, timeout_s=5, otherwise="failing"))
        away = check(checks.ReachMeasure(host="127.0.0.1", port=1, timeout_s=5, otherwise="warning"))
        newer = check(NEVER)
        gateway.give(disk, full, missing, memory, processor, script_check, slow, there, away, newer)
        agent.start()
        free = await report(gateway, disk, "passing")
        assert free.value == pytest.approx(100 - psutil.disk_usage("/").percent, abs=5)
        assert (free.unit, free.detail) == ("% free", "/")
        await report(gateway, full, "warning")
        assert (await report(gateway, missing, "unknown")).detail.startswith("/no/such/place: ")
        assert (await report(gateway, memory, "failing")).unit == "% used"
        # How busy the machine is, is its own affair.
        await gateway.until(lambda: said(gateway, processor.check_id))
        busy = said(gateway, processor.check_id)[0]
        assert busy.value is not None
        assert busy.state == ("failing" if busy.value > 99.999 else "passing")
        told = await report(gateway, script_check, "warning")
        assert (told.value, told.detail) == (7.0, "all is well")
        assert (await report(gateway, slow, "info")).detail == "ran longer than 1 s"
        assert (await report(gateway, there, "passing")).unit == "ms"
        await report(gateway, away, "warning")
        assert "update it" in (await report(gateway, newer, "unknown")).detail
    # The port is gone now; what else there is stays as it was, and is not said again.
    await report(gateway, there, "failing")
    assert [len(said(gateway, one.check_id)) for one in (disk, full, script_check)] == [1, 1, 1]
    await gateway.client.publish(wire.command_subject(gateway.agent_id), wire.encode(ChecksChanged()))
    await gateway.until(lambda: gateway.heard["hello"][-1].check_values)
    values = {one.check_id: one for one in gateway.heard["hello"][-1].check_values}
    assert values[script_check.check_id].state == "warning"
    assert gateway.heard["hello"][-1].checks == checks.decode_list(gateway.checks.body).digest  # type: ignore[union-attr]


async def test_no_list_but_the_servers_latest_is_taken(gateway: ScriptedGateway, agent: AgentProcess) -> None:
    """Not one that another signed, not another agent's, not an older one said again; each such is told of."""
    good, evil = check(runs("exit 0")), check(runs("exit 9"))
    gateway.hello_interval_s = 1.0
    gateway.list_key = Ed25519PrivateKey.generate()
    gateway.give(evil)
    agent.start()
    await gateway.until(lambda: gateway.heard["refusal"])
    gateway.list_key = gateway.server_key
    gateway.give(evil, agent_id=uuid4())
    await gateway.until(lambda: [one for one in gateway.heard["refusal"] if one.code == "wrong_agent"])
    old = gateway.give(evil, made_at=datetime.now(UTC) - timedelta(hours=1))
    gateway.give(good)
    await report(gateway, good, "passing")
    gateway.checks = old
    await gateway.until(lambda: [one for one in gateway.heard["refusal"] if one.code == "replayed"])
    assert {(one.what, one.code) for one in gateway.heard["refusal"]} == {
        ("checks", "bad_signature"),
        ("checks", "wrong_agent"),
        ("checks", "replayed"),
    }
    assert not said(gateway, evil.check_id)


async def test_measuring_goes_on_alone_and_a_start_tells_nothing_anew(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """While nobody answers, changes wait on disk in their order; a restart forgets none, and repeats none."""
    flag, count = place / "flag", place / "count"
    one = check(runs(f"echo x >> {count}; test ! -e {flag}"))
    gateway.give(one)
    agent.start()
    await report(gateway, one, "passing")
    gateway.silent.add("check")
    flag.touch()
    await report(gateway, one, "failing")
    await agent.kill()
    flag.unlink()
    gateway.heard["check"].clear()
    gateway.silent.add("hello")
    measured = len(count.read_text().split())
    agent.start()
    async with asyncio.timeout(20):
        while len(count.read_text().split()) < measured + 3:  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.05)
    gateway.silent.clear()
    await report(gateway, one, "passing")
    told = said(gateway, one.check_id)
    # What was not answered was said again, word for word, and nothing else between.
    assert [each.state for each in dict.fromkeys(told)] == ["failing", "passing"]
    assert told[0].since < told[-1].since
    await agent.stop()
    gateway.heard["check"].clear()
    measured = len(count.read_text().split())
    agent.start()
    async with asyncio.timeout(20):
        while len(count.read_text().split()) < measured + 3:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
    # At the most what it was not known to have been heard.
    assert set(said(gateway, one.check_id)) <= {told[-1]}


async def test_killed_before_it_knows_that_it_was_heard_it_says_the_same_again(
    gateway: ScriptedGateway, agent: AgentProcess
) -> None:
    """Under the same number, so that the server knows it."""
    one = check(runs("exit 1"))
    gateway.give(one)
    agent.start(crash_at="check_sent")
    assert await agent.exited() == -signal.SIGKILL
    agent.start()
    await gateway.until(lambda: len(said(gateway, one.check_id)) >= 2)
    first, second = said(gateway, one.check_id)[:2]
    assert first == second


async def test_what_counts_is_so_many_in_a_row_and_another_definition_begins_anew(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """Two bad ones do not fail a check that takes three; the same check measured otherwise says what it finds then."""
    count = place / "count"
    one = check(runs(f"echo x >> {count}; test $(wc -l < {count}) -eq 3"), failures=3)
    gateway.hello_interval_s = 1.0
    gateway.give(one)
    agent.start()
    failing = await report(gateway, one, "failing")
    # The third one passed, and so the row began after it.
    assert [told.state for told in said(gateway, one.check_id)] == ["passing", "failing"]
    assert len(count.read_text().split()) >= 6
    assert failing.since > said(gateway, one.check_id)[0].since
    gateway.give(
        GivenCheck(check_id=one.check_id, revision=2, name="c", interval_s=1, what=checks.encode(runs("exit 0")))
    )
    await gateway.until(lambda: said(gateway, one.check_id)[-1].revision == 2)
    assert said(gateway, one.check_id)[-1].state == "passing"


async def test_a_check_that_is_taken_away_is_not_run(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """Neither is what runs of it let finish, nor what it found told once it is gone."""
    ran = place / "ran"
    one, other = check(runs(f"touch {ran}; sleep 300.25; exit 1", timeout_s=600)), check(runs("exit 0"))
    gateway.hello_interval_s = 1.0
    gateway.give(one)
    agent.start()
    async with asyncio.timeout(20):
        while not ran.exists():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.05)
    gateway.give(other)
    await report(gateway, other, "passing")
    assert not [
        each for each in psutil.process_iter(["cmdline"]) if "sleep 300.25" in " ".join(each.info["cmdline"] or ())
    ]
    assert not said(gateway, one.check_id)


async def test_what_a_script_left_running_is_ended_after_a_crash(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """By its marker: nobody noted its process."""
    ran = place / "pid"
    one = check(runs(f"echo $$ > {ran}.new; mv {ran}.new {ran}; exec sleep 600", timeout_s=600), interval_s=3600)
    gateway.give(one)
    agent.start()
    async with asyncio.timeout(20):
        while not ran.exists():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.05)
    process = psutil.Process(int(ran.read_text()))
    await agent.kill()
    assert process.is_running()
    agent.start()
    assert await asyncio.to_thread(process.wait, 15) is None or not process.is_running()


async def test_a_check_that_flaps_is_told_so_and_then_let_be(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """Of six changes the last says that it changes often; no seventh is told."""
    count = place / "count"
    one = check(runs(f"echo x >> {count}; exit $(($(wc -l < {count}) % 2))"))
    gateway.give(one)
    agent.start()
    async with asyncio.timeout(40):
        while not count.exists() or len(count.read_text().split()) < 10:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
    told = said(gateway, one.check_id)
    assert len(told) == 6
    assert ["changes often" in each.detail for each in told] == [False] * 5 + [True]


def test_services_are_understood() -> None:
    """What systemd, launchd and Windows print of one that runs, one that does not, and one that is not there."""
    run = "LoadState=loaded\nActiveState=active\nSubState=running\n"
    assert services.read_systemd(run) == (True, "active (running)")
    assert services.read_systemd(run.replace("active", "failed").replace("running", "failed")) == (
        False,
        "failed (failed)",
    )
    assert services.read_systemd("LoadState=not-found\nActiveState=inactive\n") == (False, services.NO_SUCH)
    assert services.read_systemd("")[0] is None
    assert services.read_launchd("com.x = {\n\tstate = running\n}") == (True, "running")
    assert services.read_launchd("\tstate = not running\n") == (False, "not running")
    assert services.read_launchd("Could not find service") == (False, services.NO_SUCH)
    assert services.read_windows("SERVICE_NAME: x\n        STATE              : 4  RUNNING \n") == (True, "running")
    assert services.read_windows("        STATE              : 1  STOPPED \n") == (False, "stopped")
    assert services.read_windows("[SC] EnumQueryServicesStatus:OpenService FAILED 1060") == (False, services.NO_SUCH)


def test_a_machine_without_systemd_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """That nobody can say whether a service runs is not that it does not."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert PLATFORM.service_runs("x") == (None, "this machine has no systemctl")
    found = measuring.service(checks.ServiceMeasure(service="x", otherwise="failing"))
    assert (found.state, found.detail) == ("unknown", "this machine has no systemctl")
    host = checks.ReachMeasure(host="127.0.0.1", timeout_s=1, otherwise="failing")
    assert measuring.reach(host).detail == "this machine has no ping program"


@pytest.mark.skipif(shutil.which("ping") is None, reason="no ping program")
def test_a_host_is_pinged() -> None:
    """By the system's own program: one that is there, and a name that there is not."""
    assert measuring.reach(checks.ReachMeasure(host="127.0.0.1", timeout_s=5, otherwise="failing")).state == "passing"
    nobody = measuring.reach(checks.ReachMeasure(host="no-such-host.invalid", timeout_s=5, otherwise="warning"))
    assert (nobody.state, nobody.detail.startswith("no-such-host.invalid: ")) == ("warning", True)
