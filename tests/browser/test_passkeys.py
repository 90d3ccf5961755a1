"""Passkeys of a real browser: Chromium's own authenticator makes and uses them, at the address that browsers allow."""

from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from gateways.rest.cookies import CSRF_HEADER
from tests.browser.harness import ADMINISTRATOR, Tab
from tests.rest.harness import Api

# As a page would: the browser's own words go to the API and back, unread.
ADD = """async ([csrf, name]) => {
  const post = async (path, body) => (await fetch("/api/v1" + path, {
    method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json", "HEADER": csrf},
  })).json();
  const {options} = await post("/session/passkeys/offer", {});
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
  const credential = await navigator.credentials.create({publicKey});
  return post("/session/passkeys", {name, credential: credential.toJSON()});
}""".replace("HEADER", CSRF_HEADER)
PROVE = """async ([csrf]) => {
  const post = async (path, body) => fetch("/api/v1" + path, {
    method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json", "HEADER": csrf},
  });
  const {options} = await (await post("/session/proof/passkey/options", {})).json();
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const credential = await navigator.credentials.get({publicKey});
  return (await post("/session/proof/passkey", {credential: credential.toJSON()})).status;
}""".replace("HEADER", CSRF_HEADER)


@pytest_asyncio.fixture(loop_scope="session")
async def named(browser: Browser, api: Api) -> AsyncIterator[Tab]:
    """A tab at a name, since no passkey is bound to an IP address."""
    api.url = f"http://localhost:{urlsplit(api.url).port}"
    tab = await Tab.open(browser, api)
    yield tab
    await tab.close()
    assert tab.complaints == []


async def authenticator(page: Page, *, verifies: bool = True) -> tuple[object, str]:
    """A device of the browser's, with a finger on it."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": verifies,
        "automaticPresenceSimulation": True,
    }
    made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return session, str(made["authenticatorId"])


async def csrf(page: Page) -> str:
    return str(await page.evaluate("async () => (await (await fetch('/api/v1/session')).json()).csrf_token"))


async def test_a_browsers_passkey_logs_in_and_proves(named: Tab) -> None:
    """Made in a session, it opens the next one by the page's own button, and stands for a fresh proof."""
    page = named.page
    await authenticator(page)
    ada = await named.logged_in(ADMINISTRATOR)
    await expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    added = await page.evaluate(ADD, [await csrf(page), "this browser"])
    assert "id" in added, added
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_role("button", name="Log in with a passkey").click()
    await expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    assert (await ada.events("SessionOpened"))[-1]["data"]["proofs"] == ["passkey"]
    named.api.clock.ahead += timedelta(minutes=11)
    assert await page.evaluate(PROVE, [await csrf(page)]) == 200
    assert (await ada.events("SessionProved"))[-1]["data"]["proof"] == "passkey"


async def test_a_device_that_verified_nobody_opens_nothing(named: Tab) -> None:
    """The browser itself asks for the PIN or finger; where that is not right, no passkey comes, and nobody is in."""
    page = named.page
    session, device = await authenticator(page)
    ada = await named.logged_in(ADMINISTRATOR)
    await expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    assert "id" in await page.evaluate(ADD, [await csrf(page), "this browser"])
    await page.get_by_role("button", name="Log out").click()
    told = {"authenticatorId": device, "isUserVerified": False}
    await session.send("WebAuthn.setUserVerified", told)  # type: ignore[attr-defined]
    await page.get_by_role("button", name="Log in with a passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("no passkey")
    opened = [event["data"]["proofs"] for event in await ada.events("SessionOpened")]
    assert ["passkey"] not in opened


async def test_the_account_keeps_passkeys_and_one_of_them_proves(named: Tab) -> None:
    """Added, renamed and removed on the page; in between, it answers "Is it you?" in place of a password."""
    page = named.page
    await authenticator(page)
    ada = await named.logged_in(ADMINISTRATOR, path="/account")
    passkeys = page.get_by_role("region", name="Passkeys")
    await passkeys.get_by_role("button", name="Add one").click()
    await passkeys.get_by_label("Name of the passkey").fill("this browser")
    assert await named.serious_faults() == []
    await passkeys.get_by_role("button", name="Add it").click()
    await expect(passkeys.get_by_text("this browser")).to_be_visible()

    await page.goto("/admin/keys")
    await page.get_by_role("button", name="New key").click()
    await page.get_by_label("Name").fill("nightly")
    named.api.clock.ahead += timedelta(minutes=11)
    await page.get_by_role("button", name="Make it").click()
    await page.get_by_role("button", name="Use a passkey").click()
    await expect(page.get_by_role("dialog", name="The key")).to_be_visible()
    assert (await ada.events("SessionProved"))[-1]["data"]["proof"] == "passkey"

    await page.goto("/account")
    await passkeys.get_by_role("button", name="Rename this browser").click()
    await passkeys.get_by_label("Another name for this browser").fill("at the desk")
    assert await named.serious_faults() == []
    await passkeys.get_by_role("button", name="Save").click()
    await expect(passkeys.get_by_text("at the desk")).to_be_visible()
    await passkeys.get_by_role("button", name="Remove").click()
    await passkeys.get_by_role("button", name="Remove at the desk: click again").click()
    await expect(passkeys.get_by_text("at the desk")).to_have_count(0)
    assert len(await ada.events("PasskeyRemoved")) == 1
