"""How quick the dashboard is in a browser over a large fleet: ``make figures`` prints one JSON object.

A platform of its own on a history of a hundred thousand machines and two million events, and Chromium on the same
machine: both share its cores, so what is shown here is more than a user sees whose browser has cores of its own.
``FIGURES_SCALE=0.01`` is a quick look.
"""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import Browser, BrowserContext, Page, expect

from command_bus.postgres_log import PostgresEventLog
from docs.screenshots import WAIT_MS, chromium, log_in
from gateways.bench.database import bench_database
from gateways.bench.history import FleetHistory, Machine
from gateways.bench.platform import Http, Running, running_platform
from gateways.bench.query import fill
from gateways.bench.result import BenchOptions
from gateways.cli.api import Api
from gateways.cli.profile import Profile
from gateways.dashboard.bundle import STATIC
from gateways.local.demo_login import make_login
from projections.tables import create_tables

AGENTS, EVENTS = 100_000, 2_000_000
ASKED = 200
LOADS = 15
TYPED = ("web-0001", "db-00", "desk-000")
UPDATES_PER_S = 1_000 / 60
RENAMED = 20
WATCHED_S = float(os.environ.get("FIGURES_WATCHED_S", "60"))
SETTLE_S = 900.0
FIRST_PAGE = "/api/v1/agents?limit=100&sort=name&retired=false"
DRAWN = "/api/v1/agents?limit=25&sort=name&retired=false"
"""Those whose rows a window of that height shows."""
PAGES = {
    "first_page": FIRST_PAGE,
    "by_pending": "/api/v1/agents?limit=100&sort=-pending&retired=false",
    "by_pending_up": "/api/v1/agents?limit=100&sort=pending&retired=false",
    "counts": "/api/v1/agents/counts?retired=false",
}
# When the first row is drawn, and how long each keystroke takes until the rows are those that were asked for.
WATCH = """
  const rows = () => [...document.querySelectorAll('.grid-room [role="row"]')];
  window.figures = { interactive: null, keys: [] };
  performance.setResourceTimingBufferSize(10_000);
  let typed = null;
  let looking = true;
  // Only while there is something to wait for: to look in each frame takes more than the page itself.
  addEventListener("input", (event) => {
    typed = event.target.value === "" ? null : { text: event.target.value, at: performance.now() };
    if (!looking) {
      looking = true;
      requestAnimationFrame(look);
    }
  }, true);
  const look = () => {
    const shown = rows();
    if (window.figures.interactive === null && shown.length > 0 && document.querySelector("input.input") !== null) {
      window.figures.interactive = performance.now();
    }
    const fits = (row) => row.textContent.includes(typed.text);
    const answered = (one) => one.startTime > typed.at && new URL(one.name).searchParams.get("q") === typed.text;
    if (typed !== null && shown.length > 0 && shown.every(fits) && !document.querySelector("[data-stale]") &&
        performance.getEntriesByType("resource").some(answered)) {
      window.figures.keys.push(performance.now() - typed.at);
      typed = null;
    }
    looking = window.figures.interactive === null || typed !== null;
    if (looking) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
"""


# When one person's click goes, and when a name is in the other's list; both by the machine's one clock.
CLICKED = """
  window.clicked = null;
  addEventListener("click", () => { window.clicked = performance.timeOrigin + performance.now(); }, true);
"""
SEEN = """(name) => {
  window.seen = null;
  const look = () => {
    const rows = [...document.querySelectorAll('.grid-room [role="row"]')];
    const there = rows.some((row) => row.textContent.includes(name));
    if (there) window.seen = performance.timeOrigin + performance.now();
    return there;
  };
  const watch = new MutationObserver(() => { if (look()) watch.disconnect(); });
  watch.observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1)


def both(name: str, values: list[float]) -> dict[str, float]:
    return {f"{name}_p50_ms": percentile(values, 50), f"{name}_p95_ms": percentile(values, 95)}


async def served(http: Http, path: str, times: int = ASKED) -> list[float]:
    """How long the server takes to answer, over one connection that stays open."""
    took = []
    for _ in range(times + times // 10):
        begun = time.perf_counter()
        await http.json("GET", path)
        took.append((time.perf_counter() - begun) * 1e3)
    return took[times // 10 :]


async def interactive(browser: Browser, url: str, state: Any) -> list[float]:
    """From the address to the first rows and a box that takes text, with nothing kept from before."""
    took = []
    for _ in range(LOADS):
        async with shown(browser, url, state) as page:
            took.append(float(await told(page, "window.figures.interactive")))
    return took


async def told(page: Page, expression: str) -> Any:
    """What an expression comes to, once that is anything; the page's policy allows no waiting within it."""
    async with asyncio.timeout(WAIT_MS / 1e3):
        while (value := await page.evaluate(expression)) in (None, False):  # noqa: ASYNC110 -- a poll
            await asyncio.sleep(0.02)
    return value


