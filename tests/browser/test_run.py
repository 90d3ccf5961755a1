"""What is run: on whom, when, and in which order."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from playwright.async_api import expect

from schema.wire import OutputLive
from tests.browser.harness import Tab
from tests.browser.machines import come, go
from tests.rest.harness import Fleet, made


async def test_a_command_waits_expires_and_goes_first_as_it_is_told(tab: Tab, fleet: Fleet) -> None:
    """Not before, expiry, priority and lane are what the command has; what is no lane is refused beforehand."""
    agent_id = await fleet.agent("web-01")
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await page.get_by_role("button", name="Run").first.click()
    dialog = page.get_by_role("dialog", name="Run on web-01")
    await dialog.get_by_label("Line", exact=True).fill("uptime")
    await dialog.get_by_text("When: not before").click()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(second=0, microsecond=0)
    browsers = await page.evaluate("-new Date().getTimezoneOffset()")
    await dialog.get_by_label("Not before").fill(f"{tomorrow + timedelta(minutes=browsers):%Y-%m-%dT%H:%M}")
    await dialog.get_by_label("Expires after hours").fill("2")
    await dialog.get_by_label("Priority").select_option(value="0")
    await dialog.get_by_label("Lane").fill("no lane")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Run", exact=True).click()
    assert (await fleet.http.get("/commands")).json()["items"] == []
    await dialog.get_by_label("Lane").fill("slow")
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await dialog.get_by_role("button", name="Run", exact=True).click()
    await expect(dialog).to_contain_text("It waits in the machine's queue")
    (kept,) = (await fleet.http.get("/commands")).json()["items"]
    assert (kept["priority"], kept["lane"]) == (0, "slow")
    assert datetime.fromisoformat(kept["not_before"]) == tomorrow
    assert datetime.fromisoformat(kept["expires_at"]) == tomorrow + timedelta(hours=2)


async def test_it_is_said_beforehand_when_it_begins(tab: Tab, fleet: Fleet) -> None:
    """At once; behind what waits in the lane; not before its time; once the machine is resumed; a retired one never."""
    agent_id = await fleet.agent("web-01")
    await come(fleet, agent_id)
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await page.get_by_role("button", name="Run").first.click()
    dialog = page.get_by_role("dialog", name="Run on web-01")
    await expect(dialog).to_contain_text("Online: it begins at once.")
    script = await made(fleet.http, "/scripts", {"name": "Clean up", "content": {"shell": "sh", "body": "true"}})
    first = await fleet.command(agent_id, spec={"kind": "run_script", "script_id": script["id"]})
    await expect(dialog).to_contain_text("Behind 1 more in the queue.")
    await dialog.get_by_text("When: not before").click()
    await dialog.get_by_label("Priority").select_option(value="4")
    await expect(dialog).to_contain_text("Online: it begins at once.")
    await dialog.get_by_label("Not before").fill("2999-01-01T00:00")
    await expect(dialog).to_contain_text("Not before in")
    await expect(dialog).not_to_contain_text("it begins at once")
    await page.keyboard.press("Escape")
    await page.get_by_role("tab", name="Pending").click()
    await page.get_by_role("button", name="Clean up, revision 1").click()
    await fleet.accept(agent_id, first)
    await fleet.start(agent_id, first)
    output = page.get_by_role("dialog", name="Command")
    await expect(output).to_contain_text("running")
    fleet.api.live.say(OutputLive(command_id=UUID(first), attempt=1, stream="stdout", offset=0, data=b"done\n"))
    await expect(output.get_by_text("1 line", exact=True)).to_be_visible()
    await page.keyboard.press("Escape")
    await fleet.http.post(f"/agents/{agent_id}/suspend", json={})
    await page.keyboard.press("r")
    await expect(dialog).to_contain_text("The machine is suspended")
    await page.keyboard.press("Escape")
    await fleet.http.post(f"/agents/{agent_id}/retire", json={})
    await expect(page.get_by_role("button", name="Run…")).to_have_count(0)
    await page.keyboard.press("r")
    await expect(dialog).to_have_count(0)


async def test_facts_are_collected_and_a_ping_is_sent(tab: Tab, fleet: Fleet) -> None:
    """From the machine's menu, and from the run dialog, which says of many how often each tries."""
    agents = [await fleet.agent(name) for name in ("web-01", "web-02")]
    await tab.logged_in(path=f"/agents/{agents[0]}")
    page = tab.page
    await page.get_by_text("Change", exact=True).click()
    await page.get_by_role("button", name="Collect facts…").click()
    await page.get_by_role("button", name="Collect", exact=True).click()
    await expect(page.get_by_text("web-01 tells of itself anew")).to_be_visible()
    (kept,) = (await fleet.http.get("/commands")).json()["items"]
    assert (kept["agent_id"], kept["spec"]["kind"]) == (agents[0], "collect_facts")
    await page.goto("/")
    for name in ("web-01", "web-02"):
        await page.get_by_label(f"Select {name}").click()
    await page.get_by_role("button", name="Run").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("tab", name="Facts, or a ping").click()
    await dialog.get_by_label("What").select_option(label="Ping")
    await dialog.get_by_text("More: tries, reason").click()
    await dialog.get_by_label("Tries at most").fill("3")
    await dialog.get_by_label("Seconds between tries").fill("5")
    await dialog.get_by_label("it failed").uncheck()
    await dialog.get_by_label("it was interrupted").check()
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Queue for 2").click()
    await expect(page.get_by_role("heading", name="Ping")).to_be_visible()
    (rollout,) = (await fleet.http.get("/rollouts")).json()["items"]
    assert rollout["order"]["spec"] == {"kind": "ping"}
    assert rollout["order"]["retry"] == {"max_attempts": 3, "on": ["timed_out", "interrupted"], "backoff_s": 5}


