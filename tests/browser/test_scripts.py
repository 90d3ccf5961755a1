"""Scripts: written, revised and compared."""

import re
from datetime import timedelta
from pathlib import Path

from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.browser.machines import come
from tests.rest.harness import Fleet, made


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


async def test_who_revises_what_others_run_shows_that_it_is_them(tab: Tab, fleet: Fleet) -> None:
    """What was typed is not lost over it."""
    content = {"shell": "sh", "body": "true"}
    script = await made(fleet.http, "/scripts", {"name": "backup", "content": content})
    await fleet.command(await fleet.agent("web-01"), spec={"kind": "run_script", "script_id": script["id"]})
    await tab.logged_in(path=f"/scripts/{script['id']}")
    page = tab.page
    await page.get_by_role("button", name="Write the next revision").click()
    await page.get_by_label("Code").click()
    await page.keyboard.press("Control+End")
    await page.keyboard.type("\nexit 3")
    fleet.api.clock.ahead += timedelta(minutes=11)
    await page.get_by_role("button", name="Save as revision 2").click()
    await tab.show_it_is_me()
    await expect(page.get_by_text("Revision 2 is there")).to_be_visible()
    newest = (await fleet.http.get(f"/scripts/{script['id']}/revisions/2")).json()
    assert newest["body"] == "true\nexit 3"


async def test_a_script_is_exported_imported_filed_and_tried(tab: Tab, fleet: Fleet, tmp_path: Path) -> None:
    """A file holds all of it, and makes the same script again; one machine tries it; its page says who ran it."""
    agent_id = await fleet.agent("web-01")
    await come(fleet, agent_id)
    content = {"shell": "bash", "body": "date", "args": ["-u", "now"], "env": {"TZ": "UTC"}, "timeout_s": 17}
    first = await made(fleet.http, "/scripts", {"name": "clock", "description": "says when", "content": content})
    await tab.logged_in(path=f"/scripts/{first['id']}")
    page = tab.page
    await page.get_by_role("button", name="Name and folder").click()
    await page.get_by_label("Folder").fill("Time")
    await page.get_by_label("Name").fill("old clock")
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("In Time")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export").click()
    held = tmp_path / (await download.value).suggested_filename
    await (await download.value).save_as(held)
    assert held.name == "old clock.json"

    await page.goto("/scripts/new")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    await page.get_by_label("From a file…").set_input_files(broken)
    await expect(page.get_by_role("alert")).to_contain_text("its format is not")
    await page.get_by_label("From a file…").set_input_files(held)
    await expect(page.get_by_label("Environment", exact=True)).to_have_value("TZ=UTC")
    await page.get_by_label("Name").fill("clock again")
    await page.get_by_role("button", name="Add it").click()
    await expect(page.get_by_role("heading", name="clock again")).to_be_visible()
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await tab.api.log.head())
    scripts = {one["name"]: one for one in (await fleet.http.get("/scripts")).json()["items"]}
    again = scripts["clock again"]
    assert (again["folder"], again["description"]) == ("Time", "says when")
    kept = (await fleet.http.get(f"/scripts/{again['id']}/revisions/1")).json()
    assert {name: kept[name] for name in content} == content

    await expect(page.get_by_text("Nothing has run it yet")).to_be_visible()
    await page.get_by_role("button", name="Try it").click()
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="web-01").click()
    await page.get_by_role("button", name="Run", exact=True).click()
    await page.get_by_role("button", name="Close", exact=True).last.click()
    used = page.get_by_role("region", name="Used by")
    await expect(used.get_by_role("button", name="web-01")).to_be_visible()
    assert (await fleet.http.get("/rollouts", params={"script_id": again["id"]})).json()["items"] == []
    rollout = {"name": "everywhere", "target": {"include": {"agents": [agent_id]}}}
    await made(fleet.http, "/rollouts", rollout | {"spec": {"kind": "run_script", "script_id": again["id"]}})
    await expect(used.get_by_role("link", name="everywhere")).to_be_visible()


