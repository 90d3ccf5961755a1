"""What is chosen from, however much there is of it."""

import asyncio
from urllib.parse import urlencode

from playwright.async_api import Route, expect

from tests.browser.harness import Tab
from tests.rest.harness import Fleet, made


async def test_a_site_among_many_is_found_by_typing(tab: Tab, fleet: Fleet) -> None:
    """All pages are read, those that fit are shown, and what is not shown, or was not read, is said."""
    path = f"/clients/{fleet.client_id}/sites"
    await asyncio.gather(*(made(fleet.http, path, {"name": f"Branch {number:03}"}) for number in range(110)))
    last = await made(fleet.http, path, {"name": "Über harbour"})
    await fleet.http.get("/sites")
    of_a_page = 50

    async def smaller(route: Route) -> None:
        await route.continue_(url=route.request.url.replace("limit=500", urlencode({"limit": of_a_page})))

    await tab.page.route("**/api/v1/sites?*", smaller)
    await tab.logged_in(path="/add")
    page = tab.page
    narrow = page.get_by_label("Narrow: Site")
    site = page.get_by_label("Site", exact=True)
    await expect(page.get_by_text("100 shown of 112; type to narrow")).to_be_visible()
    await expect(site.get_by_role("option")).to_have_count(100)
    await narrow.press_sequentially("acme HARB")
    await expect(page.get_by_text("1 of 112")).to_be_visible()
    await narrow.press("Enter")
    await expect(site).to_have_value(last["id"])
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await page.get_by_role("button", name="Make the install line").click()
    await expect(page.locator(".copy code").first).to_contain_text("flt_")
    tokens = (await fleet.http.get("/enrollment-tokens")).json()["items"]
    assert [one["site_id"] for one in tokens] == [last["id"]]

    of_a_page = 1
    await page.reload()
    await expect(page.get_by_text("20 shown of 20 that were read; there are more; type to narrow")).to_be_visible()
