"""The first machine."""

from playwright.async_api import expect

from command_bus.ids import new_id
from schema.wire import EnrollRequest
from tests.browser.harness import Tab
from tests.browser.machines import come
from tests.rest.gains import ASKS, waits
from tests.rest.harness import Api, Fleet, made


async def test_an_empty_fleet_says_what_to_do_and_turns_green(tab: Tab, api: Api) -> None:
    """From nothing: a client and a site, a line to copy, and the machine that used it."""
    await tab.logged_in()
    page = tab.page
    await page.get_by_role("link", name="Add the first machine").click()
    await page.get_by_label("Client").fill("Acme")
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Make both").click()
    await page.get_by_role("button", name="Make the install line").click()
    line = (await page.locator(".copy code").first.text_content()) or ""
    assert line.startswith(f"fleetlog agent enroll {api.url} flt_")
    await expect(page.get_by_text("No machine has come in by it yet.")).to_be_visible()
    assert await tab.serious_faults() == []

    request = EnrollRequest(
        token=line.split()[-1], public_key=new_id().hex * 2, proof="", hostname="web-07", platform="linux",
        arch="x86_64", agent_version="0.1.0",
    )  # fmt: skip
    enrolled = await api.enrollment().enroll(request)
    await expect(page.get_by_text("enrolled; waiting for its agent to start")).to_be_visible()
    fleet = Fleet(api, api.client(), str(enrolled.client_id), "")
    await come(fleet, str(enrolled.agent_id))
    await expect(page.locator(".notice.ok")).to_contain_text("web-07")
    await expect(page.get_by_role("heading", name="It is here")).to_be_visible()
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await page.get_by_role("link", name="web-07").click()
    await expect(page.get_by_role("heading", name="web-07")).to_be_visible()


async def test_who_may_not_read_the_log_sees_the_machine_come_too(tab: Tab, fleet: Fleet, api: Api) -> None:
    """By the list of machines; and the line says for how many it was made, whatever is typed afterwards."""
    may = ["enrollment.manage", "enrollment.see", "agents.see", "clients.see"]
    await made(fleet.http, "/roles", {"name": "installer", "permissions": may})
    before = await fleet.agent("old-01")
    await tab.logged_in({"role": "installer", "everything": True}, path="/add")
    page = tab.page
    await page.get_by_role("button", name="Make the install line").click()
    line = (await page.locator(".copy code").first.text_content()) or ""
    await page.get_by_label("For how many machines").fill("50")
    await expect(page.get_by_text("good for one machine within 24 hours")).to_be_visible()
    await expect(page.get_by_text("No machine has come in by it yet.")).to_be_visible()
    request = EnrollRequest(
        token=line.split()[4], public_key=new_id().hex * 2, proof="", hostname="web-07", platform="linux",
        arch="x86_64", agent_version="0.1.0",
    )  # fmt: skip
    enrolled = await api.enrollment().enroll(request)
    await expect(page.get_by_text("enrolled; waiting for its agent to start")).to_have_count(1)
    await come(fleet, str(enrolled.agent_id), before)
    await expect(page.locator(".notice.ok")).to_have_count(1)
    await expect(page.locator(".notice.ok")).to_contain_text("web-07")


async def test_a_machine_that_waits_is_let_in_where_its_line_was_made(tab: Tab, fleet: Fleet, api: Api) -> None:
    """It is shown below its own line, no other is, and goes on to be an agent there."""
    other = await made(fleet.http, "/enrollment-tokens", {"site_id": fleet.site_id, **ASKS})
    await waits(api, other["token"], "other-01")
    await tab.logged_in(path="/add")
    page = tab.page
    await page.get_by_label("Ask me before it comes in").check()
    await page.get_by_role("button", name="Make the install line").click()
    token = ((await page.locator(".copy code").first.text_content()) or "").split()[4]
    await waits(api, token, "web-07")
    waiting = page.get_by_role("region", name="Machines that wait for approval")
    await expect(waiting.get_by_role("row", name="web-07")).to_be_visible()
    await expect(waiting.get_by_role("row", name="other-01")).to_have_count(0)
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await waiting.get_by_role("button", name="Approve").click()
    await expect(page.get_by_text("enrolled; waiting for its agent to start")).to_be_visible()
    await expect(waiting).to_have_count(0)