async def keystrokes(page: Page) -> list[float]:
    """From each key to the rows that fit what is typed by then."""
    box = page.get_by_label("Search machines")
    took: list[float] = []
    for text in TYPED:
        await box.fill("")
        await page.wait_for_timeout(1_000)
        for key in text:
            known = int(await page.evaluate("window.figures.keys.length"))
            await box.press_sequentially(key)
            took.append(float(await told(page, f"window.figures.keys[{known}] ?? null")))
    await box.fill("")
    return took


async def seen_by_another(browser: Browser, url: str, state: Any, agent_id: str) -> list[float]:
    """From one person's click on *Rename* to the new name in another's list, which is as large as the fleet."""
    took: list[float] = []
    async with shown(browser, url, state) as theirs, shown(browser, url, state) as ours:
        await expect(theirs.locator(".grid-room [role=row]").first).to_be_visible(timeout=WAIT_MS)
        await ours.goto(f"/agents/{agent_id}")
        for number in range(RENAMED + 1):
            # Before all others, so that its row is among those that are drawn.
            name = f"000-{number:03}"
            await ours.get_by_text("Change", exact=True).click()
            await ours.get_by_role("button", name="Rename").click()
            dialog = ours.get_by_role("dialog")
            await dialog.get_by_label("Name").fill(name)
            await theirs.evaluate(SEEN, name)
            await ours.evaluate(CLICKED)
            await dialog.locator("button[type=submit]").click()
            seen = float(await told(theirs, "window.seen"))
            took.append(seen - float(await told(ours, "window.clicked")))
            await expect(dialog).to_have_count(0)
    # The first one moves its row to the top.
    return took[1:]


async def busy(context: BrowserContext, page: Page, running: Running, machines: list[Machine]) -> dict[str, float]:
    """How much of one core the page takes, with nothing going on and with a thousand changes a minute of its rows.

    Of the processor time of its main thread, and of the whole process that draws it: layout and pixels included.
    """
    session = await context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})

    async def spent() -> dict[str, float]:
        metrics = (await session.send("Performance.getMetrics"))["metrics"]
        return {one["name"]: float(one["value"]) for one in metrics if one["name"] in ("TaskDuration", "ProcessTime")}

    async def over(seconds: float, name: str) -> dict[str, float]:
        before, begun = await spent(), time.perf_counter()
        await asyncio.sleep(seconds)
        took, now = time.perf_counter() - begun, await spent()
        return {
            f"{name}_percent": round((now["TaskDuration"] - before["TaskDuration"]) / took * 100, 1),
            f"{name}_process_percent": round((now["ProcessTime"] - before["ProcessTime"]) / took * 100, 1),
        }

    await page.get_by_label("Search machines").blur()
    await asyncio.sleep(3)
    found = await over(WATCHED_S / 4, "page_idle")
    made: list[float] = []
    changing = asyncio.create_task(change(running, machines, made))
    await asyncio.sleep(2)
    begun, before = time.perf_counter(), len(made)
    found |= await over(WATCHED_S, "page_changing")
    found["changes_a_minute"] = round((len(made) - before) / (time.perf_counter() - begun) * 60)
    changing.cancel()
    await asyncio.gather(changing, return_exceptions=True)
    return found


