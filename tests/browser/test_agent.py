"""One machine: what waits for it, what runs on it, and what happened to it."""

import hashlib
import json
import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from playwright.async_api import expect

from command_bus.handlers.duplicates import DuplicateNotices
from command_bus.ids import new_id
from domain.duplicates import Sighting
from domain.ids import AgentId, ClientId
from gateways.agents.outputs import OutputStore
from gateways.agents.telemetry import Telemetry
from schema.wire import OutputLive, Sample, StreamReport
from tests.browser.harness import Tab
from tests.browser.machines import come, tell
from tests.rest.harness import Fleet

RED, PLAIN = "\x1b[31m", "\x1b[0m"


async def test_a_line_is_run_and_watched_to_its_end(tab: Tab, fleet: Fleet) -> None:
    """From the dialog to the exit code: live output in its colours, then run again."""
    agent_id = await fleet.agent("web-01")
    await come(fleet, agent_id)
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await expect(page.get_by_role("heading", name="web-01")).to_be_visible()
    await page.keyboard.press("r")
    dialog = page.get_by_role("dialog", name="Run on web-01")
    await expect(dialog).to_contain_text("Online: it begins at once.")
    await expect(dialog.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    await dialog.get_by_label("Line").fill("make all")
    async with page.expect_response("**/api/v1/commands"):
        await dialog.get_by_role("button", name="Run", exact=True).click()
    await expect(dialog).to_contain_text("queued")

    queue = (await fleet.http.get(f"/agents/{agent_id}/queue")).json()["items"]
    command_id = queue[0]["id"]
    assert queue[0]["spec"]["line"] == "make all"
    await fleet.accept(agent_id, command_id)
    await fleet.start(agent_id, command_id)
    await expect(dialog).to_contain_text("running")
    out = f"{RED}red{PLAIN} <i>not markup</i>\n10 %\r100 %\n".encode()
    for offset, data in ((0, out[:3]), (3, out[3:]), (0, out[:3])):  # cut inside of a colour; one comes twice
        piece = OutputLive(command_id=UUID(command_id), attempt=1, stream="stdout", offset=offset, data=data)
        fleet.api.live.say(piece)
    log = dialog.get_by_role("log")
    await expect(log.locator(".a-fg1")).to_have_text("red")
    await expect(log.locator(".output-line")).to_have_text(["red <i>not markup</i>", "100 %"])
    assert await tab.serious_faults() == []
    report = StreamReport(size=len(out), sha256=hashlib.sha256(out).hexdigest(), tail=out)
    await fleet.finish(agent_id, command_id, stdout=report)
    await expect(dialog).to_contain_text("succeeded")
    await expect(dialog).to_contain_text("exit code 0")
    await expect(dialog.get_by_role("link", name=re.compile("Download stdout"))).to_be_visible()
    async with page.expect_response("**/api/v1/commands/*/retry"):
        await dialog.get_by_role("button", name="Run again").click()
    await expect(dialog).to_contain_text("queued")
    again = (await fleet.http.get(f"/agents/{agent_id}/queue")).json()["items"]
    assert [one["spec"]["line"] for one in again] == ["make all"]


async def test_the_queue_says_why_and_lets_go(tab: Tab, fleet: Fleet) -> None:
    """What waits says why it waits, is cancelled by a click, and leaves the list when it ends."""
    agent_id = await fleet.agent("web-01")
    first = await fleet.command(agent_id)
    await fleet.command(agent_id, not_before="2999-01-01T00:00:00Z", expires_at="2999-01-02T00:00:00Z")
    await tab.logged_in(path=f"/agents/{agent_id}?tab=queue")
    page = tab.page
    await expect(page.get_by_text("The machine is offline; it gets this when it returns.")).to_be_visible()
    await expect(page.get_by_text("Not before")).to_be_visible()
    await page.get_by_label("Priority of ping").last.select_option(label="0 first")
    await expect(page.get_by_role("row").nth(1)).to_contain_text("Not before")
    await page.get_by_label("Priority of ping").first.select_option(label="9 last")
    await expect(page.get_by_role("row").nth(2)).to_contain_text("Not before")
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Cancel").first.click()
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(1)
    state = (await fleet.http.get(f"/commands/{first}")).json()["state"]
    assert state == "cancelled"
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("heading", name="Nothing is pending")).to_be_visible()


