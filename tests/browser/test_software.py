"""What is installed on a machine, and machines by what is installed on them."""

from uuid import UUID

from playwright.async_api import expect

from command_bus.ids import new_id, utc_now
from domain.ids import AgentId, ClientId
from gateways.agents.software import SoftwareReports
from schema.software import Package, listed, pack
from tests.browser.harness import Tab
from tests.rest.harness import Fleet

INSTALLED = listed(
    [
        Package("bash", "5.1", "amd64", "dpkg"),
        Package("nginx", "1.22", "amd64", "dpkg", "1.24", security=True),
        Package("vim", "9.0", "amd64", "dpkg", "9.1"),
    ],
    updates_known=True,
)


async def test_software_is_listed_narrowed_and_found_by(tab: Tab, fleet: Fleet) -> None:
    """Empty at first; then, as it is told, all of it, a part of a name, what could be updated, and who has it."""
    agent_id = await fleet.agent("web-01")
    await fleet.agent("db-01")
    await tab.logged_in(path=f"/agents/{agent_id}?tab=software")
    page = tab.page
    await expect(page.get_by_role("heading", name="It has not told yet")).to_be_visible()
    reports = SoftwareReports(fleet.api.log, fleet.api.pool, utc_now, new_id)
    await reports.reported(AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id)), pack(INSTALLED))
    rows = page.get_by_role("table").get_by_role("row")
    await expect(rows).to_have_count(4)
    await expect(page.get_by_text("3 installed; 2 could be updated, 1 of them for security")).to_be_visible()
    await expect(page.get_by_role("tab", name="Patches 2")).to_be_visible()
    await expect(rows.nth(2)).to_contain_text("1.24 security")
    await page.get_by_label("Only what could be updated").check()
    await expect(rows).to_have_count(3)
    await page.get_by_label("Part of a name").fill("ngi")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Part of a name").fill("no such thing")
    await expect(page.get_by_role("heading", name="Nothing fits")).to_be_visible()
    assert await tab.serious_faults() == []
    await page.goto("/?f=software%3ANGINX+security%3A%3E0")
    await expect(page.get_by_role("link", name="web-01")).to_be_visible()
    await expect(page.get_by_role("link", name="db-01")).to_have_count(0)
