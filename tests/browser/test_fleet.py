"""The list of machines: found, sorted, chosen, and as it is just now."""

import re
from datetime import timedelta

from playwright.async_api import Browser, Page, expect

from tests.browser.harness import Tab
from tests.browser.machines import come, go, tell
from tests.rest.harness import Api, Fleet
from tests.rest.people import SECOND


def names(page: Page) -> object:
    return page.locator(".grid-room [role=row] a")


async def test_machines_are_found_sorted_and_chosen_by_the_keyboard(tab: Tab, fleet: Fleet) -> None:
    """What is typed narrows the list at once; keys move, select and open; the address keeps all of it."""
    web, db, lap = [await fleet.agent(name) for name in ("web-01", "db-01", "lap-01")]
    await come(fleet, web)
    await tell(fleet, db, os="Debian GNU/Linux 12")
    for agent_id in (web, db):
        await fleet.http.put(f"/agents/{agent_id}/tags", json={"tags": ["prod", "eu", "blue"]})
    await fleet.command(lap)
    await fleet.http.post("/clients", json={"name": "AAA"})
    await tab.logged_in()
    page = tab.page
    await expect(names(page)).to_have_text(["db-01", "lap-01", "web-01"])
    await expect(page.get_by_text("3 machines")).to_be_visible()
    assert await tab.serious_faults() == []
    await expect(page.get_by_role("row", name="web-01").get_by_role("cell").nth(5)).to_have_text("blue+2")
    # Nobody looks first for a client without machines, though its name comes first.
    clients = page.get_by_role("navigation", name="Clients and sites").get_by_role("listitem")
    await expect(clients).to_have_text(["All clients", re.compile("Acme"), re.compile("AAA")])

    box = page.get_by_label("Search machines")
    for typed, found in {
        "tag:prod": ["db-01", "web-01"],
        "tag:prod status:online": ["web-01"],
        "status:offline": ["db-01", "lap-01"],
        "pending:>0": ["lap-01"],
        "os:debian": ["db-01"],
        "os:linux -01": ["db-01", "lap-01", "web-01"],
        "seen:<1h": [],
        "WEB": ["web-01"],
    }.items():
        await box.fill(typed)
        await expect(names(page)).to_have_text(found)
    await box.fill("nonsense:1 web")
    await expect(page.get_by_text("There is no filter called nonsense.")).to_be_visible()
    await expect(names(page)).to_have_text(["web-01"])
    await expect(page).to_have_url(re.compile(r"f=nonsense"))
    await box.fill("")
    await expect(page.get_by_text("seen:>7d")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(names(page)).to_have_count(3)

    await page.get_by_role("button", name="Pending", exact=True).click()
    await expect(names(page)).to_have_text(["lap-01", "web-01", "db-01"])
    await page.get_by_role("button", name="Client / site").click()
    await expect(names(page)).to_have_text(["db-01", "lap-01", "web-01"])
    await page.get_by_role("button", name="Name").click()
    await page.get_by_role("button", name="Name").click()
    await expect(names(page)).to_have_text(["web-01", "lap-01", "db-01"])
    await page.get_by_role("button", name="offline", exact=False).click()
    await expect(names(page)).to_have_text(["lap-01", "db-01"])
    await page.reload()
    await expect(names(page)).to_have_text(["lap-01", "db-01"])

    await page.keyboard.press("/")
    await expect(box).to_be_focused()
    await page.keyboard.press("Escape")
    for key in "jjxkx":
        await page.keyboard.press(key)
    await expect(page.get_by_text("2 selected")).to_be_visible()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard")).to_contain_text("Select it, or not")
    await page.keyboard.press("Escape")
    await page.keyboard.press("r")
    await expect(page.get_by_role("dialog", name="Run on 2 machines")).to_contain_text("0 online now, 2 get it when")
    assert await tab.serious_faults() == []


async def test_who_has_ticked_a_box_goes_on_by_the_keyboard(tab: Tab, fleet: Fleet) -> None:
    """The keys of the page work from there, and what is typed next is the line to run."""
    await fleet.agent("web-01")
    await tab.logged_in()
    await tab.page.get_by_label("Select web-01").click()
    await tab.page.keyboard.press("r")
    await expect(tab.page.get_by_role("dialog", name="Run on web-01").get_by_label("Line")).to_be_focused()


async def test_the_palette_finds_machines_and_things_to_do(tab: Tab, fleet: Fleet) -> None:
    """From anywhere, by a few letters: a machine's page, or a list that is narrowed."""
    await fleet.agent("web-01")
    lap = await fleet.agent("lap-01")
    await fleet.command(lap)
    await tab.logged_in()
    page = tab.page
    box = page.get_by_label("Search machines")
    await expect(names(page)).to_have_count(2)
    await page.keyboard.press("Control+k")
    await page.get_by_role("combobox").fill("something waits")
    await expect(page.get_by_role("option")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(names(page)).to_have_text(["lap-01"])
    await expect(box).to_have_value("pending:>0")
    await page.keyboard.press("Control+k")
    await page.get_by_role("combobox").fill("web")
    await expect(page.get_by_role("option")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="web-01")).to_be_visible()


async def test_a_view_is_saved_shared_and_come_back_to(tab: Tab, browser: Browser, fleet: Fleet) -> None:
    """What is looked at, by whom it may be seen, and in one's own columns or the view's."""
    for name in ("web-01", "db-01"):
        await fleet.agent(name)
    await tab.logged_in()
    page = tab.page
    await page.get_by_label("Search machines").fill("web")
    await page.get_by_role("button", name="Last seen").click()
    await expect(page).to_have_url(re.compile("sort=-seen"))
    menu = page.get_by_text("Views", exact=True)
    await menu.click()
    await page.get_by_label("Save this view as").fill("Web")
    await page.get_by_label("Share it with all").check()
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("button", name="Web", exact=True)).to_be_visible()
    # Saved again it stays shared, unless somebody says otherwise.
    await page.get_by_label("Save this view as").fill("Web")
    await expect(page.get_by_label("Share it with all")).to_be_checked()
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_label("Save this view as")).to_have_value("")

    other = await Tab.open(browser, fleet.api, viewport={"width": 360, "height": 740})
    await other.logged_in({"role": "read-only", "everything": True}, name="Bob")
    await expect(names(other.page)).to_have_count(2)
    await other.page.get_by_text("Views", exact=True).click()
    await expect(other.page.get_by_role("button", name="Remove the view Web")).to_have_count(0)
    assert await other.sideways() == 0
    await other.page.get_by_role("button", name="Web", exact=True).click()
    await expect(names(other.page)).to_have_text(["web-01"])
    await expect(other.page).to_have_url(re.compile(r"f=web.*sort=-seen.*columns=status"))
    await other.close()
    assert other.complaints == []

    await page.get_by_role("button", name="Remove the view Web").click()
    await expect(page.get_by_text("Save what you look at")).to_be_visible()


