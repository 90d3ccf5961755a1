"""The log, as it grows."""

import re

from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.rest.harness import Fleet


async def test_what_happens_shows_as_it_happens_and_why_it_did(tab: Tab, fleet: Fleet) -> None:
    """New lines come by themselves, by kind; each leads to its story and to where it began; holding keeps still."""
    agent_id = await fleet.agent("web-01")
    await tab.logged_in(path="/activity?kind=commands")
    page = tab.page
    story = page.locator(".event")
    await expect(page.get_by_role("heading", name="Nothing of that kind has happened")).to_be_visible()
    command_id = await fleet.command(agent_id)
    await expect(story).to_have_count(1)
    await expect(story.first.get_by_role("link", name="web-01")).to_have_attribute("href", f"/agents/{agent_id}")
    await fleet.http.put(f"/agents/{agent_id}/name", json={"name": "other"})
    await fleet.accept(agent_id, command_id)
    await fleet.finish(agent_id, command_id)
    await expect(story.first).to_contain_text("Command succeeded")
    await expect(page.get_by_text("renamed")).to_have_count(0)
    assert await tab.serious_faults() == []
    await story.first.get_by_role("button", name="The event itself").click()
    await page.get_by_role("link", name="Why it happened").click()
    await expect(page.get_by_text("Command queued: ping.")).to_be_visible()
    await expect(page.get_by_text("was begun by")).to_be_visible()
    assert await tab.serious_faults() == []
    await page.get_by_role("link", name="All of this story").click()
    await expect(page).to_have_url(re.compile("story="))
    await expect(story.last).to_contain_text("Command queued")
    await page.get_by_role("button", name="Hold").click()
    count = await story.count()
    await fleet.command(agent_id)
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    assert await story.count() == count