async def test_an_earlier_revision_is_run_as_it_was(tab: Tab, fleet: Fleet) -> None:
    """The newest unless another is chosen; what each takes along stands there."""
    agent_id = await fleet.agent("web-01")
    content = {"shell": "bash", "body": "date", "args": ["-u", "now"], "env": {"TZ": "UTC"}, "timeout_s": 17}
    script = await made(fleet.http, "/scripts", {"name": "clock", "content": content})
    await made(fleet.http, f"/scripts/{script['id']}/revisions", {"content": {"shell": "sh", "body": "date -R"}})
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await page.get_by_role("button", name="Run").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("tab", name="A script").click()
    await dialog.get_by_label("Script", exact=True).select_option(label="clock (revision 2)")
    await expect(dialog.get_by_label("Revision").locator("option:checked")).to_have_text("the newest (2)")
    await expect(dialog).to_contain_text("Its own: sh, at most")
    await dialog.get_by_label("Revision").select_option(value="1")
    await expect(dialog).to_contain_text("Its own: bash, at most 17 s, arguments -u now, environment TZ=UTC.")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await dialog.get_by_role("button", name="Run", exact=True).click()
    await expect(dialog.get_by_role("button", name="Run something else")).to_be_visible()
    (queued,) = (await fleet.http.get("/commands", params={"agent_id": agent_id})).json()["items"]
    assert (queued["spec"]["revision"], queued["spec"].get("args")) == (1, None)


async def test_favourites_and_folders_narrow_the_list(tab: Tab, fleet: Fleet) -> None:
    """A star is kept on the server; a folder holds what lies in folders within it."""
    for name, folder in (("disk", "Health"), ("memory", "Health/Daily"), ("clock", "")):
        body = {"name": name, "folder": folder, "content": {"shell": "sh", "body": "true"}}
        await made(fleet.http, "/scripts", body)
    await tab.logged_in(path="/scripts")
    page = tab.page
    rows = page.get_by_role("group", name="Scripts, as a table").get_by_role("row")
    await expect(rows).to_have_count(4)
    await page.get_by_role("button", name="Health", exact=True).click()
    await expect(rows).to_have_count(3)
    star = page.get_by_role("button", name="memory among your favourites")
    await star.click()
    await expect(star).to_have_attribute("aria-pressed", "true")
    await page.reload()
    await page.get_by_role("button", name="★ favourites").click()
    await expect(rows).to_have_count(2)
    await expect(rows.last).to_contain_text("memory")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0


async def test_any_two_revisions_are_compared(tab: Tab, fleet: Fleet) -> None:
    """One with the one before it, or with any other; what only the two in between had is not shown."""
    script = await made(fleet.http, "/scripts", {"name": "backup", "content": {"shell": "sh", "body": "first"}})
    for body in ("second", "third", "fourth"):
        await made(fleet.http, f"/scripts/{script['id']}/revisions", {"content": {"shell": "sh", "body": body}})
    await tab.logged_in(path=f"/scripts/{script['id']}")
    page = tab.page
    await page.get_by_role("button", name="4", exact=True).click()
    await expect(page.get_by_label("Before")).to_contain_text("third")
    await page.get_by_label("Revision 4, compared with").select_option(label="revision 1")
    await expect(page.get_by_label("Before")).to_contain_text("first")
    await expect(page.get_by_label("After")).to_contain_text("fourth")
    assert await tab.serious_faults() == []


async def test_a_batch_file_is_read_in_colours(tab: Tab, fleet: Fleet) -> None:
    """Its comments, labels, variables, strings and words are told apart."""
    body = 'rem clean up\n:again\nif exist "%TEMP%" del /q x\nset n=3\n'
    script = await made(fleet.http, "/scripts", {"name": "clean", "content": {"shell": "cmd", "body": body}})
    await tab.logged_in(path=f"/scripts/{script['id']}")
    code = tab.page.get_by_label("Code")
    plain = await code.locator(".cm-line").nth(3).evaluate("one => getComputedStyle(one).color")
    looks = {}
    for text in ("rem clean up", ":again", '"%TEMP%"', "set", "3"):
        span = code.locator("span", has_text=text).last
        await expect(span).to_have_text(text)
        looks[text] = await span.evaluate("one => getComputedStyle(one).color")
    assert plain not in looks.values()
    assert len(set(looks.values())) == len(looks)