async def test_what_somebody_else_changes_shows_at_once(tab: Tab, fleet: Fleet) -> None:
    """Machines come, go, join and are renamed under the eyes of whoever looks, and leave lists, without a reload."""
    agent_id = await fleet.agent("web-01")
    await tab.logged_in()
    page = tab.page
    row = page.get_by_role("row", name="web-01")
    await expect(row).to_contain_text("offline")
    await come(fleet, agent_id)
    await expect(row).to_contain_text("online")
    await expect(page.get_by_role("button", name="online 1")).to_be_visible()
    await fleet.http.put(f"/agents/{agent_id}/name", json={"name": "<b>renamed</b>"})
    await expect(names(page)).to_have_text(["<b>renamed</b>"])
    command_id = await fleet.command(agent_id)
    row = page.get_by_role("row", name="renamed")
    await expect(row.get_by_role("cell").nth(6)).to_have_text("1")
    await fleet.agent("web-02")
    await expect(names(page)).to_have_text(["<b>renamed</b>", "web-02"])
    await go(fleet, agent_id)
    await expect(row).to_contain_text("offline")
    await tell(fleet, agent_id, os="Debian GNU/Linux 12")
    await expect(row).to_contain_text("Debian")
    await page.get_by_label("Search machines").fill("pending:>0")
    await expect(names(page)).to_have_text(["<b>renamed</b>"])
    await fleet.http.post(f"/commands/{command_id}/cancel", json={})
    await expect(names(page)).to_have_count(0)
    await expect(page.get_by_role("button", name="with something pending 0")).to_be_visible()


