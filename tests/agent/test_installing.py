"""Updates: what is chosen, how each manager is told, what came of each; with a real apt on a Debian of its own."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import installing
from agent.platforms import updating
from schema.patches import HANDS_OFF, MAX_OUTCOMES, InstallWork, PatchReport, UpdateOutcome
from schema.software import Package, SoftwareList, listed, unpack
from tests.agent.apt_root import AptRoot
from tests.agent.scripted import AgentProcess, ScriptedGateway

ONE = "fleetlog-test-one"
TWO = "fleetlog-test-two"
NASTY = ["-o=Dir=/", "--purge", "foo;rm -rf /", "$(reboot)", "a b", "../x", "name=1", "`id`", "%s", "\u202e", "*"]


@pytest.fixture
def debian(tmp_path: Path) -> AptRoot:
    """It has two packages, of which newer ones are offered."""
    root = AptRoot(tmp_path / "debian")
    root.install(root.build(ONE, "1.0", one="theirs\n"))
    root.install(root.build(TWO, "1.0", two="theirs\n"))
    root.offer(root.build(ONE, "1.1", one="newer\n"), root.build(TWO, "2.0", two="newer\n"))
    (root.root / "etc/one").write_text("ours\n")
    return root


def _outcomes(report: PatchReport | None) -> dict[str, str]:
    assert report is not None
    return {one.name: one.outcome for one in report.updates}


# -- a real apt --------------------------------------------------------------------------------------------------------


async def test_what_is_named_is_installed(gateway: ScriptedGateway, agent: AgentProcess, debian: AptRoot) -> None:
    """One update is installed, settings stay, the rest is left; what is not offered is told, and is no error of all.

    What is installed is told at once, and not in an hour.
    """
    agent.start(env={**debian.environment, HANDS_OFF: ""})
    order = gateway.order(InstallWork(names=[ONE, "gone", *NASTY], timeout_s=60), lane="system")
    await gateway.deliver(order)
    result = await gateway.result(order.command_id, timeout_s=60)
    assert result.outcome == "succeeded", gateway.output(result.stdout).decode()
    assert _outcomes(result.patched) == {ONE: "installed", "gone": "absent", **dict.fromkeys(NASTY, "absent")}
    assert result.patched is not None
    assert result.patched.installed == 1
    assert (debian.version(ONE), debian.version(TWO)) == ("1.1", "1.0")
    assert (debian.root / "etc/one").read_text() == "ours\n"
    assert b"Setting up fleetlog-test-one (1.1)" in gateway.output(result.stdout)
    assert "1 installed" in result.detail
    await gateway.until(lambda: gateway.heard["software"], timeout_s=30)
    told = unpack(gateway.heard["software"][-1].packed).packages
    assert {(one.name, one.version, one.update) for one in told} == {(ONE, "1.1", ""), (TWO, "1.0", "2.0")}


async def test_what_is_held_stays(gateway: ScriptedGateway, agent: AgentProcess, debian: AptRoot) -> None:
    """All is installed but what a pattern holds, which is told."""
    agent.start(env={**debian.environment, HANDS_OFF: ""})
    order = gateway.order(InstallWork(held=["fleetlog-*-two"], timeout_s=60), lane="system")
    await gateway.deliver(order)
    result = await gateway.result(order.command_id, timeout_s=60)
    assert _outcomes(result.patched) == {ONE: "installed", TWO: "held"}
    assert (debian.version(ONE), debian.version(TWO)) == ("1.1", "1.0")


async def test_what_fails_is_told(gateway: ScriptedGateway, agent: AgentProcess, debian: AptRoot) -> None:
    """Of two, one cannot be set up: the other is installed, the command has failed, and the manager's words say why."""
    debian.offer(debian.build(TWO, "3.0", script="exit 7", two="newest\n"))
    agent.start(env={**debian.environment, HANDS_OFF: ""})
    order = gateway.order(InstallWork(timeout_s=60), lane="system")
    await gateway.deliver(order)
    result = await gateway.result(order.command_id, timeout_s=60)
    assert result.outcome == "failed"
    assert _outcomes(result.patched) == {ONE: "installed", TWO: "failed"}
    assert result.patched is not None
    assert "error" in result.patched.updates[0].why or "E:" in result.patched.updates[0].why


