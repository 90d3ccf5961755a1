"""One's own account: sessions, password, recovery codes and keys."""

import re

from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.rest.harness import Api, made
from tests.rest.people import SECOND

THIRD = "nine yellow Lapwings"


async def test_sessions_elsewhere_are_ended(tab: Tab, api: Api) -> None:
    """The list says where one is logged in; one session, and all others, end at a click, and this one goes on."""
    person = await tab.logged_in()
    others = []
    for _ in range(3):
        await person.log_in()
        others.append(person.token)
    page = tab.page
    await page.get_by_role("link", name="your account").click()
    sessions = page.get_by_role("region", name="Sessions")
    await expect(sessions.get_by_role("row")).to_have_count(5)
    await expect(sessions.get_by_role("row", name="this one")).to_have_count(1)
    assert await tab.serious_faults() == []
    await sessions.get_by_role("button", name=re.compile("^End the session")).first.click()
    await expect(sessions.get_by_role("row")).to_have_count(4)
    await page.get_by_role("button", name="End all others").click()
    await expect(sessions.get_by_role("row")).to_have_count(2)
    for token in others:
        assert (await api.client(token).get("/me")).status_code == 401
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0


async def test_all_sessions_are_ended_with_this_one(tab: Tab, api: Api) -> None:
    """A second click ends them all, and the page asks who it is."""
    person = await tab.logged_in(path="/account")
    await person.log_in()
    sessions = tab.page.get_by_role("region", name="Sessions")
    await sessions.get_by_role("button", name="End all", exact=True).click()
    await sessions.get_by_role("button", name="End all, this one too: click again").click()
    await expect(tab.page.get_by_label("Password")).to_be_visible()
    assert (await api.client(person.token).get("/me")).status_code == 401


async def test_password_and_recovery_codes_are_changed(tab: Tab) -> None:
    """The new password counts at once, and the page goes on; new codes are shown once, and those before are void."""
    person = await tab.logged_in(path="/account")
    page = tab.page
    codes = page.get_by_role("region", name="Recovery codes")
    await codes.get_by_role("button", name="Make new ones").click()
    await codes.get_by_label("Code").fill(person.code())
    await codes.get_by_role("button", name="Make them").click()
    shown = ((await codes.locator("pre.codes").text_content()) or "").split()
    assert len(shown) == len(person.recovery_codes)
    assert not set(shown) & set(person.recovery_codes)
    assert await tab.serious_faults() == []
    await codes.get_by_role("button", name="I have kept them").click()
    await expect(page.get_by_text(shown[0])).to_have_count(0)

    password = page.get_by_role("region", name="Password")
    await password.get_by_role("button", name="Change it").click()
    await password.get_by_label("The password that you have").fill("wrong, wrong, wrong")
    await password.get_by_label("New password", exact=True).fill(THIRD)
    await password.get_by_label("New password, once more").fill(THIRD)
    await password.get_by_role("button", name="Change password").click()
    await expect(password.get_by_role("alert")).to_be_visible()
    await password.get_by_label("The password that you have").fill(SECOND)
    await password.get_by_role("button", name="Change password").click()
    await expect(page.get_by_text("Your password is changed")).to_be_visible()
    await expect(page.get_by_role("region", name="Sessions").get_by_role("row", name="this one")).to_be_visible()
    person.password = THIRD
    await person.log_in()


async def test_own_keys_are_among_it(tab: Tab, api: Api) -> None:
    """Those that speak for the person, and nobody else's; a person who may see nobody is shown none."""
    person = await tab.logged_in(path="/account")
    http = api.client()
    await made(http, "/api-keys", {"name": "mine", "owner_id": person.user_id})
    keys = tab.page.get_by_role("region", name="API keys")
    await expect(keys.get_by_role("row", name="mine")).to_be_visible()
    await expect(keys.get_by_role("row")).to_have_count(2)
    await keys.get_by_role("button", name="Revoke").click()
    await keys.get_by_role("button", name="Revoke: click again").click()
    await expect(keys.get_by_text("There is none.")).to_be_visible()
    await made(http, "/roles", {"name": "looker", "permissions": ["agents.see"]})
    await tab.logged_in({"role": "looker", "everything": True}, name="Bob", path="/account")
    await expect(tab.page.get_by_role("heading", name="Bob")).to_be_visible()
    await expect(keys).to_have_count(0)