async def test_who_may_see_one_client_sees_nothing_else_and_is_offered_nothing_more(tab: Tab, fleet: Fleet) -> None:
    """Another client's machines are neither listed, counted, found nor heard of; nothing that is refused is offered."""
    await fleet.agent("ours-01")
    other = await Fleet.make(fleet.api, fleet.api.client(), "Umbrella")
    theirs = await other.agent("theirs-01")
    await tab.logged_in({"role": "read-only", "clients": [fleet.client_id]})
    page = tab.page
    await expect(names(page)).to_have_text(["ours-01"])
    await expect(page.get_by_text("1 machine", exact=True)).to_be_visible()
    await expect(page.get_by_role("navigation", name="Clients and sites")).not_to_contain_text("Umbrella")
    await expect(page.get_by_role("link", name="Add a machine")).to_have_count(0)
    await page.get_by_label("Select ours-01").click()
    await expect(page.get_by_text("1 selected")).to_be_visible()
    await expect(page.get_by_role("button", name="Run")).to_have_count(0)
    await come(other, theirs)
    await other.agent("theirs-02")
    await fleet.agent("ours-02")
    await expect(names(page)).to_have_text(["ours-01", "ours-02"])
    await page.goto(f"/agents/{theirs}")
    await expect(page.get_by_role("heading", name="There is no such machine")).to_be_visible()


async def test_it_works_on_a_telephone_and_in_the_dark(browser: Browser, fleet: Fleet) -> None:
    """360 pixels are enough for the list, its filters and its places, in both colour schemes."""
    await fleet.agent("a-machine-with-quite-a-long-name-in-a-data-centre-far-away")
    for scheme in ("light", "dark"):
        tab = await Tab.open(browser, fleet.api, viewport={"width": 360, "height": 740}, color_scheme=scheme)
        await tab.logged_in(name=f"Ada {scheme}")
        await expect(names(tab.page)).to_have_count(1)
        await tab.page.get_by_role("button", name="Clients", exact=True).click()
        await tab.page.get_by_label("Sites of Acme").click()
        await tab.page.get_by_role("button", name="Main").click()
        await expect(tab.page).to_have_url(re.compile("site="))
        await tab.page.goto("/admin")
        await expect(tab.page.get_by_role("link", name="Admin")).to_be_in_viewport(ratio=0.99)
        await tab.page.go_back()
        await expect(tab.page.get_by_role("table")).to_be_visible()
        assert await tab.sideways() == 0
        assert await tab.serious_faults() == []
        await tab.close()
        assert tab.complaints == []


async def test_a_long_list_loads_as_it_is_scrolled_and_all_of_it_is_chosen_for_a_rollout(
    tab: Tab, fleet: Fleet
) -> None:
    """Of 230 machines the first page is read, the rest by scrolling; who wants something of all shows who they are."""
    for number in range(230):
        await fleet.agent(f"m-{number:03}")
    await tab.logged_in()
    page = tab.page
    await expect(page.get_by_text("230 machines")).to_be_visible()
    await page.get_by_label("Select m-000").click()
    await page.get_by_role("button", name="Select all 230 that match").click()
    await expect(page.get_by_text("230 selected")).to_be_visible()
    fleet.api.clock.ahead += timedelta(minutes=11)
    await page.get_by_role("button", name="Run").click()
    await page.get_by_label("Line").fill("uptime")
    await page.get_by_role("button", name="Queue for 230").click()
    proof = page.get_by_role("dialog", name="Is it you?")
    await proof.get_by_label("Password or code").fill("not the one")
    await proof.get_by_role("button", name="Go on").click()
    await expect(proof.get_by_role("alert")).to_contain_text("proof_refused")
    assert await tab.serious_faults() == []
    await proof.get_by_label("Password or code").fill(SECOND)
    await proof.get_by_role("button", name="Go on").click()
    await expect(page.get_by_role("region", name="Progress")).to_contain_text("230 machines")
    await page.get_by_role("navigation", name="Main").get_by_role("link", name="Fleet", exact=True).click()
    assert await page.locator(".grid-room [role=row]").count() < 80
    body = page.locator(".grid")
    last = page.get_by_text("m-229")
    while not await last.is_visible():
        # Each page that arrives makes room for the next one.
        await body.evaluate("(it) => it.scrollTo(0, it.scrollHeight)")
        await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(last).to_be_visible()


