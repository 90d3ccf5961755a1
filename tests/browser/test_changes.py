"""What changed between two moments."""

from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.rest.harness import Fleet


async def test_what_is_not_as_it_was_is_shown_thing_by_thing(tab: Tab, fleet: Fleet) -> None:
    """Before and after, side by side; narrowed to a kind and to a machine; what went to and fro is no change."""
    agent_id = await fleet.agent("web-01")
    other_id = await fleet.agent("web-02")
    before = await fleet.api.log.head()
    for name in ("web-99", "web-01", "front"):
        await fleet.http.put(f"/agents/{agent_id}/name", json={"name": name})
    for name in ("back", "web-02"):
        await fleet.http.put(f"/agents/{other_id}/name", json={"name": name})
    await fleet.http.post("/clients", json={"name": "Globex"})
    await tab.logged_in(path="/activity")
    page = tab.page
    await page.get_by_role("link", name="What changed").click()
    await expect(page.get_by_role("heading", name="Between when and when?")).to_be_visible()
    await page.get_by_label("Earlier").fill(str(before))
    await page.get_by_role("button", name="Show").click()
    front = page.get_by_role("region", name="front")
    row = front.get_by_role("row", name="name")
    await expect(row.get_by_role("cell").nth(0)).to_have_text("web-01")
    await expect(row.get_by_role("cell").nth(1)).to_have_text("front")
    await expect(front).to_contain_text("3 events")
    await expect(page.get_by_role("region", name="Globex")).to_contain_text("new")
    await expect(page.get_by_role("region", name="web-02")).to_have_count(0)
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="clients").click()
    await expect(front).to_have_count(0)
    await expect(page.get_by_role("region", name="Globex")).to_be_visible()
    await page.get_by_role("button", name="clients").click()
    await page.get_by_label("Of machine").fill("front")
    await page.get_by_role("main").get_by_role("button", name="front").click()
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("region", name="Globex")).to_have_count(0)
    await expect(front).to_be_visible()
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await page.get_by_label("Earlier").fill("when the moon was full")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("alert")).to_be_visible()
