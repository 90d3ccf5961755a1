"""Several people at once, and people who may do less."""

from playwright.async_api import Browser, expect

from tests.browser.harness import Tab
from tests.rest.harness import Api, Fleet, made


async def test_two_people_see_what_the_other_does(tab: Tab, browser: Browser, api: Api, fleet: Fleet) -> None:
    """A rollout that one begins and pauses, and a script that one adds, show to the other, who touches nothing."""
    for name in ("web-01", "web-02"):
        await fleet.agent(name)
    other = await Tab.open(browser, api)
    try:
        await other.logged_in(name="Bob", path="/rollouts")
        await expect(other.page.get_by_role("heading", name="There is no rollout yet")).to_be_visible()
        await tab.logged_in()
        page = tab.page
        for name in ("web-01", "web-02"):
            await page.get_by_label(f"Select {name}").click()
        await page.get_by_role("button", name="Run").click()
        await page.get_by_label("Line", exact=True).fill("uptime")
        await page.get_by_role("button", name="Queue for 2").click()
        row = other.page.get_by_role("row", name="uptime")
        await expect(row).to_contain_text("running")
        await row.get_by_role("link", name="uptime").click()
        await expect(other.page.get_by_role("button", name="Pause")).to_be_visible()
        await page.get_by_role("button", name="Pause").click()
        await expect(other.page.get_by_role("button", name="Resume")).to_be_visible()
        await other.page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await page.goto("/scripts")
        await expect(page.get_by_role("heading", name="There is no script yet")).to_be_visible()
        person_two = api.client()
        await made(person_two, "/scripts", {"name": "backup", "content": {"shell": "sh", "body": "true"}})
        await expect(page.get_by_role("link", name="backup")).to_be_visible()
        assert other.complaints == []
    finally:
        await other.close()


async def test_a_change_while_the_connection_was_lost_is_caught_up_with(tab: Tab, fleet: Fleet) -> None:
    """What was begun meanwhile shows once the server can be reached again, by itself."""
    await fleet.agent("web-01")
    await tab.logged_in(path="/rollouts")
    page = tab.page
    await expect(page.get_by_role("heading", name="There is no rollout yet")).to_be_visible()
    await page.context.set_offline(True)
    await page.get_by_role("button", name="paused").click()
    await expect(page.get_by_text("what you see is from before")).to_be_visible()
    body = {"name": "Nightly", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    await made(fleet.http, "/rollouts", body)
    await page.get_by_role("button", name="paused").click()
    await page.context.set_offline(False)
    await expect(page.get_by_role("row", name="Nightly")).to_be_visible()
    await expect(page.get_by_text("what you see is from before")).to_be_hidden()


async def test_each_page_bears_somebody_who_may_do_little(tab: Tab, api: Api, fleet: Fleet) -> None:
    """Who may see one client's machines is led to these alone, and no page breaks, whatever address is typed."""
    agent_id = await fleet.agent("web-01")
    other = await Fleet.make(api, fleet.http, "Globex")
    hidden = await other.agent("db-99")
    await made(fleet.http, "/roles", {"name": "looker", "permissions": ["agents.see"]})
    await tab.logged_in({"role": "looker", "clients": [fleet.client_id]})
    page = tab.page
    await expect(page.get_by_role("link", name="web-01")).to_be_visible()
    await expect(page.get_by_text("db-99")).to_have_count(0)
    entries = page.get_by_role("navigation", name="Main").get_by_role("list").get_by_role("link")
    await expect(entries).to_have_text(["▤Fleet"])
    await page.goto(f"/agents/{agent_id}")
    await expect(page.get_by_role("heading", name="web-01")).to_be_visible()
    await expect(page.get_by_role("button", name="Run")).to_have_count(0)
    assert await tab.serious_faults() == []
    await page.goto("/account")
    await expect(page.get_by_role("region", name="Sessions").get_by_role("row", name="this one")).to_be_visible()
    for path in (f"/agents/{hidden}", "/rollouts", "/scripts", "/scripts/new", "/activity", "/approvals", "/add"):
        await page.goto(path)
        await expect(page.get_by_role("main").get_by_role("heading").first).to_be_visible()
        await expect(page.get_by_text("db-99")).to_have_count(0)
        assert await tab.serious_faults() == []
    await page.goto("/admin/health")
    await expect(page.get_by_text("There is no such page")).to_be_visible()