async def test_the_story_is_told_in_sentences_with_the_events_behind_them(tab: Tab, fleet: Fleet) -> None:
    """Newest first, by kind, with the very event on demand; a command leads to what it printed."""
    agent_id = await fleet.agent("web-01")
    await tell(fleet, agent_id, os="Debian GNU/Linux 12", memory_bytes=8 << 30, disks=[{"mount": "/", "size_bytes": 1}])
    command_id = await fleet.command(agent_id)
    await fleet.accept(agent_id, command_id)
    await fleet.finish(agent_id, command_id, outcome="failed")
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await expect(page.get_by_text("8.0 GB")).to_be_visible()
    await page.get_by_role("tab", name="Timeline").click()
    story = page.locator(".event")
    await expect(story.first).to_contain_text("Command failed with exit code 0")
    await expect(story.last).to_contain_text("Agent enrolled from web-01")
    await page.get_by_role("button", name="Failures").click()
    await expect(story).to_have_count(1)
    await story.get_by_role("button", name="The event itself").click()
    shown = json.loads((await story.locator("pre").text_content()) or "")
    assert (shown["type"], shown["stream_id"]) == ("CommandFailed", command_id)
    assert await tab.serious_faults() == []
    await story.get_by_role("button", name="Command failed").click()
    await expect(page.get_by_role("dialog", name="Command")).to_contain_text("It printed nothing.")
    await expect(page).to_have_url(re.compile(command_id))
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0


async def test_an_entry_is_changed_moved_suspended_and_filled_in(tab: Tab, fleet: Fleet) -> None:
    """Whoever may, does it from the page; what it means is said before, and custom fields take what they hold."""
    agent_id = await fleet.agent("web-01")
    await fleet.http.post("/clients", json={"name": "Umbrella"})
    for name, terms in (
        ("Rack", {"kind": "number", "on": ["agent"], "required": True}),
        ("Owners", {"kind": "multiple", "on": ["agent"], "choices": ["ops", "dev"]}),
        ("Of_sites", {"kind": "text", "on": ["site"]}),
    ):
        await fleet.http.post("/fields", json={"name": name, "terms": terms})
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page

    async def act(name: str) -> None:
        await page.get_by_text("Change", exact=True).click()
        await page.get_by_role("button", name=name).click()

    card = page.locator("section", has=page.get_by_role("heading", name="Custom fields"))
    await expect(card).to_contain_text("to be filled in")
    await expect(card).not_to_contain_text("Of_sites")
    await card.get_by_role("button", name="Fill in").click()
    await card.get_by_label("Rack").fill("12.5")
    await card.get_by_label("dev").check()
    assert await tab.serious_faults() == []
    await card.get_by_role("button", name="Save").click()
    await expect(card).to_contain_text("12.5")
    filled = (await fleet.http.get(f"/agents/{agent_id}/fields")).json()["values"]
    assert filled == {"rack": 12.5, "owners": ["dev"]}

    await act("Rename")
    await page.get_by_role("textbox", name="Name").fill("web-one")
    assert await tab.serious_faults() == []
    await page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    await expect(page.get_by_role("heading", name="web-one")).to_be_visible()
    await act("Tags")
    await page.get_by_role("textbox", name="Tags").fill("prod, eu prod")
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()
    await expect(page.get_by_role("link", name="prod")).to_be_visible()
    await act("Suspend")
    await expect(page.get_by_role("dialog")).to_contain_text("goes on waiting")
    await page.get_by_role("dialog").get_by_role("button", name="Suspend").click()
    await expect(page.get_by_text("suspended", exact=True)).to_be_visible()
    await act("Retire")
    fleet.api.clock.ahead += timedelta(minutes=11)
    await page.get_by_role("dialog").get_by_role("button", name="Retire for good").click()
    await tab.show_it_is_me()
    await expect(page.get_by_text("Change", exact=True)).to_have_count(0)
    state = (await fleet.http.get(f"/agents/{agent_id}")).json()
    assert (state["state"], state["tags"]) == ("retired", ["eu", "prod"])


async def test_of_two_with_one_identity_one_is_chosen_and_its_key_changed(tab: Tab, fleet: Fleet) -> None:
    """Which is connected and which is shut out stands there; one click asks, the next settles it."""
    agent_id = await fleet.agent("web-01")
    one, two = (Sighting(address="192.0.2.1", hostname=name, machine=name, instance=name) for name in ("old", "new"))
    notices, ids = DuplicateNotices(fleet.api.log, new_id), (AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id)))
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await expect(page.get_by_role("heading", name="web-01")).to_be_visible()
    await notices.noticed(*ids, one, two, "gateway-1")
    notice = page.get_by_role("alert")
    await expect(notice).to_contain_text("Two machines have this identity")
    assert await tab.serious_faults() == []
    await notice.get_by_role("button", name="new takes its place").click()
    dialog = page.get_by_role("dialog", name="Which one is web-01?")
    await dialog.get_by_label("Why").fill("the new disk")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await dialog.get_by_role("button", name="Settle it").click()
    await expect(notice).to_have_count(0)
    story = (await fleet.http.get(f"/agents/{agent_id}/timeline")).json()["items"]
    assert (story[0]["type"], story[0]["data"]) == (
        "AgentDuplicateSettled",
        {"stays": "newcomer", "reason": "the new disk"},
    )
    await page.get_by_text("Change", exact=True).click()
    await page.get_by_role("button", name="Give it another key").click()
    fleet.api.clock.ahead += timedelta(minutes=11)
    await page.get_by_role("button", name="Have it make one").click()
    await tab.show_it_is_me()
    await expect(page.get_by_text("makes itself another key")).to_be_visible()
    (waiting,) = (await fleet.http.get(f"/agents/{agent_id}/queue")).json()["items"]
    assert waiting["spec"]["kind"] == "rotate_key"


