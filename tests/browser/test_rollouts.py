"""Rollouts: begun from the fleet, watched and steered."""

import hashlib
import zlib

from playwright.async_api import expect

from gateways.agents.outputs import OutputStore
from schema.wire import StreamReport
from tests.browser.harness import Tab
from tests.browser.machines import tell
from tests.rest.harness import Fleet, made
from tests.rest.test_rollouts import settle


async def test_a_rollout_is_watched_and_ended_by_hand(tab: Tab, fleet: Fleet) -> None:
    """Begun from what is selected; what comes of it shows as it comes; aborting asks once more."""
    for name in ("web-01", "web-02"):
        await fleet.agent(name)
    await tab.logged_in()
    page = tab.page
    for name in ("web-01", "web-02"):
        await page.get_by_label(f"Select {name}").click()
    await page.get_by_role("button", name="Run").click()
    await page.get_by_label("Line").fill("uname -a")
    await page.get_by_role("button", name="Queue for 2").click()
    await expect(page.get_by_role("heading", name="uname -a")).to_be_visible()
    await expect(page.get_by_role("region", name="Progress")).to_contain_text("2 machines")
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("button", name="Resume")).to_be_visible()
    await page.get_by_role("button", name="Abort").click()
    state = (await fleet.http.get("/rollouts")).json()["items"][0]["state"]
    assert state == "paused", "the first click asks"
    await page.get_by_role("button", name="Abort: cancel what is queued").click()
    await expect(page.get_by_role("main")).to_contain_text("aborted")
    await expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0


async def test_the_list_shows_how_far_each_is(tab: Tab, fleet: Fleet) -> None:
    """By state, with a bar that says its figures in words; one that somebody else begins joins the list."""
    await fleet.agent("web-01")
    await tab.logged_in(path="/rollouts")
    page = tab.page
    await expect(page.get_by_role("heading", name="There is no rollout yet")).to_be_visible()
    body = {"name": "Nightly", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    await made(fleet.http, "/rollouts", body)
    row = page.get_by_role("row", name="Nightly")
    await expect(row).to_contain_text("running")
    await expect(row.get_by_role("img", name="1 waiting")).to_be_visible()
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="completed").click()
    await expect(page.get_by_role("heading", name="None is in that state")).to_be_visible()


async def test_an_open_rollout_is_closed(tab: Tab, fleet: Fleet) -> None:
    """It says until when others join it; closed, nobody does, and those that are in it go on."""
    await fleet.agent("web-01")
    target = {"include": {"everything": True}}
    body = {"name": "Nightly", "target": target, "spec": {"kind": "ping"}, "joins_within_s": 3600}
    rollout = await made(fleet.http, "/rollouts", body)
    await tab.logged_in(path=f"/rollouts/{rollout['id']}")
    page = tab.page
    await expect(page.get_by_role("region", name="Progress")).to_contain_text("open for others until")
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Let nobody join any more").click()
    await expect(page.get_by_role("button", name="Let nobody join any more")).to_have_count(0)
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    shown = (await fleet.http.get(f"/rollouts/{rollout['id']}")).json()
    assert (shown["open_until"], shown["state"]) == (None, "running")