async def test_killed_while_it_installs(gateway: ScriptedGateway, agent: AgentProcess, debian: AptRoot) -> None:
    """An agent that is killed in the midst of it ends it as interrupted, never begins it again, and looks at once."""
    debian.offer(debian.build(TWO, "3.0", script="sleep 300", two="newest\n"))
    agent.start(env={**debian.environment, HANDS_OFF: ""})
    order = gateway.order(InstallWork(names=[TWO], timeout_s=600), lane="system")
    await gateway.deliver(order)
    await gateway.until(lambda: any(b"Setting up" in piece.data for piece in gateway.live), timeout_s=60)
    gateway.heard["software"].clear()
    await agent.kill()
    agent.start(env={**debian.environment, HANDS_OFF: ""})
    result = await gateway.result(order.command_id, timeout_s=60)
    assert (result.outcome, result.detail) == ("interrupted", "the agent was killed while it ran")
    assert (await gateway.deliver(order))[0].status == "accepted"
    await gateway.until(lambda: gateway.heard["software"], timeout_s=30)
    assert {report.outcome for report in gateway.heard["result"]} == {"interrupted"}


async def test_takes_too_long(gateway: ScriptedGateway, agent: AgentProcess, debian: AptRoot) -> None:
    """What takes longer than it may is ended with all that it began, and what came of each update is told even so."""
    debian.offer(debian.build(TWO, "3.0", script="sleep 300", two="newest\n"))
    agent.start(env={**debian.environment, HANDS_OFF: ""})
    order = gateway.order(InstallWork(names=[TWO], timeout_s=8), lane="system")
    await gateway.deliver(order)
    result = await gateway.result(order.command_id, timeout_s=60)
    assert result.outcome == "timed_out"
    assert _outcomes(result.patched) == {TWO: "failed"}


async def test_hands_off(gateway: ScriptedGateway, agent: AgentProcess, debian: AptRoot) -> None:
    """An agent that is to leave its machine as it is installs nothing."""
    agent.start(env=debian.environment)
    (answer,) = await gateway.deliver(gateway.order(InstallWork(timeout_s=60), lane="system"))
    assert (answer.status, answer.code) == ("rejected", "hands_off")
    assert debian.version(ONE) == "1.0"


# -- what is chosen, and what came of it -------------------------------------------------------------------------------