async def test_how_busy_a_machine_was_is_drawn_and_said(tab: Tab, fleet: Fleet) -> None:
    """Three lines, with the same in words for who does not see them; a span without samples says that."""
    agent_id, now = await fleet.agent("web-01"), datetime.now(UTC)
    telemetry = Telemetry(fleet.api.pool, lambda: now)
    told = [
        Sample(at=now - timedelta(minutes=90 + n), cpu_percent=10 * n, memory_percent=40, disk_percent=70)
        for n in range(10)
    ]
    telemetry.add(AgentId(UUID(agent_id)), told)
    await telemetry.flush()
    new = await fleet.agent("web-02")
    telemetry.add(AgentId(UUID(new)), [Sample(at=now - timedelta(minutes=5), cpu_percent=1)])
    await telemetry.flush()
    await tab.logged_in(path=f"/agents/{new}")
    page = tab.page
    await expect(page.get_by_role("button", name="Hour", exact=True)).to_have_attribute("aria-pressed", "true")
    await expect(page.locator(".graph", has_text="Processor")).to_contain_text("most of each step")
    await page.goto(f"/agents/{agent_id}")
    await expect(page.get_by_role("button", name="Day", exact=True)).to_have_attribute("aria-pressed", "true")
    await expect(page.get_by_role("img", name="Memory: 40 % last, 40 % on average, 40 % at the most")).to_be_visible()
    await expect(page.get_by_role("img", name=re.compile("Processor: 5 % last, .* 90 % at the most"))).to_be_visible()
    await expect(page.locator(".graph canvas")).to_have_count(3)
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Hour", exact=True).click()
    await expect(page.get_by_text("Nothing is known of that time")).to_be_visible()
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.get_by_role("button", name="Day", exact=True).click()
    await expect(page.locator(".graph canvas")).to_have_count(3)
    assert await tab.sideways() == 0


async def test_notes_are_written_changed_and_removed(tab: Tab, fleet: Fleet) -> None:
    """What one writes, another sees at once; the machine's own page is where it is changed and taken away."""
    agent_id = await fleet.agent("web-07")
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    notes = page.get_by_role("region", name="Notes")
    await expect(notes).to_contain_text("Nobody has written one.")
    await notes.get_by_role("button", name="Write one").click()
    await notes.get_by_label("New note").fill("the fan rattles")
    assert await tab.serious_faults() == []
    await notes.get_by_role("button", name="Save").click()
    await expect(notes.get_by_role("listitem")).to_contain_text("the fan rattles")
    await expect(notes.get_by_role("listitem")).to_contain_text("Ada")
    await fleet.http.post(f"/agents/{agent_id}/notes", json={"text": "replace it in May"})
    await expect(notes.get_by_role("listitem")).to_have_count(2)
    newest = notes.get_by_role("listitem").first
    await newest.get_by_role("button", name="Change").click()
    await notes.get_by_label("Note", exact=True).fill("replace it in June")
    await notes.get_by_role("button", name="Save").click()
    await expect(newest).to_contain_text("replace it in June")
    await expect(newest).to_contain_text("changed by Ada")
    assert await tab.serious_faults() == []
    await newest.get_by_role("button", name="Remove").click()
    await newest.get_by_role("button", name="Remove it").click()
    await expect(notes.get_by_role("listitem")).to_have_count(1)


