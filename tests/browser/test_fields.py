"""Custom fields: what they are is said once for the whole fleet."""

from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.rest.harness import Fleet, made


async def test_a_field_is_defined_changed_and_removed(tab: Tab, fleet: Fleet) -> None:
    """What it holds, on what and what else counts is what the server then has; removing asks once more."""
    await tab.logged_in(path="/admin/fields")
    page = tab.page
    await expect(page.get_by_role("heading", name="There is no custom field yet")).to_be_visible()
    await page.get_by_role("button", name="New field").click()
    dialog = page.get_by_role("dialog", name="New field")
    await dialog.get_by_label("Name", exact=True).fill("no name")
    await dialog.get_by_label("It holds").select_option(label="one of several")
    await dialog.get_by_label("To choose from").fill("gold\nsilver")
    await dialog.get_by_label("clients").check()
    await dialog.get_by_label("Where nothing is filled in").select_option(label="silver")
    await dialog.get_by_label("Description").fill("How soon somebody comes")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Define it").click()
    await expect(dialog.get_by_role("alert")).to_be_visible()
    await dialog.get_by_label("Name", exact=True).fill("contract")
    await dialog.get_by_role("button", name="Define it").click()
    row = page.get_by_role("row", name="contract")
    await expect(row).to_contain_text("one of several: gold, silver")
    await expect(row).to_contain_text("machines, clients")
    await row.get_by_role("button", name="Change contract").click()
    dialog = page.get_by_role("dialog", name="Change contract")
    await expect(dialog).to_contain_text("no longer fits stands for nothing")
    await dialog.get_by_label("It must be filled in").check()
    await dialog.get_by_role("button", name="Define it").click()
    await expect(row.get_by_role("cell", name="yes")).to_be_visible()
    (kept,) = (await fleet.http.get("/fields")).json()["items"]
    assert kept["terms"] == {
        "kind": "choice",
        "on": ["agent", "client"],
        "choices": ["gold", "silver"],
        "default": "silver",
        "required": True,
        "description": "How soon somebody comes",
    }
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await row.get_by_role("button", name="Remove").click()
    await row.get_by_role("button", name="Remove: click again").click()
    await expect(page.get_by_role("heading", name="There is no custom field yet")).to_be_visible()


async def test_who_may_not_define_fields_reads_them(tab: Tab, fleet: Fleet) -> None:
    """They see what there is, and are offered nothing that would be refused."""
    terms = {"kind": "text", "on": ["agent"]}
    await made(fleet.http, "/fields", {"name": "rack", "terms": terms})
    await tab.logged_in({"role": "read-only", "clients": [fleet.client_id]}, path="/admin/fields")
    await expect(tab.page.get_by_role("row", name="rack")).to_be_visible()
    await expect(tab.page.get_by_role("button", name="New field")).to_have_count(0)
    await expect(tab.page.get_by_role("button", name="Change")).to_have_count(0)
