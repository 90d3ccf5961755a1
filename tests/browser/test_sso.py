"""Logging in through a provider in a real browser: there, back, and on to where one was."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pyotp
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.harness import ADMINISTRATOR, Tab
from tests.rest.harness import Api
from tests.rest.people import Person
from tests.rest.provider import RunningProvider
from tests.rest.sso import linked, plain_user, provider, running, with_provider

__all__ = ["provider", "running"]


@pytest_asyncio.fixture(loop_scope="session")
async def api(postgres_url: str, provider: RunningProvider) -> AsyncIterator[Api]:
    async with with_provider(postgres_url, provider, {}) as api:
        yield api


async def test_there_and_back(tab: Tab, provider: RunningProvider) -> None:
    """Somebody without a password enrolls a second factor, and lands where they were; the address keeps no secret."""
    await linked(tab.api, await plain_user(tab.api, "Ada", ADMINISTRATOR), "sub-ada")
    page = tab.page
    await page.goto("/?view=here")
    await page.get_by_role("button", name="Log in with 127.0.0.1").click()
    await page.locator("input[name=subject]").fill("sub-ada")
    assert page.url.startswith(provider.issuer)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_text("No camera?").click()
    assert page.url == f"{tab.api.url}/?view=here"
    secret = (await page.locator("details code").text_content()) or ""
    await page.get_by_label("Code").fill(pyotp.TOTP(secret).at(tab.api.clock()))
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_role("button", name="I have kept them").click()
    await expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()


async def test_a_code_is_asked_for_on_the_way_back(tab: Tab) -> None:
    """A wrong one may be mended; somebody whom nobody is linked to is told so, and may try as somebody else."""
    ada = await Person.ready(tab.api, "Ada", ADMINISTRATOR)
    await linked(tab.api, ada.user_id, "sub-ada")
    page = tab.page

    async def sign_in(subject: str) -> None:
        await page.locator("input[name=subject]").fill(subject)
        await page.get_by_role("button", name="Log in").click()

    await page.goto("/login/sso?return_to=/?view=there")
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Log in with 127.0.0.1").click()
    await sign_in("sub-eve")
    await expect(page.get_by_role("status")).to_contain_text("fleetlog users link USER --subject 'sub-eve'")
    assert page.url == f"{tab.api.url}/login/sso"
    await page.get_by_role("button", name="Log in with 127.0.0.1").click()
    await sign_in("sub-ada")
    await page.get_by_label("Code").fill("000000")
    await page.get_by_role("button", name="Log in", exact=True).click()
    await expect(page.get_by_role("status")).to_contain_text("are not right")
    assert await tab.serious_faults() == []
    await page.get_by_label("Code").fill(ada.code())
    await page.get_by_role("button", name="Log in", exact=True).click()
    await expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    assert page.url == f"{tab.api.url}/?view=there"


async def test_the_page_goes_on_to_no_other_site(tab: Tab) -> None:
    """Whatever a link has put there."""
    await linked(tab.api, await plain_user(tab.api, "Ada", ADMINISTRATOR), "sub-ada")
    page = tab.page
    for evil in ("https://evil.example/", "//evil.example/", "javascript:alert(1)", "\\\\evil.example"):
        await page.goto("/login/sso")
        await page.evaluate("text => sessionStorage.setItem('fleetlog-return-to', text)", evil)
        await page.get_by_role("button", name="Log in with 127.0.0.1").click()
        await page.locator("input[name=subject]").fill("sub-ada")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("status")).to_contain_text("Ada")
        assert page.url == f"{tab.api.url}/login/sso"


async def test_the_provider_vouches_once_more(tab: Tab, provider: RunningProvider) -> None:
    """Who logs in there answers "Is it you?" there, too, comes back to the same page, and does it again."""
    ada = await Person.ready(tab.api, "Ada", ADMINISTRATOR)
    await linked(tab.api, ada.user_id, "sub-ada")
    page = tab.page
    await page.goto("/admin/keys")
    await page.get_by_role("button", name="Log in with 127.0.0.1").click()
    await page.locator("input[name=subject]").fill("sub-ada")
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_label("Code").fill(ada.code())
    await page.get_by_role("button", name="Log in", exact=True).click()
    await expect(page.get_by_role("button", name="New key")).to_be_visible()
    tab.api.clock.ahead += timedelta(minutes=11)

    async def make() -> None:
        await page.get_by_role("button", name="New key").click()
        await page.get_by_label("Name").fill("nightly")
        await page.get_by_role("button", name="Make it").click()

    # The provider's clock is no part of this.
    provider.lies(claims={"auth_time": int(tab.api.clock().timestamp())})
    await make()
    await page.get_by_role("button", name="Go to 127.0.0.1, and do it again afterwards").click()
    await page.locator("input[name=subject]").fill("sub-ada")
    assert page.url.startswith(provider.issuer)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url("**/admin/keys")
    await make()
    await expect(page.get_by_role("dialog", name="The key")).to_be_visible()