async def test_all_that_match_are_tagged_but_for_one(tab: Tab, fleet: Fleet) -> None:
    """What matches is found by the server; who is taken out again stays as it was, and another search begins anew."""
    for name in ("web-01", "web-02", "web-03", "db-01"):
        await fleet.agent(name)
    await tab.logged_in()
    page = tab.page
    box = page.get_by_label("Search machines")
    await box.fill("web")
    await expect(names(page)).to_have_text(["web-01", "web-02", "web-03"])
    await page.get_by_label("Select web-01").click()
    await page.get_by_role("button", name="Select all 3 that match").click()
    await page.get_by_label("Select web-02").click()
    await expect(page.get_by_text("2 selected")).to_be_visible()
    await page.get_by_role("button", name="Tags…").click()
    dialog = page.get_by_role("dialog", name="Tags of 2 machines")
    await dialog.get_by_label("Add").fill("patched prod")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Change tags").click()
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("row", name="web-01")).to_contain_text("patched")
    tags = {one["name"]: one["tags"] for one in (await fleet.http.get("/agents")).json()["items"]}
    assert tags == {"db-01": [], "web-01": ["patched", "prod"], "web-02": [], "web-03": ["patched", "prod"]}
    await page.get_by_role("button", name="Run").click()
    await expect(page.get_by_role("dialog", name="Run on 2 machines")).to_contain_text("2 get it when they return")
    await page.get_by_role("button", name="Cancel").click()
    await box.fill("db")
    await expect(names(page)).to_have_text(["db-01"])
    await expect(page.get_by_text("2 selected")).to_have_count(0)


async def test_columns_are_chosen_and_kept(tab: Tab, fleet: Fleet) -> None:
    """One that is chosen is there at once, and when one comes back; one that is taken out is not."""
    await fleet.agent("web-01")
    await tab.logged_in()
    page = tab.page
    head = page.get_by_role("columnheader", name="Enrolled")
    await expect(page.get_by_role("row", name="web-01")).to_be_visible()
    await expect(head).to_have_count(0)
    await page.get_by_text("Columns", exact=True).first.click()
    await page.get_by_label("Enrolled").check()
    await page.get_by_label("Pending").uncheck()
    await expect(head).to_be_visible()
    assert await tab.serious_faults() == []
    for leave in (page.keyboard.press("Escape"), page.get_by_role("heading", name="Fleet").click()):
        await expect(page.get_by_label("Enrolled")).to_be_visible()
        await leave
        await expect(page.get_by_label("Enrolled")).to_be_hidden()
        await page.get_by_text("Columns", exact=True).first.click()
    await page.reload()
    await expect(head).to_be_visible()
    await expect(page.get_by_role("columnheader", name="Pending")).to_have_count(0)


async def test_two_people_see_each_others_changes(browser: Browser, api: Api, fleet: Fleet) -> None:
    """What one renames is called so in the other's list, both ways, without a reload."""
    agent_id = await fleet.agent("web-01")
    tabs = [await Tab.open(browser, api) for _ in range(2)]
    for tab, name in zip(tabs, ("Ada", "Bob"), strict=True):
        await tab.logged_in(name=name)
        await expect(names(tab.page)).to_have_text(["web-01"])
    for (one, other), called in zip((tabs, tabs[::-1]), ("front", "back"), strict=True):
        await one.page.goto(f"/agents/{agent_id}")
        await one.page.get_by_text("Change", exact=True).click()
        await one.page.get_by_role("button", name="Rename").click()
        dialog = one.page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill(called)
        await dialog.locator("button[type=submit]").click()
        await expect(names(other.page)).to_have_text([called])
        await one.page.goto("/")
        await expect(names(one.page)).to_have_text([called])
    assert [tab.complaints for tab in tabs] == [[], []]
