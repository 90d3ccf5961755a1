"""A machine's updates: what is open is shown and installed, the machine is restarted, and what came of it is told."""

from uuid import UUID

from playwright.async_api import expect

from command_bus.handlers.presence import PresenceHandler
from command_bus.ids import new_id, utc_now
from domain.ids import AgentId, ClientId
from gateways.agents.software import SoftwareReports
from schema import patches
from schema.software import pack
from tests.browser.harness import Tab
from tests.browser.test_software import INSTALLED
from tests.rest.harness import Fleet


async def test_updates_are_chosen_installed_and_told(tab: Tab, fleet: Fleet) -> None:
    """Security first; chosen ones are installed with a restart after, and the outcome of each is there to be read."""
    agent_id = await fleet.agent("web-01")
    await tab.logged_in(path=f"/agents/{agent_id}?tab=patches")
    page = tab.page
    await expect(page.get_by_text("has not said what could be updated")).to_be_visible()
    client = ClientId(UUID(fleet.client_id))
    reports = SoftwareReports(fleet.api.log, fleet.api.pool, utc_now, new_id)
    await reports.reported(AgentId(UUID(agent_id)), client, pack(INSTALLED))
    open_updates = page.get_by_role("group", name="Open updates").get_by_role("row")
    await expect(open_updates).to_have_count(3)
    await expect(open_updates.nth(1)).to_contain_text("nginx security")
    await expect(page.get_by_text("2 open, 1 of them for security")).to_be_visible()
    await page.get_by_label("vim").check()
    await page.get_by_role("button", name="Install 1 chosen…").click()
    dialog = page.get_by_role("dialog", name="Install updates on web-01")
    await expect(dialog).to_contain_text("it begins when it is back")
    await dialog.get_by_label("After it").select_option("if_needed")
    await dialog.get_by_label("Minutes before it restarts").fill("2")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Install").click()
    history = page.get_by_role("group", name="Installed and restarted")
    await expect(history).to_contain_text("install updates: vim")
    (command,) = (await fleet.http.get("/commands", params={"patches": "true"})).json()["items"]
    assert command["spec"] == {
        "kind": "install_updates", "names": ["vim"], "reboot": "if_needed", "reboot_delay_s": 120,
    }  # fmt: skip
    told = patches.UpdateOutcome(name="vim", version="9.1", outcome="failed", why="E: no space")
    await fleet.finish(agent_id, command["id"], "failed", patched=patches.PatchReport(updates=[told]))
    await expect(history).to_contain_text("vim 9.1 failed: E: no space")
    presence = PresenceHandler(fleet.api.log, new_id)
    await presence.facts(AgentId(UUID(agent_id)), client, {"hostname": "web-01", "reboot_needed": True})
    await expect(page.get_by_text("This machine waits to be restarted")).to_be_visible()
    await page.get_by_role("button", name="Restart…").click()
    dialog = page.get_by_role("dialog", name="Restart web-01")
    await dialog.get_by_label("What they are told").fill("Back in five.")
    await dialog.get_by_role("button", name="Restart").click()
    await expect(history).to_contain_text("restart the machine")
    await page.goto("/?f=reboot%3Aneeded")
    await expect(page.get_by_role("link", name="web-01")).to_be_visible()
