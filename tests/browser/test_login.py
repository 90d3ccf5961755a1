"""Logging in, being logged out, and a server that goes away."""

import asyncio

import pyotp
from playwright.async_api import expect

from tests.browser.harness import ADMINISTRATOR, Tab
from tests.rest.harness import Fleet
from tests.rest.people import FIRST, SECOND, Person


async def test_a_first_login_ends_with_everything_in_order(tab: Tab) -> None:
    """A given password, one's own, a second factor, recovery codes; and then the fleet."""
    person = await Person.add(tab.api, "Ada", ADMINISTRATOR)
    page = tab.page
    await page.goto("/")
    await page.get_by_label("Name").fill("Ada")
    await page.get_by_label("Password").fill("not the one at all")
    await page.get_by_role("button", name="Log in", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("login_refused")
    assert await tab.serious_faults() == []

    await page.get_by_label("Password").fill(FIRST)
    await page.get_by_role("button", name="Log in", exact=True).click()
    await page.get_by_label("The password you were given").fill(FIRST)
    await page.get_by_label("New password", exact=True).fill(SECOND)
    await page.get_by_label("New password, once more").fill(SECOND + "?")
    await expect(page.get_by_text("The two differ.")).to_be_visible()
    await expect(page.get_by_role("button", name="Change password")).to_be_disabled()
    await page.get_by_label("New password, once more").fill(SECOND)
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Change password").click()

    await expect(page.get_by_alt_text("QR code of your second factor")).to_be_visible()
    shown = await page.evaluate("document.querySelector('img.qr').naturalWidth")
    assert shown > 50, "the code is no image"
    await page.get_by_text("No camera?").click()
    person.secret = (await page.locator("details code").text_content()) or ""
    assert await tab.serious_faults() == []
    await page.get_by_label("Code").fill(pyotp.TOTP(person.secret).at(tab.api.clock()))
    await page.get_by_role("button", name="Go on").click()

    codes = ((await page.locator("pre.codes").text_content()) or "").split()
    assert len(codes) == 10
    await page.get_by_role("button", name="I have kept them").click()
    await expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()

    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("button", name="Log in", exact=True)).to_be_visible()
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(SECOND)
    await page.get_by_label("Code").fill(codes[0])
    await page.get_by_role("button", name="Log in", exact=True).click()
    await expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()


async def test_a_session_that_ends_elsewhere_asks_for_a_login_and_comes_back(tab: Tab) -> None:
    """The page says so instead of failing, and shows the same address after the login."""
    person = await tab.logged_in(path="/?view=here")
    await expect(tab.page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    ended = await person.http.post("/sessions/revoke", json={})
    assert ended.is_success
    await tab.page.reload()
    await tab.page.get_by_label("Name").fill("Ada")
    await tab.page.get_by_label("Password").fill(SECOND)
    await tab.page.get_by_label("Code").fill(person.code())
    await tab.page.get_by_role("button", name="Log in", exact=True).click()
    await expect(tab.page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    assert tab.page.url.endswith("/?view=here")


async def test_a_lost_connection_shows_and_heals(tab: Tab) -> None:
    """While the server is away the page says so; once it is back the page goes on by itself."""
    await tab.logged_in()
    await expect(tab.page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    await tab.page.context.set_offline(True)
    await tab.page.get_by_role("button", name="Find or do").click()
    await tab.page.get_by_role("combobox").fill("web")
    lost = tab.page.get_by_text("what you see is from before")
    await expect(lost).to_be_visible()
    await tab.page.keyboard.press("Escape")
    await tab.page.context.set_offline(False)
    await expect(lost).to_be_hidden()
    await expect(tab.page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()


async def test_a_page_that_nobody_touches_keeps_no_session_alive(tab: Tab) -> None:
    """After ten minutes it asks for nothing by itself, whatever it is told; the first touch brings what was missed."""
    fleet = await Fleet.make(tab.api, tab.api.client(), "Acme")
    agent_id = await fleet.agent("web-01")
    await tab.page.clock.install()
    await tab.logged_in()
    page = tab.page
    await expect(page.get_by_role("link", name="web-01")).to_be_visible()
    await fleet.http.put(f"/agents/{agent_id}/name", json={"name": "heard"})
    await expect(page.get_by_role("link", name="heard")).to_be_visible()
    await page.clock.fast_forward("00:11:00")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await fleet.agent("web-02")
    await fleet.http.put(f"/agents/{agent_id}/name", json={"name": "renamed"})
    renamed = page.get_by_role("link", name="renamed")
    async with asyncio.timeout(15):
        while not await renamed.is_visible():  # the stream tells it, as it told of the other one before
            await page.clock.run_for(300)
    await page.clock.run_for(10_000)
    assert [one for one in asked if "/events/stream" not in one and "/readyz" not in one] == []
    await expect(page.get_by_role("link", name="web-02")).to_have_count(0)
    await page.mouse.move(200, 200)
    await expect(page.get_by_role("link", name="web-02")).to_be_visible()
