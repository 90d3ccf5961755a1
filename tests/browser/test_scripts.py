"""Scripts: written, revised and compared."""

import re

from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.rest.harness import Fleet


async def test_a_script_is_written_revised_and_compared(tab: Tab, fleet: Fleet) -> None:
    """What is typed is what is kept; each revision shows what it changed; a clash is said and nothing is lost."""
    await tab.logged_in(path="/scripts")
    page = tab.page
    await page.get_by_role("link", name="Write the first one").click()
    await page.get_by_label("Name").fill("backup")
    code = page.get_by_label("Code")
    await code.click()
    await page.keyboard.type("tar -cz /etc")
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Add it").click()
    await expect(page.get_by_role("heading", name="backup")).to_be_visible()
    script = (await fleet.http.get("/scripts")).json()["items"][0]

    await page.get_by_role("button", name="Write the next revision").click()
    await code.click()
    await page.keyboard.press("Control+End")
    await page.keyboard.type("\nexit 3")
    # Somebody else is quicker.
    content = {"shell": "sh", "body": "theirs"}
    taken = await fleet.http.post(f"/scripts/{script['id']}/revisions", json={"content": content})
    assert taken.status_code == 201
    await page.get_by_role("button", name=re.compile("Save as revision")).click()
    await expect(page.get_by_role("alert")).to_contain_text("stale_version")
    await expect(code).to_contain_text("exit 3")
    await page.get_by_role("button", name="Discard").click()
    await page.get_by_role("button", name="Write the next revision").click()
    await code.click()
    await page.keyboard.press("Control+End")
    await page.keyboard.type("\nexit 3")
    await page.get_by_role("button", name="Save as revision 3").click()
    await expect(page.get_by_text("Revision 3 is there")).to_be_visible()
    bodies = (await fleet.http.get(f"/scripts/{script['id']}/revisions")).json()["items"]
    assert [one["body"] for one in bodies] == ["theirs\nexit 3", "theirs", "tar -cz /etc"]
    await page.get_by_role("button", name="2", exact=True).click()
    await expect(page.get_by_label("Before")).to_contain_text("tar -cz /etc")
    await expect(page.get_by_label("After")).to_contain_text("theirs")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
