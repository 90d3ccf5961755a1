"""The log, as it grows."""

import re

from playwright.async_api import expect

from command_bus.ids import new_id
from domain.clients import Client
from domain.event import Metadata
from tests.browser.harness import Tab
from tests.browser.machines import come
from tests.rest.harness import Fleet, made
from tests.rest.test_rollouts import settle


async def test_what_happens_shows_as_it_happens_and_why_it_did(tab: Tab, fleet: Fleet) -> None:
    """New lines come by themselves, by kind; each leads to its story and to where it began; holding keeps still."""
    agent_id = await fleet.agent("web-01")
    await tab.logged_in(path="/activity?kind=commands")
    page = tab.page
    story = page.locator(".event")
    await expect(page.get_by_role("heading", name="Nothing of that kind has happened")).to_be_visible()
    command_id = await fleet.command(agent_id)
    await expect(story).to_have_count(1)
    await expect(story.first.get_by_role("link", name="web-01")).to_have_attribute("href", f"/agents/{agent_id}")
    await fleet.http.put(f"/agents/{agent_id}/name", json={"name": "other"})
    await fleet.accept(agent_id, command_id)
    await fleet.finish(agent_id, command_id)
    await expect(story.first).to_contain_text("Command succeeded")
    await expect(page.get_by_text("renamed")).to_have_count(0)
    assert await tab.serious_faults() == []
    await story.first.get_by_role("button", name="The event itself").click()
    await page.get_by_role("link", name="Why it happened").click()
    await expect(page.get_by_text("Command queued: ping.")).to_be_visible()
    await expect(page.get_by_text("Begun by")).to_be_visible()
    assert await tab.serious_faults() == []
    await page.get_by_role("link", name="All of this story").click()
    await expect(page).to_have_url(re.compile("story="))
    await expect(story.last).to_contain_text("Command queued")
    await page.get_by_role("button", name="Hold").click()
    count = await story.count()
    await fleet.command(agent_id)
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    assert await story.count() == count


async def test_the_log_is_narrowed_by_whom_when_and_what_was_said(tab: Tab, fleet: Fleet) -> None:
    """Client, machine, time and words, all in the address; what happens meanwhile joins only where it fits."""
    first, second = [await fleet.agent(name) for name in ("web-01", "web-02")]
    other = await Fleet.make(fleet.api, fleet.http, "Globex")
    elsewhere = await other.agent("db-01")
    for agent_id, name in ((first, "front"), (second, "back"), (elsewhere, "store")):
        await fleet.http.put(f"/agents/{agent_id}/name", json={"name": name})
    await tab.logged_in(path="/activity?kind=machines")
    page = tab.page
    renamed = page.locator(".event", has_text="enamed")
    await expect(renamed).to_have_count(3)
    await page.get_by_text("By client, machine, time or text").click()
    await page.get_by_label("Client", exact=True).select_option(label="Acme")
    await expect(renamed).to_have_count(2)
    await page.get_by_label("Machine", exact=True).fill("front")
    await page.get_by_role("main").get_by_role("button", name="front", exact=True).click()
    await expect(renamed).to_have_count(1)
    assert await tab.serious_faults() == []
    await page.reload()
    await expect(renamed).to_have_count(1)
    await page.get_by_role("button", name="Take out front").click()
    await page.get_by_label("Client", exact=True).select_option(label="All clients")
    # A blank at the end is no other word, and the box follows the address back and forth.
    before = await page.evaluate("history.length")
    await page.get_by_label("Says").press_sequentially("BACK ")
    await expect(page).to_have_url(re.compile("q=BACK"))
    await expect(page.locator(".event")).to_have_count(1)
    await expect(page.get_by_role("link", name="Export")).to_have_attribute("href", re.compile("q=BACK"))
    assert await page.evaluate("new Promise(done => setTimeout(() => done(history.length), 700))") == before + 1
    await page.go_back()
    await expect(page.get_by_label("Says")).to_have_value("")
    await page.go_forward()
    await expect(page.get_by_label("Says")).to_have_value("BACK")
    await expect(page.locator(".event")).to_have_count(1)
    await fleet.http.put(f"/agents/{first}/name", json={"name": "other"})
    await fleet.http.put(f"/agents/{second}/name", json={"name": "back again"})
    await expect(page.locator(".event")).to_have_count(2)
    await page.get_by_label("Says").fill("")
    await page.get_by_label("Until").fill("2020-01-01T00:00")
    await expect(page.get_by_role("heading", name="Nothing of that kind has happened")).to_be_visible()
    await page.get_by_label("Until").fill("")
    await page.get_by_label("From", exact=True).fill("2020-01-01T00:00")
    await expect(renamed).to_have_count(5)
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0