async def test_why_it_failed_and_who_was_left_out_are_said(tab: Tab, fleet: Fleet) -> None:
    """Of what failed the errors are shown and not what it printed; a filter that leaves somebody out is named."""
    agents = [await fleet.agent(name) for name in ("web-01", "web-02")]
    for agent_id, cores in zip(agents, (4, 2), strict=True):
        await tell(fleet, agent_id, cpu_count=cores)
    target = {"include": {"agents": agents, "filter": "facts.cpu_count > 2"}}
    body = {"name": "Nightly", "target": target, "spec": {"kind": "ping"}}
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await tab.api.log.head())
    rollout = await made(fleet.http, "/rollouts", body)
    await settle(tab.api, fleet)
    (member,) = (await fleet.http.get(f"/rollouts/{rollout['id']}/agents")).json()["items"]

    def stream(text: bytes) -> StreamReport:
        told = {"size": len(text), "sha256": hashlib.sha256(text).hexdigest(), "tail": text}
        return StreamReport(**told, inline=zlib.compress(text))

    said = {"stdout": stream(b"copying 3 files\n"), "stderr": stream(b"first\nno space left on device\n")}
    await OutputStore(fleet.api.pool).put_inline(said.values())
    await fleet.finish(member["agent_id"], member["command_id"], "failed", **said)
    await tab.logged_in(path=f"/rollouts/{rollout['id']}")
    outcomes = tab.page.get_by_role("region", name="Outcomes")
    await expect(outcomes.get_by_role("row", name="failed")).to_contain_text("Show it")
    await expect(outcomes).not_to_contain_text("no space")
    await outcomes.get_by_role("button", name="And by output").click()
    await expect(outcomes.get_by_role("button", name="no space left on device")).to_be_visible()
    await expect(outcomes).not_to_contain_text("copying")
    await expect(
        tab.page.get_by_text("1 left out: the filter does not hold of them (facts.cpu_count > 2)")
    ).to_be_visible()
    assert await tab.serious_faults() == []
    machines = tab.page.get_by_role("region", name="Machines")
    row = machines.get_by_role("row", name="web-01")
    await expect(row).to_contain_text("failed")
    await tab.page.set_viewport_size({"width": 1280, "height": 560})
    await row.get_by_role("button", name="Output").click()
    dialog = tab.page.get_by_role("dialog", name="Command")
    for words in ("copying 3 files", "no space left on device"):
        await expect(dialog.get_by_role("log").get_by_text(words)).to_be_in_viewport()
    await tab.page.keyboard.press("Escape")
    await machines.get_by_role("button", name="Retry 1 that failed").click()
    await expect(row).to_contain_text("try 2")


async def test_its_machines_are_listed_by_state_wave_and_site(tab: Tab, fleet: Fleet) -> None:
    """What failed comes first, with a retry; each leads to its machine and its output, and the address keeps which."""
    annex = await made(fleet.http, f"/clients/{fleet.client_id}/sites", {"name": "Annex"})
    there = Fleet(fleet.api, fleet.http, fleet.client_id, annex["id"])
    agents = [await fleet.agent("web-01"), await there.agent("db-01"), await there.agent("db-02")]
    waves = {"waves": [{"count": 2}]}
    body = {"name": "Nightly", "target": {"include": {"agents": agents}}, "spec": {"kind": "ping"}, **waves}
    rollout = await made(fleet.http, "/rollouts", body)
    await settle(tab.api, fleet)
    members = (await fleet.http.get(f"/rollouts/{rollout['id']}/agents")).json()["items"]
    for one in members:
        if one["state"] == "queued":
            outcome = "failed" if one["agent"] == "web-01" else "succeeded"
            await fleet.finish(one["agent_id"], one["command_id"], outcome)
    await tab.logged_in(path=f"/rollouts/{rollout['id']}")
    page = tab.page
    machines = page.get_by_role("region", name="Machines")
    rows = machines.get_by_role("rowheader")
    failed = sum(one["agent"] == "web-01" and one["state"] == "queued" for one in members)
    if failed:
        await expect(rows).to_have_text(["web-01"])
    await machines.get_by_role("button", name="All 3").click()
    await expect(rows).to_have_count(3)
    await machines.get_by_label("Wave").select_option(label="Wave 2")
    await expect(rows).to_have_count(1)
    await machines.get_by_label("Wave").select_option(label="Every wave")
    await machines.get_by_label("Site").select_option(label="Acme / Annex")
    await expect(rows).to_have_count(2)
    assert await tab.serious_faults() == []
    await page.reload()
    await expect(rows).to_have_count(2)
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await machines.get_by_label("Site").select_option(label="Every site")
    await rows.get_by_role("link", name="web-01").click()
    await expect(page.get_by_role("heading", name="web-01")).to_be_visible()


