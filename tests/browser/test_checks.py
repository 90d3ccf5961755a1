"""Checks in the dashboard: made, found by, looked at on a machine, changed, disabled and removed."""

from uuid import UUID

from playwright.async_api import expect

from command_bus.ids import new_id, utc_now
from domain.ids import AgentId, ClientId
from gateways.agents.check_keeper import CheckKeeper
from gateways.agents.check_lists import CheckLists
from gateways.agents.checks import CheckReports, CheckTold
from gateways.agents.keys import load_keys
from projections.check_reads import CheckReader
from schema.checks import CheckReport, CheckValue
from tests.browser.harness import Tab
from tests.rest.harness import Fleet, made


async def test_a_check_is_made_and_what_it_finds_is_seen(  # noqa: PLR0915 - one way through the pages
    tab: Tab, fleet: Fleet, postgres_url: str
) -> None:
    """From its dialog to the machine's page and the fleet, with what it reaches said before it is made."""
    api = fleet.api
    one = await fleet.agent("web-01")
    await fleet.agent("db-01")
    await tab.logged_in(path="/checks")
    page = tab.page
    await expect(page.get_by_role("heading", name="There is no check yet")).to_be_visible()
    await page.get_by_role("button", name="New check").click()
    dialog = page.get_by_role("dialog", name="New check")
    await dialog.get_by_label("Name").fill("Disk")
    await expect(dialog.get_by_role("status")).to_contain_text("On 2 machines now")
    await dialog.get_by_label("On", exact=True).select_option("machines that match")
    await expect(dialog.get_by_text("On no machine yet.")).to_be_visible()
    await dialog.get_by_label("All that match").fill("web")
    await expect(dialog.get_by_role("status")).to_contain_text("On 1 machine now")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Measure it").click()
    row = page.get_by_role("row", name="Disk")
    await expect(row).to_contain_text("warns < 20 %, fails < 10 % free")
    await page.goto(f"/agents/{one}?tab=checks")
    await expect(page.get_by_role("heading", name="No check is for this machine")).to_be_visible()
    check_id = UUID((await fleet.http.get("/checks")).json()["items"][0]["id"])
    await api.waiter.wait(await api.log.head(), ["checks", "agents"], 10)
    await CheckKeeper(api.log, api.pool, CheckReader(api.pool.connection), utc_now, new_id).turn()
    lists = CheckLists(api.log, api.pool, lambda: load_keys(postgres_url).delivery, utc_now, lambda _: None)
    await lists.look()
    agent = AgentId(UUID(one)), ClientId(UUID(fleet.client_id))
    await page.reload()
    await expect(page.get_by_text("has not heard of a change")).to_be_visible()
    await expect(page.get_by_role("row", name="Disk")).to_contain_text("not measured yet")
    told = CheckTold(api.pool, lists)
    measured = CheckValue(check_id=check_id, at=utc_now(), state="failing", value=4.5, detail="/var")
    told.add(agent[0], lists.digest(agent[0]), [measured])
    await told.flush()
    report = CheckReport(number=1, check_id=check_id, revision=1, state="failing", since=utc_now(), value=4.5)
    await CheckReports(api.log, lists, utc_now, new_id).reported(*agent, report)
    await expect(page.get_by_role("row", name="Disk")).to_contain_text("failing")
    await expect(page.get_by_role("row", name="Disk")).to_contain_text("4.5 · /var")
    await expect(page.get_by_role("tab", name="Checks 1")).to_be_visible()
    assert await tab.serious_faults() == []
    await page.get_by_role("tab", name="Timeline").click()
    await expect(page.get_by_text("Check 'Disk' is failing (4.5 )")).to_be_visible()
    await page.goto("/checks")
    await expect(row).to_contain_text("failing 1")
    await row.get_by_role("link", name="Disk", exact=True).click()
    await expect(page.get_by_role("heading", name="Disk", exact=True)).to_be_visible()
    await expect(page.get_by_role("row", name="web-01")).to_contain_text("failing")
    assert await tab.serious_faults() == []
    await page.go_back()
    await row.get_by_role("link", name="failing").click()
    await expect(page.get_by_role("link", name="web-01")).to_be_visible()
    await expect(page.get_by_role("link", name="db-01")).to_have_count(0)
    await expect(page.get_by_role("button", name="with a failing check 1")).to_be_visible()


async def test_a_check_is_changed_disabled_and_removed(tab: Tab, fleet: Fleet) -> None:
    """It stays for whom it was, whatever else of it changes."""
    await fleet.agent("web-01")
    await fleet.agent("db-01")
    target = {"include": {"matching": {"q": "web"}}}
    check = {"name": "Disk", "what": {"kind": "disk", "warning": 20, "error": 10}, "target": target}
    check_id = (await made(fleet.http, "/checks", check))["id"]
    await tab.logged_in(path="/checks")
    page = tab.page
    row = page.get_by_role("row", name="Disk")
    await row.get_by_role("button", name="Change Disk").click()
    dialog = page.get_by_role("dialog", name="Change Disk")
    await dialog.get_by_label("Fails below, % free").fill("3")
    await expect(dialog.get_by_role("status")).to_contain_text("On 1 machine now")
    await dialog.get_by_role("button", name="Change it").click()
    await expect(row).to_contain_text("fails < 3 % free")
    shown = (await fleet.http.get(f"/checks/{check_id}")).json()
    assert shown["target"]["include"]["matching"]["q"] == "web"
    await row.get_by_role("button", name="Disable Disk").click()
    await expect(row).to_contain_text("disabled")
    await row.get_by_role("button", name="Enable Disk").click()
    await expect(row.get_by_role("button", name="Disable Disk")).to_be_visible()
    await row.get_by_role("button", name="Remove").click()
    await row.get_by_role("button", name="Remove: click again").click()
    await expect(page.get_by_role("heading", name="There is no check yet")).to_be_visible()