_names = st.text(string.ascii_lowercase + "-.;$ =*", min_size=1, max_size=6)
_packages = st.lists(
    st.builds(
        Package,
        name=_names,
        version=st.sampled_from(["1", "2"]),
        arch=st.just(""),
        source=st.sampled_from(["dpkg", "rpm"]),
        update=st.sampled_from(["", "3", "4"]),
        security=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.name,
)


@given(_packages, st.lists(_names, max_size=5), st.booleans(), st.lists(_names, max_size=3))
def test_nothing_is_chosen_that_was_not_meant(
    packages: list[Package], names: list[str], security_only: bool, held: list[str]
) -> None:
    """What is chosen is offered, and is named, for security and free of a hold where that matters.

    Each name that was asked for has one outcome.
    """
    work = InstallWork(names=names, security_only=security_only, held=held, timeout_s=1)
    chosen = installing.choose(work, listed(packages, updates_known=True))
    offered = {one.name: one for one in packages if one.update}
    for one in chosen.updates:
        assert offered[one.name].update == one.update
        assert not names or one.name in names
        assert one.security or not security_only
        assert one.name not in held
        assert updating.passable(one)
    told = [one.name for one in chosen.updates] + [one.name for one in chosen.others]
    assert len(told) == len(set(told))
    assert set(names) <= set(told)


@given(st.sampled_from(NASTY))
def test_names_that_no_manager_has(name: str) -> None:
    """What no package manager could have listed as a name is not passed on to one, whoever put it on the list."""
    one = Package(name, "1", "", "dpkg", "2")
    software = SoftwareList([one], updates_known=True)
    assert not updating.passable(one)
    assert not installing.choose(InstallWork(timeout_s=1), software).updates


def test_another_version_than_was_meant() -> None:
    """Where the machine offers another version than the one that was meant, that one is told, and nothing installed."""
    software = SoftwareList([Package("a", "1", "", "dpkg", "3")], updates_known=True)
    chosen = installing.choose(InstallWork(versions={"a": "2"}, timeout_s=1), software)
    assert chosen == installing.Chosen(
        updates=[],
        others=[UpdateOutcome(name="a", version="2", outcome="absent", why="the machine offers 3")],
    )


def test_a_long_list_is_cut() -> None:
    """Of more outcomes than a result holds, those that failed come first, and the rest is counted."""
    packages = [Package(f"p{n:04}", "1", "", "dpkg", "2") for n in range(MAX_OUTCOMES + 50)]
    after = SoftwareList([Package(one.name, "2", "", "dpkg") for one in packages[1:]], updates_known=True)
    report = installing.judge(installing.Chosen(updates=packages, done=True), after)
    assert (len(report.updates), report.more, report.installed) == (MAX_OUTCOMES, 50, MAX_OUTCOMES + 49)
    assert (report.updates[0].name, report.updates[0].outcome) == ("p0000", "failed")


# -- the others, by what they are told and what they print -------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rpm", ["dnf", "--assumeyes", "upgrade", "a-2.x86_64"]),
        ("pacman", ["pacman", "--sync", "--sysupgrade", "--noconfirm", "--ignore", "b"]),
        ("apk", ["apk", "upgrade", "--wait", "600", "--", "a"]),
        ("softwareupdate", ["softwareupdate", "--install", "--verbose"]),
    ],
)
def test_how_each_is_told(source: str, expected: list[str]) -> None:
    """Each manager gets what was chosen and nothing else, as arguments of their own."""
    chosen = Package("a", "1", "x86_64", source, "2")
    other = Package("b", "1", "x86_64", source, "2")
    assert list(updating.installing(source, [chosen], [chosen, other], "")) == expected


def test_windows(tmp_path: Path) -> None:
    """Titles reach Windows Update by a file, never in code; what it says of each is read."""
    title = "2026-11 Cumulative Update'); Restart-Computer; (' (KB1)"
    chosen = Package(title, "", "", "windows_update", "KB1", security=True)
    argv = updating.installing("windows_update", [chosen], [chosen], "powershell")
    assert not any(title in part for part in argv)
    variables = updating.write_chosen(tmp_path / "chosen", [chosen])
    assert json.loads(Path(variables[updating.CHOSEN_VARIABLE]).read_text()) == [title]
    told = [{"Title": title, "Code": 2, "Why": "0x00000000"}, {"Title": "b", "Code": 4, "Why": "0x80240022"}]
    refused = updating.read_windows_results(updating.RESULTS + json.dumps(told))
    assert refused == {title: "", "b": "Windows Update says 0x80240022 (4)"}
    one_more = Package("b", "", "", "windows_update", "KB2")
    ended = installing.Chosen(updates=[chosen, one_more], refused=refused, done=True)
    # One that waits for a restart is still offered: what Windows Update said counts.
    after = SoftwareList([chosen, one_more], updates_known=True)
    assert _outcomes(installing.judge(ended, after)) == {title: "installed", "b": "failed"}


def test_macos() -> None:
    """What is chosen by its title is told to the Mac by its label."""
    printed = (
        "Software Update found the following new or updated software:\n"
        "* Label: macOS Tahoe 26.1-25B78\n\tTitle: macOS Tahoe 26.1, Version: 26.1, Size: 3KiB, Recommended: YES,\n"
        "* Label: Safari26-26\n\tTitle: Safari, Version: 26.0, Size: 100KiB, Recommended: YES,\n"
    )
    assert updating.labels(printed, [Package("Safari", "", "", "softwareupdate", "26.0")]) == ["Safari26-26"]