async def test_how_it_goes_is_said_before_it_begins(tab: Tab, fleet: Fleet) -> None:  # noqa: PLR0915 - one dialog, filled in
    """Waves, limits, guard and hours are what the rollout has; placeholders are completed; what is wrong is named."""
    for name in ("web-01", "web-02"):
        # Hours are by a machine's own clock: one that does not tell its zone would be left out.
        await tell(fleet, await fleet.agent(name), timezone="Europe/Berlin", machine_type="server")
    await tab.logged_in()
    page = tab.page
    for name in ("web-01", "web-02"):
        await page.get_by_label(f"Select {name}").click()
    await page.get_by_role("button", name="Run").click()
    await expect(page.get_by_text("0 online now, 2 get it when they return")).to_be_visible()
    line = page.get_by_label("Line", exact=True)
    await line.press_sequentially("echo {{agent.ho")
    await expect(page.get_by_role("option", name="agent.hostname")).to_be_visible()
    assert await tab.serious_faults() == []
    await line.press("Enter")
    await expect(line).to_have_value("echo {{agent.hostname}}")
    await line.press_sequentially(" {{")
    await line.press("Escape")
    await expect(page.get_by_role("listbox", name="Placeholders").first).to_be_hidden()
    await line.fill("echo {{agent.hostname}}")
    await page.get_by_text("How it goes").click()
    await page.get_by_label("Waves", exact=True).fill("some, 50%")
    await page.get_by_label("At most at a time").fill("7")
    await page.get_by_label("At most a minute").fill("30")
    await page.get_by_label("Stop if more percent fail than").fill("20")
    await page.get_by_label("and then").select_option(label="abort")
    await page.get_by_label("Only from").fill("22:00")
    await page.get_by_label("to", exact=True).fill("04:00")
    await page.get_by_label("Saturday").check()
    assert await tab.serious_faults() == []
    await page.get_by_role("button", name="Queue for 2").click()
    await expect(page.get_by_role("alert")).to_contain_text("some is neither a number")
    await page.get_by_label("Waves", exact=True).fill("1, 50%")
    await page.get_by_text("Options: name").click()
    await page.get_by_label("Called").fill("Say hello")
    await page.get_by_label("A wave is done when").fill("60")
    await page.get_by_label("Stop if more percent time out than").fill("30")
    await page.get_by_label("Stop if more percent do not answer than").fill("40")
    await page.get_by_label("within minutes").fill("5")
    await page.get_by_label("Judge once so many have ended").fill("3")
    await page.get_by_text("For whom: 2 machines").click()
    await page.get_by_text("Only some of these").click()
    await page.get_by_label("Type").select_option(label="servers")
    await page.get_by_label("Whose facts say").fill('facts.timezone = "Europe/Berlin"')
    await expect(page.get_by_text("For whom: some of 2 machines")).to_be_visible()
    assert await tab.serious_faults() == []
    await page.get_by_label("Between waves").select_option(label="it waits for you")
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await page.get_by_role("button", name="Queue for 2").click()
    await expect(page.get_by_role("region", name="Progress")).to_be_visible()
    (kept,) = (await fleet.http.get("/rollouts")).json()["items"]
    assert kept["limits"] == {"in_flight": 7, "per_minute": 30}
    assert kept["name"] == "Say hello"
    assert kept["guard"] == {
        "max_failed_percent": 20,
        "max_timed_out_percent": 30,
        "max_unanswered_percent": 40,
        "answer_within_s": 300,
        "min_ended": 3,
        "action": "abort",
    }
    include = kept["target"]["include"]
    assert (include["machine_types"], include["filter"]) == (["server"], 'facts.timezone = "Europe/Berlin"')
    shown = (await fleet.http.get(f"/rollouts/{kept['id']}")).json()
    assert {wave["finished_percent"] for wave in shown["waves"][:2]} == {60}
    assert sum(kept["wave_sizes"]) == 2
    hours = kept["order"]["hours"]
    assert (hours["begins"], hours["ends"], hours["days"]) == ("22:00", "04:00", ["sat"])
    assert kept["order"]["spec"]["line"] == "echo {{agent.hostname}}"


