"""Commands of the whole fleet."""

from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.rest.harness import Fleet, made


async def test_commands_of_all_machines_are_found_and_opened(tab: Tab, fleet: Fleet) -> None:
    """Each with its machine and state, as it changes; narrowed by state and client; one leads to its story."""
    first, second = [await fleet.agent(name) for name in ("web-01", "web-02")]
    other = await Fleet.make(fleet.api, fleet.http, "Globex")
    elsewhere = await other.agent("db-01")
    await tab.logged_in(path="/commands")
    page = tab.page
    await expect(page.get_by_role("heading", name="Nothing was ever queued")).to_be_visible()
    command_id = await fleet.command(first)
    await fleet.command(second)
    await other.command(elsewhere)
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(3)
    await expect(rows.filter(has_text="web-01")).to_contain_text("queued")
    await fleet.accept(first, command_id)
    await fleet.finish(first, command_id)
    await expect(rows.filter(has_text="web-01")).to_contain_text("succeeded")
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="succeeded").click()
    await expect(rows).to_have_count(1)
    await page.get_by_role("button", name="succeeded").click()
    await page.get_by_label("Client", exact=True).select_option(label="Globex")
    await expect(rows).to_have_count(1)
    await expect(rows.get_by_role("link", name="db-01")).to_have_attribute("href", f"/agents/{elsewhere}")
    await page.get_by_label("Client", exact=True).select_option(label="All clients")
    await page.get_by_label("Queued since").fill("2100-01-01T00:00")
    await expect(page.get_by_role("heading", name="No command is like that")).to_be_visible()
    await page.get_by_label("Queued since").fill("")
    await rows.filter(has_text="web-01").get_by_role("button", name="ping").click()
    dialog = page.get_by_role("dialog", name="Command")
    await dialog.get_by_text("Its story, and why it happened").click()
    story = dialog.get_by_role("list", name="What happened to it")
    await expect(story.get_by_role("listitem").first).to_contain_text("Command queued")
    await expect(story.get_by_role("listitem").last).to_contain_text("Command succeeded")
    await expect(dialog.get_by_text("It goes back to: Command queued")).to_be_visible()
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0


async def test_who_sees_one_client_sees_its_commands_alone(tab: Tab, fleet: Fleet) -> None:
    """Another client's commands are not in the list; machines are called by their names, also without the log."""
    await fleet.command(await fleet.agent("web-01"))
    other = await Fleet.make(fleet.api, fleet.http, "Globex")
    await other.command(await other.agent("db-01"))
    await made(fleet.http, "/roles", {"name": "looker", "permissions": ["commands.see", "agents.see"]})
    await tab.logged_in({"role": "looker", "clients": [fleet.client_id]}, path="/commands")
    rows = tab.page.locator("tbody tr")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("web-01")
