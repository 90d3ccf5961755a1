"""Updates and restarts from the command line, on a real API."""

from uuid import UUID

from command_bus.ids import new_id, utc_now
from domain.ids import AgentId, ClientId
from gateways.agents.software import SoftwareReports
from schema import patches
from schema.software import Package, listed, pack
from tests.cli.terminal import Terminal
from tests.rest.harness import Fleet


async def test_what_is_open(terminal: Terminal, fleet: Fleet) -> None:
    """For security first; where nothing is open, it says so."""
    agent_id = await fleet.agent("web-07")
    offered = [Package("a", "1", "", "dpkg", "2"), Package("z", "1", "", "dpkg", "3", security=True)]
    reports = SoftwareReports(fleet.api.log, fleet.api.pool, utc_now, new_id)
    told = pack(listed(offered, updates_known=True))
    await reports.reported(AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id)), told)
    assert [one["name"] for one in await terminal.json("patches", "list", "web-07")] == ["z", "a"]
    assert "3 (security)" in await terminal.ok("patches", "list", "web-07")


async def test_install_reboot_and_what_came_of_them(terminal: Terminal, fleet: Fleet) -> None:
    """What is typed is what is asked for, and the history has a line for each update."""
    agent_id = await fleet.agent("web-07")
    options = ("nginx=1.24", "vim", "--reboot", "--delay", "10m", "--timeout", "30m", "--reason", "CVE", "--queue")
    command_id = (await terminal.json("patches", "install", "web-07", *options, "--hold", "linux-*"))["id"]
    asked = (await fleet.http.get(f"/commands/{command_id}")).json()
    assert (asked["lane"], asked["reason"]) == ("system", "CVE")
    assert asked["spec"] == {
        "kind": "install_updates",
        "names": ["nginx", "vim"],
        "versions": {"nginx": "1.24"},
        "held": ["linux-*"],
        "reboot": "if_needed",
        "reboot_delay_s": 600,
        "timeout_s": 1800,
    }
    updates = [
        patches.UpdateOutcome(name="nginx", version="1.24", outcome="absent", why="the machine offers 1.26"),
        patches.UpdateOutcome(name="vim", version="9.1", outcome="installed"),
    ]
    await fleet.finish(agent_id, command_id, patched=patches.PatchReport(updates=updates, installed=1))
    await terminal.ok("patches", "reboot", "web-07", "--delay", "5m", "--notice", "Back soon.", "--queue")
    shown = await terminal.ok("patches", "history", "--agent", "web-07")
    assert "absent: the machine offers 1.26" in shown
    rows = await terminal.json("patches", "history")
    assert [(row["what"], row["came_to"]) for row in rows] == [
        ("reboot", ""),
        ("nginx 1.24", "absent: the machine offers 1.26"),
        ("vim 9.1", "installed"),
    ]
