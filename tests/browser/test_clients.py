"""Clients and their sites, as an administrator keeps them."""

from playwright.async_api import Browser, expect

from tests.browser.harness import Tab
from tests.rest.harness import Api, Fleet, made


async def test_clients_and_sites_are_added_and_renamed(tab: Tab, browser: Browser, api: Api, fleet: Fleet) -> None:
    """By keyboard, on a phone, and the other who looks on sees it; a name that is taken is said in the window."""
    await fleet.agent("web-01")
    other = await Tab.open(browser, api)
    try:
        await other.logged_in(name="Bob", path="/")
        await expect(other.page.get_by_role("button", name="Sites of Acme")).to_be_visible()
        await tab.logged_in(path="/admin/clients")
        page = tab.page
        dialog = page.get_by_role("dialog")
        await page.get_by_role("button", name="New client").press("Enter")
        await expect(dialog.get_by_label("Name")).to_be_focused()
        await page.keyboard.type("acme")
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_role("alert")).to_contain_text("name_taken")
        await dialog.get_by_label("Name").fill("Globex")
        await page.keyboard.press("Enter")
        await expect(dialog).to_have_count(0)
        await page.get_by_role("button", name="New site of Globex").press("Enter")
        await expect(dialog.get_by_label("Name")).to_be_focused()
        await page.keyboard.type("Harbour")
        assert await tab.serious_faults() == []
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("row", name="Harbour")).to_contain_text("0 machines")
        await expect(other.page.get_by_role("button", name="Sites of Globex")).to_be_visible()

        await expect(dialog).to_have_count(0)
        await page.get_by_role("button", name="Rename Globex / Harbour").press("Enter")
        await dialog.get_by_label("Name").fill("Old harbour")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("row", name="Old harbour")).to_be_visible()
        await expect(dialog).to_have_count(0)

        await page.set_viewport_size({"width": 360, "height": 740})
        acme = page.locator("details", has_text="Acme")
        await expect(acme).to_contain_text("1 machine, 0 online")
        await acme.locator("summary").press("Enter")
        await page.get_by_role("button", name="Rename Acme", exact=True).press("Enter")
        await dialog.get_by_label("Name").fill("Acme & sons")
        await page.keyboard.press("Enter")
        await expect(other.page.get_by_role("button", name="Sites of Acme & sons")).to_be_visible()
        await expect(other.page.get_by_role("row", name="web-01")).to_contain_text("Acme & sons")
        assert await tab.serious_faults() == []
        assert await tab.sideways() == 0
        assert other.complaints == []
    finally:
        await other.close()
    assert [one["name"] for one in (await fleet.http.get("/sites")).json()["items"]] == ["Main", "Old harbour"]
    assert [one["name"] for one in (await fleet.http.get("/clients")).json()["items"]] == ["Acme & sons", "Globex"]


async def test_what_a_client_and_a_site_hold_is_filled_in(tab: Tab, fleet: Fleet) -> None:
    """Each has the fields that are for such; what must be filled in and is not is said."""
    for name, terms in (
        ("Contract", {"kind": "text", "on": ["client"], "required": True}),
        ("Floor", {"kind": "number", "on": ["site"]}),
    ):
        await made(fleet.http, "/fields", {"name": name, "terms": terms})
    await tab.logged_in(path="/admin/clients")
    page = tab.page
    dialog = page.get_by_role("dialog")
    await page.locator("details", has_text="Acme").locator("summary").click()
    await page.get_by_role("button", name="Custom fields of Acme / Main").click()
    await dialog.get_by_role("button", name="Fill in").click()
    await dialog.get_by_label("Floor").fill("3")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.locator("dd")).to_have_text("3")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Custom fields of Acme", exact=True).click()
    await expect(dialog.locator("dd")).to_have_text("to be filled in")
    assert await tab.serious_faults() == []
    assert (await fleet.http.get(f"/sites/{fleet.site_id}/fields")).json()["values"] == {"floor": 3}
    # What somebody else fills in shows where the window is open.
    await fleet.http.patch(f"/clients/{fleet.client_id}/fields", json={"values": {"contract": "gold"}})
    await expect(dialog.locator("dd")).to_have_text("gold")


async def test_who_keeps_one_client_is_offered_that_one_alone(tab: Tab, api: Api, fleet: Fleet) -> None:
    """Sites where the role is given over the client; clients where it is given over everything; else names to read."""
    await Fleet.make(api, fleet.http, "Globex")
    role = {"name": "keeper", "permissions": ["clients.see", "clients.manage", "sites.manage"]}
    await made(fleet.http, "/roles", role)
    looker = {"role": "read-only", "everything": True}
    await tab.logged_in({"role": "keeper", "clients": [fleet.client_id]}, looker, path="/admin/clients")
    page = tab.page
    for name in ("Acme", "Globex"):
        await page.locator("details", has_text=name).locator("summary").click()
        await expect(page.get_by_role("group", name=f"Sites of {name}, as a table")).to_be_visible()
    await expect(page.get_by_role("button", name="New client")).to_have_count(0)
    buttons = page.get_by_role("main").locator("button")
    await expect(buttons).to_have_text(["Rename", "New site", "Rename"])
    await expect(page.get_by_role("button", name="Rename Acme / Main")).to_be_visible()