async def test_what_led_to_an_event_and_what_followed_are_drawn_as_a_tree(tab: Tab, fleet: Fleet) -> None:
    """From its own address: above it what it came of, below it what came of it, each a link; as it goes on."""
    agent_id = await fleet.agent("web-01")
    body = {"name": "Nightly", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    rollout = await made(fleet.http, "/rollouts", body)
    await settle(fleet.api, fleet)
    (member,) = (await fleet.http.get(f"/rollouts/{rollout['id']}/agents")).json()["items"]
    story = (await fleet.http.get(f"/commands/{member['command_id']}/events")).json()["items"]
    await tab.logged_in(path=f"/activity/{story[0]['position']}")
    page = tab.page
    tree = page.get_by_role("list", name="Causes and effects")
    started = tree.locator("li").filter(has_text="Nightly").first
    queued = started.locator("li").filter(has_text="queued").filter(has_text="this event").first
    await expect(queued.get_by_text("this event")).to_be_visible()
    await expect(page.get_by_text("Nothing has followed from it so far.")).to_be_visible()
    await fleet.accept(agent_id, member["command_id"])
    await fleet.finish(agent_id, member["command_id"])
    below = queued.locator("ol.tree").first
    await expect(below).to_contain_text("Command succeeded")
    await expect(below.get_by_text("then ·").first).to_be_visible()
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await started.get_by_role("link", name=re.compile("^event")).first.click()
    await expect(tree.get_by_text("this event")).to_be_visible()
    await expect(tree.locator("[aria-current]")).to_contain_text("Nightly")
    await expect(tree).to_contain_text("Command succeeded")
    await expect(page).to_have_title(re.compile(r"^Event \d+ · Fleetlog"))
    await page.goto("/activity/abc")
    await expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


async def test_what_comes_while_it_is_held_is_counted_and_then_there(tab: Tab, fleet: Fleet) -> None:
    """Nothing is missing after a pause, nor where more comes than is shown; a gateway's own name hides no other."""
    agent_id = await fleet.agent("web-01")
    await come(fleet, agent_id)
    await tab.logged_in(path="/activity")
    page = tab.page
    story = page.locator(".event")
    await expect(story.filter(has_text="came online").get_by_role("link", name="web-01")).to_be_visible()
    await expect(story.filter(has_text="came online")).to_contain_text("gateway test")
    await page.get_by_role("button", name="Hold").click()
    count = await story.count()
    await fleet.command(agent_id)
    await fleet.command(agent_id, not_before="2100-01-01T12:00:00Z")
    await expect(page.get_by_text("2 more since then.")).to_be_visible()
    assert await story.count() == count
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Go on").click()
    await expect(story).to_have_count(count + 2)
    await expect(page.get_by_text("since then")).to_have_count(0)
    # By the viewer's own clock, with the log's beside it.
    await expect(story.first.locator("time[title='2100-01-01 12:00:00 UTC']")).to_contain_text("2100")
    await expect(story.first).not_to_contain_text("12:00:00 UTC:")
    names = [Client(new_id()).create(f"c{number}") for number in range(510)]
    await fleet.api.log.append_bulk(names, Metadata(actor="system", correlation_id=new_id()))
    await expect(page.get_by_text("10 more since then.")).to_be_visible()
    await page.get_by_role("button", name="Load them").click()
    await expect(story.first).to_contain_text("c509")
    shown = await page.get_by_role("button", name="The event itself").all()
    places = [int(((await one.get_attribute("aria-label")) or "").split()[-1]) for one in shown]
    assert places == list(range(places[0], places[0] - len(places), -1))
