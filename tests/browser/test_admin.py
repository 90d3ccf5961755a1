"""Admin: how Fleetlog itself fares, and who may do what in it."""

from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.rest.harness import Api, Fleet

WIDTH, HEIGHT = 360, 740


async def test_what_is_down_is_named_first(tab: Tab, fleet: Fleet) -> None:
    """Every server, role and projection, with what is down in words at the top; it keeps looking by itself."""
    agent_id = await fleet.agent()
    await fleet.command(agent_id)
    await tab.logged_in()
    page = tab.page
    await page.get_by_role("link", name="Admin").click()
    await expect(page.get_by_role("link", name="System health")).to_have_attribute("aria-current", "page")
    servers = page.get_by_role("region", name="Servers")
    await expect(servers.get_by_role("row", name="Postgres")).to_contain_text("up")
    await expect(servers.get_by_role("row", name="NATS")).to_contain_text("down")
    await expect(page.get_by_text("things are not well")).to_be_visible()
    await expect(page.get_by_role("region", name="Processes").get_by_role("row", name="gateway")).to_contain_text(
        "missing"
    )
    projections = page.get_by_role("region", name="Projections")
    await expect(projections.get_by_role("row", name="agents")).to_contain_text("running")
    pending = page.get_by_role("region", name="Pending commands").get_by_role("cell").first
    await expect(pending).to_have_text("1")
    await fleet.command(agent_id)
    await expect(pending).to_have_text("2")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0


async def test_who_sees_one_client_does_not_see_the_platform(tab: Tab, fleet: Fleet) -> None:
    """What belongs to no client is not offered to whom the server would refuse it."""
    await tab.logged_in({"role": "read-only", "clients": [fleet.client_id]}, path="/admin/health")
    await expect(tab.page.get_by_text("There is no such page")).to_be_visible()


async def test_who_may_see_no_part_of_it_is_not_led_there(tab: Tab, api: Api) -> None:
    """The navigation leaves out what would be refused."""
    http = api.client()
    await http.post("/roles", json={"name": "looker", "permissions": ["agents.see"]})
    await tab.logged_in({"role": "looker", "everything": True})
    await expect(tab.page.get_by_role("link", name="Fleet", exact=True)).to_be_visible()
    await expect(tab.page.get_by_role("link", name="Admin")).to_have_count(0)