async def change(running: Running, machines: list[Machine], made: list[float]) -> None:
    """Give machines whose rows are drawn other tags, so many a second; notes when each was done."""
    async with Http(running.platform.api_url, running.key) as http:
        names = [one["id"] for one in (await http.json("GET", DRAWN))["items"]]
        due = time.perf_counter()
        for number, agent_id in enumerate(itertools.cycle(names or [str(one.agent_id) for one in machines])):
            await http.json("PUT", f"/api/v1/agents/{agent_id}/tags", {"tags": [f"t{number % 7}"]})
            made.append(time.perf_counter())
            due += 1 / UPDATES_PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


@asynccontextmanager
async def shown(browser: Browser, url: str, state: Any) -> AsyncIterator[Page]:
    """The fleet, in a browser that has kept nothing but the session."""
    context = await browser.new_context(base_url=url, storage_state=state, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(WAIT_MS)
    page = await context.new_page()
    await page.add_init_script(WATCH)
    await page.goto("/")
    yield page
    await context.close()


async def loaded(page: Page) -> dict[str, float]:
    """What the first page fetches, compressed as it comes."""
    entries = await page.evaluate(
        "performance.getEntriesByType('resource').map(one => [one.name, one.encodedBodySize])"
    )
    scripts = sum(size for name, size in entries if name.endswith(".js"))
    every = sum(file.stat().st_size for file in (Path(STATIC) / "assets").glob("*.js.gz"))
    return {"first_page_js_gzip_kb": round(scripts / 1e3, 1), "all_js_gzip_kb": round(every / 1e3, 1)}


async def settled(http: Http) -> None:
    """The history leaves machines online that do not exist; the gateway records that they are gone."""
    async with asyncio.timeout(SETTLE_S):
        while (await http.json("GET", "/api/v1/agents?online=true&limit=1"))["items"]:  # noqa: ASYNC110 -- a poll
            await asyncio.sleep(1)


async def measured(running: Running, backlogged: list[Machine], machines: list[Machine]) -> dict[str, float]:
    """All figures of one platform."""
    found: dict[str, float] = {}
    url = running.platform.api_url
    async with Http(url, running.key) as http:
        await settled(http)
        for name, path in PAGES.items():
            found |= both(name, await served(http, path))
        agent = f"/api/v1/agents/{backlogged[0].agent_id}"
        (last,) = (await http.json("GET", f"/api/v1/events?limit=1&backwards=true&agent_id={backlogged[0].agent_id}"))[
            "items"
        ]
        found |= both("machine_as_of_then", await served(http, f"{agent}?at={last['position']}", ASKED // 4))
        first_agent = (await http.json("GET", DRAWN))["items"][0]["id"]
    login = await asyncio.to_thread(lambda: make_login(Api(Profile(url, running.key))))
    async with chromium() as browser:
        context = await browser.new_context(base_url=url)
        await log_in(await context.new_page(), login, login.codes[0])
        state = await context.storage_state()
        await context.close()
        found |= both("interactive", await interactive(browser, url, state))
        async with shown(browser, url, state) as page:
            await expect(page.locator(".grid-room [role=row]").first).to_be_visible(timeout=WAIT_MS)
            found |= await loaded(page)
            found |= both("key_to_rows", await keystrokes(page))
            found |= both("click_to_anothers_row", await seen_by_another(browser, url, state, first_agent))
            found |= await busy(page.context, page, running, machines)
    return found


async def main() -> None:
    """Fill a database, bring a platform up on it, and look at it."""
    scale = float(os.environ.get("FIGURES_SCALE", "1"))
    options = BenchOptions(scale=scale)
    history = FleetHistory(options.scaled(AGENTS))
    async with bench_database(options) as url:
        await create_tables(url)
        log = PostgresEventLog(url, name="figures")
        await log.start()
        try:
            backlogged = await fill(url, log, history, options.scaled(EVENTS))
        finally:
            await log.stop()
        async with running_platform(FLEETLOG_POSTGRES_URL=url) as running:
            found = await measured(running, backlogged, history.machines)
    line = {"name": "browser", "agents": len(history.machines), "events": options.scaled(EVENTS)} | found
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