async def test_a_machine_is_seen_as_it_was(tab: Tab, fleet: Fleet) -> None:
    """A slider goes back over its story, the address keeps the moment, and nothing can be done to the past."""
    agent_id = await fleet.agent("web-01")
    await tell(fleet, agent_id, os="Debian GNU/Linux 12", memory_bytes=8 << 30)
    command_id = await fleet.command(agent_id)
    then = await fleet.api.log.head()
    await fleet.accept(agent_id, command_id)
    await fleet.finish(agent_id, command_id)
    await tell(fleet, agent_id, os="Debian GNU/Linux 13", memory_bytes=16 << 30)
    await fleet.http.put(f"/agents/{agent_id}/name", json={"name": "db-01"})
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await expect(page.get_by_text("Debian GNU/Linux 13", exact=True)).to_be_visible()
    await page.keyboard.press("t")
    look = page.get_by_role("region", name="Look back")
    await expect(look).to_contain_text("Now.")
    before = look.get_by_role("button", name="The event before")
    await before.click()
    await expect(page).to_have_url(re.compile(r"[?&]at=\d+"))
    await expect(look).to_contain_text("Agent renamed")
    await page.goto(f"/agents/{agent_id}?at={then}")
    await expect(look).to_contain_text("As of")
    await expect(page.get_by_role("heading", name="web-01")).to_be_visible()
    await expect(page.get_by_text("8.0 GB")).to_be_visible()
    await expect(page.get_by_text("Run…")).to_have_count(0)
    await expect(page.get_by_text("Change", exact=True)).to_have_count(0)
    await page.get_by_role("tab", name="Pending").click()
    await expect(page.get_by_role("cell", name="ping")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert await tab.serious_faults() == []
    await page.get_by_role("tab", name="Timeline").click()
    await expect(page.locator(".event").first).to_contain_text("queued")
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await look.get_by_role("button", name="The event after").click()
    await expect(page.locator(".event").first).to_contain_text("delivered")
    await page.get_by_role("slider", name="Moment").press("Home")
    await expect(page.locator(".event")).to_have_count(1)
    first = page.locator(".event")
    await first.get_by_role("button", name="The event itself").click()
    await first.get_by_role("button", name="The machine as of here").click()
    await expect(page.get_by_role("tab", name="Summary")).to_have_attribute("aria-selected", "true")
    await look.get_by_role("button", name="Back to now").click()
    await expect(page.get_by_role("heading", name="db-01")).to_be_visible()
    await page.get_by_role("slider", name="Moment").press("Home")
    await expect(page).to_have_url(re.compile(r"[?&]at=\d+"))
    await page.keyboard.press("End")
    await expect(look).to_contain_text("Now.")


async def test_a_long_output_is_followed_searched_and_downloaded(tab: Tab, fleet: Fleet, tmp_path: Path) -> None:
    """It follows what is new until somebody scrolls up; what is looked for is found; all of it is a file."""
    agent_id = await fleet.agent("web-01")
    command_id = await fleet.command(agent_id)
    await fleet.accept(agent_id, command_id)
    await fleet.start(agent_id, command_id)
    await tab.logged_in(path=f"/agents/{agent_id}?tab=queue")
    page = tab.page
    await page.get_by_role("button", name="ping").click()
    dialog = page.get_by_role("dialog", name="Command")
    log = dialog.get_by_role("log")
    await expect(dialog).to_contain_text("Nothing printed yet.")
    out = b"".join(b"line %d%s\n" % (number, b" needle" if number % 100 == 7 else b"") for number in range(300))
    half = len(out) // 2

    def say(begin: int, end: int) -> None:
        fleet.api.live.say(
            OutputLive(command_id=UUID(command_id), attempt=1, stream="stdout", offset=begin, data=out[begin:end])
        )

    say(0, half)
    follow = dialog.get_by_role("button", name="Following")
    await expect(follow).to_have_attribute("aria-pressed", "true")
    await expect(log.get_by_text("line 150", exact=True)).to_be_in_viewport()
    await log.evaluate("one => { one.scrollTop = 0 }")
    follow = dialog.get_by_role("button", name="Follow", exact=True)
    await expect(follow).to_have_attribute("aria-pressed", "false")
    say(half, len(out))
    await expect(dialog).to_contain_text("300 lines")
    await expect(log.get_by_text("line 0", exact=True)).to_be_in_viewport()
    await follow.click()
    await expect(log.get_by_text("line 299", exact=True)).to_be_in_viewport()
    find = dialog.get_by_label("Find in output")
    await find.fill("NEEDLE")
    await expect(dialog).to_contain_text("1 of 3 lines")
    await find.press("Enter")
    await expect(dialog).to_contain_text("2 of 3 lines")
    await expect(log.get_by_text("line 107 needle")).to_be_in_viewport()
    await find.fill("haystack")
    await expect(dialog).to_contain_text("not found")
    told = StreamReport(size=len(out), sha256=hashlib.sha256(out).hexdigest(), inline=zlib.compress(out))
    await OutputStore(fleet.api.pool).put_inline([told])
    await fleet.finish(agent_id, command_id, stdout=told)
    async with page.expect_download() as found:
        await dialog.get_by_role("link", name=re.compile("Download stdout")).click()
    await (await found.value).save_as(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == out