async def test_whom_it_is_for_is_changed_where_it_is_made_up(tab: Tab, fleet: Fleet) -> None:
    """By what matches, by sites and one by one; how many are online follows at once, however old one's proof is."""
    annex = (await made(fleet.http, f"/clients/{fleet.client_id}/sites", {"name": "Annex"}))["id"]
    first, second, _third = [await fleet.agent(name) for name in ("web-01", "web-02", "db-01")]
    elsewhere = await Fleet(fleet.api, fleet.http, fleet.client_id, annex).agent("shed-01")
    await come(fleet, first)
    await tab.logged_in(path=f"/agents/{first}")
    fleet.api.clock.ahead += timedelta(minutes=11)
    page = tab.page
    await page.get_by_role("button", name="Run").first.click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Online: it begins at once.")
    await dialog.get_by_label("Line", exact=True).fill("uptime")
    await dialog.get_by_text("For whom: web-01").click()
    await dialog.get_by_label("And machine").fill("web")
    await dialog.get_by_role("button", name="web-02", exact=True).click()
    await expect(page.get_by_role("dialog", name="Run on 2 machines")).to_be_visible()
    await expect(dialog).to_contain_text("1 online now, 1 gets it when it returns")
    await come(fleet, second)
    await expect(dialog).to_contain_text("2 online now, 0 get it when they return")
    await go(fleet, first)
    await expect(dialog).to_contain_text("1 online now, 1 gets it when it returns")
    await dialog.get_by_label("All that match").fill("name:db")
    await expect(dialog).to_contain_text("There is no filter called name.")
    await dialog.get_by_label("All that match").fill("db os:linux")
    await expect(dialog).to_contain_text("1 online now, 2 get it when they return")
    await dialog.get_by_label("And all of site").select_option(label="Acme / Annex")
    await dialog.get_by_text("How it goes").click()
    await dialog.get_by_label("Waves", exact=True).fill("1")
    await expect(dialog).to_contain_text("1 online now, 3 get it when they return; in waves.")
    await dialog.get_by_text("Options: name").click()
    await dialog.get_by_label("Open for others, in hours").fill("2")
    await dialog.get_by_role("button", name="Take out web-01").click()
    await expect(dialog).to_contain_text("1 online now, 2 get it when they return")
    assert await tab.serious_faults() == []
    await dialog.get_by_text("When: not before").click()
    await dialog.get_by_label("Expires after hours").fill("0.5")
    await dialog.get_by_label("Priority").select_option(value="9")
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await dialog.get_by_role("button", name="Queue for 3").click()
    # However many may join, so that it asks who it is.
    await tab.show_it_is_me()
    await expect(page.get_by_role("region", name="Progress")).to_contain_text("3 machines")
    (kept,) = (await fleet.http.get("/rollouts")).json()["items"]
    assert kept["open_until"] is not None
    include = kept["target"]["include"]
    assert (include["agents"], include["sites"], include["matching"]["q"]) == ([second], [annex], "db")
    assert (kept["order"]["priority"], kept["order"]["expires_in_s"]) == (9, 1800)
    members = (await fleet.http.get(f"/rollouts/{kept['id']}/agents")).json()["items"]
    assert {one["agent_id"] for one in members} >= {second, elsewhere}


async def test_nobody_is_run_on_without_being_named(tab: Tab, fleet: Fleet) -> None:
    """Once all are taken out, nothing can be queued."""
    for name in ("web-01", "web-02"):
        await fleet.agent(name)
    await tab.logged_in()
    page = tab.page
    for name in ("web-01", "web-02"):
        await page.get_by_label(f"Select {name}").click()
    await page.get_by_role("button", name="Run").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Line", exact=True).fill("uptime")
    await dialog.get_by_text("For whom: 2 machines").click()
    await dialog.get_by_role("button", name="Take all of these out").click()
    await expect(dialog.get_by_role("button", name="Queue for 0")).to_be_disabled()
    await expect(dialog).to_contain_text("For whom: nobody yet")