async def test_a_bar_and_a_line_of_the_log_say_their_state_without_colour(tab: Tab, fleet: Fleet) -> None:
    """Each state of a bar has a pattern of its own and stands below it as shape and figure; events have shapes."""
    agents = [await fleet.agent(name) for name in ("web-01", "web-02", "web-03")]
    body = {"name": "Nightly", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    rollout = await made(fleet.http, "/rollouts", body)
    await settle(fleet.api, fleet)
    members = (await fleet.http.get(f"/rollouts/{rollout['id']}/agents")).json()["items"]
    commands = {one["agent_id"]: one["command_id"] for one in members}
    await fleet.finish(agents[0], commands[agents[0]])
    await fleet.finish(agents[1], commands[agents[1]], "failed")
    await tab.logged_in(path="/rollouts")
    page = tab.page
    row = page.get_by_role("row", name="Nightly")
    await expect(row.get_by_role("img", name="1 succeeded, 1 failed, 1 queued")).to_be_visible()
    for shape, said in (("tick", "1 succeeded"), ("cross", "1 failed"), ("clock", "1 queued")):
        state = row.locator(".status", has=page.locator(f'[data-shape="{shape}"]'), has_text=said)
        await expect(state).to_be_visible()
    grounds = await row.locator(".bar-part").evaluate_all(
        "parts => parts.map(one => getComputedStyle(one)).map(look => look.backgroundImage + look.borderTopWidth)"
    )
    assert len(set(grounds)) == len(grounds) == 3
    await page.goto("/activity?kind=commands")
    events = page.locator(".event")
    for shape, said in (("tick", "Command succeeded"), ("cross", "Command failed"), ("ring", "Command queued")):
        await expect(events.filter(has_text=said).first.locator(f'[data-shape="{shape}"]')).to_be_visible()


async def test_the_exact_moment_is_there_for_the_keyboard(tab: Tab, fleet: Fleet) -> None:
    """Whoever comes to a time by Tab reads the exact one, and the other again once they go on."""
    await fleet.agent("web-01")
    body = {"name": "Nightly", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    await made(fleet.http, "/rollouts", body)
    await tab.logged_in(path="/rollouts")
    page = tab.page
    time = page.get_by_role("row", name="Nightly").locator("time")
    await expect(time).to_have_text("now")
    exact = await time.get_attribute("title")
    await page.get_by_role("link", name="Nightly").focus()
    await page.keyboard.press("Tab")
    await expect(time).to_be_focused()
    await expect(time).to_have_text(exact or "none")
    await page.keyboard.press("Tab")
    await expect(time).not_to_have_text(exact or "none")


async def test_a_wave_says_where_it_is(tab: Tab, fleet: Fleet) -> None:
    """One of which enough have ended is over for the next one, and still says how many have not."""
    for number in range(4):
        await fleet.agent(f"web-{number}")
    waves = [{"count": 3, "finished_percent": 50, "manual": True}]
    body = {"name": "Nightly", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}, "waves": waves}
    rollout = await made(fleet.http, "/rollouts", body)
    await settle(fleet.api, fleet)
    members = (await fleet.http.get(f"/rollouts/{rollout['id']}/agents")).json()["items"]
    first = [one for one in members if one["wave"] == 1]
    await tab.logged_in(path=f"/rollouts/{rollout['id']}")
    shown = tab.page.get_by_role("region", name="Waves").get_by_role("listitem")
    await expect(shown.first).to_contain_text("3 machines, under way")
    await expect(shown.last).to_contain_text("1 machine, not begun")
    for one in first[:2]:
        await fleet.finish(one["agent_id"], one["command_id"])
    await settle(fleet.api, fleet)
    await expect(shown.first).to_contain_text("enough have ended; 1 not yet")


async def test_how_fast_it_goes_and_when_it_will_be_done_is_said(tab: Tab, fleet: Fleet) -> None:
    """Once some have ended there is a rate, and an estimate from it."""
    agents = [await fleet.agent(f"web-{number}") for number in range(4)]
    body = {"name": "Nightly", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    rollout = await made(fleet.http, "/rollouts", body)
    await settle(fleet.api, fleet)
    members = (await fleet.http.get(f"/rollouts/{rollout['id']}/agents")).json()["items"]
    commands = {one["agent_id"]: one["command_id"] for one in members}
    await tab.logged_in(path=f"/rollouts/{rollout['id']}")
    progress = tab.page.get_by_role("region", name="Progress")
    await expect(progress).to_contain_text("4 machines")
    await expect(progress.get_by_text("a minute")).to_have_count(0)
    for agent_id in agents[:2]:
        await fleet.finish(agent_id, commands[agent_id])
    await expect(progress).to_contain_text("a minute")
    await expect(progress).to_contain_text("if it goes on like that")
