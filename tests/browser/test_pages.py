"""Every page, as everybody comes to it: in the dark, on a telephone, and by the keyboard alone."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.harness import Tab
from tests.rest.harness import Api, Fleet, made

ADMIN = (
    *("health", "clients", "fields", "users", "roles", "keys", "tokens", "secrets", "forwarding", "audit"),
    *("server-keys", "browse"),
)
PAGES = (
    *(
        "/",
        "/rollouts",
        "/commands",
        "/scripts",
        "/scripts/new",
        "/activity",
        "/changes",
        "/approvals",
        "/account",
        "/add",
    ),
    *("/agents/{agent}", "/rollouts/{rollout}", "/scripts/{script}", "/activity/1"),
    *(f"/admin/{name}" for name in ADMIN),
)
MOST_STOPS = 400
MOST_ROUNDS = 3
# Where the focus is, whether it can be seen, and a number for each control that was met.
STOP = """() => {
  const known = window.stops ??= new Map();
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  if (at === null || at === document.body) return null;
  if (!known.has(at)) known.set(at, known.size);
  const look = getComputedStyle(at);
  const box = at.getBoundingClientRect();
  const shown = look.outlineStyle !== "none" || look.boxShadow !== "none" || at.matches(".cm-content");
  return { number: known.get(at), shown: shown && box.width > 0, what: at.outerHTML.slice(0, 120) };
}"""
# Controls that Tab is to reach: those that are drawn and can be used, but for what arrows move within.
CONTROLS = """() => [...document.querySelectorAll(
    "a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea:not(:disabled), summary")]
  .filter(one => one.tabIndex >= 0 && one.checkVisibility({ visibilityProperty: true }))
  .filter(one => one.closest("[inert]") === null)
  .filter(one => !(window.stops ?? new Map()).has(one)).map(one => one.outerHTML.slice(0, 120))"""


@pytest_asyncio.fixture(loop_scope="session")
async def paths(fleet: Fleet) -> AsyncIterator[dict[str, str]]:
    """Something of each kind, so that no page is an empty one."""
    agent = await fleet.agent("web-01")
    await fleet.command(agent)
    content = {"shell": "sh", "body": "uptime"}
    script = (await made(fleet.http, "/scripts", {"name": "Uptime", "content": content}))["id"]
    body = {"name": "Nightly", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    rollout = (await made(fleet.http, "/rollouts", body))["id"]
    yield {"agent": agent, "script": script, "rollout": rollout}


async def test_every_page_can_be_read_in_the_dark_and_on_a_telephone(
    browser: Browser, api: Api, paths: dict[str, str]
) -> None:
    """axe-core finds nothing serious on any page in dark colours, and none is wider than a telephone."""
    tab = await Tab.open(browser, api, color_scheme="dark")
    await tab.logged_in()
    wrong = []
    for path in PAGES:
        await tab.page.set_viewport_size({"width": 1280, "height": 800})
        await tab.page.goto(path.format(**paths))
        await tab.settled()
        wrong += [f"{path}: {fault}" for fault in await tab.serious_faults()]
        await tab.page.set_viewport_size({"width": 360, "height": 740})
        if wide := await tab.sideways():
            wrong.append(f"{path}: {wide} pixels too wide")
    assert wrong == []
    assert tab.complaints == []


@pytest.mark.parametrize("path", PAGES)
async def test_the_keyboard_reaches_all_of_a_page(tab: Tab, paths: dict[str, str], path: str) -> None:
    """Tab comes to every control and round again, and the one that has the focus can be seen."""
    await tab.logged_in(path=path.format(**paths))
    await tab.settled()
    for _ in range(MOST_ROUNDS):
        await round_by_tab(tab.page)
        left = await tab.page.evaluate(CONTROLS)
        if not left:
            break
    # What came while a round was under way is met in the next.
    assert left == []


async def round_by_tab(page: Page) -> None:
    """Press Tab until it comes to a control for the second time."""
    met: set[int] = set()
    last = None
    for _ in range(MOST_STOPS):
        await page.keyboard.press("Tab")
        stop = await page.evaluate(STOP)
        if stop is None:
            # Beyond the last one the browser's own controls come, and then the page begins anew.
            continue
        assert stop["shown"], f"it cannot be seen that this has the focus: {stop['what']}"
        # A day and a time are several stops of one control.
        if stop["number"] in met and stop["number"] != last:
            return
        last = stop["number"]
        met.add(stop["number"])
    pytest.fail("Tab does not come round")


async def test_on_a_telephone_one_logs_in_finds_and_runs(browser: Browser, api: Api, fleet: Fleet) -> None:
    """Login, the palette and the dialog that runs something fit 360 pixels, in the dark as well; Escape closes each."""
    agent = await fleet.agent("web-01")
    tab = await Tab.open(browser, api, color_scheme="dark", viewport={"width": 360, "height": 740})
    page = tab.page
    await page.goto("/")
    await expect(page.get_by_label("Password")).to_be_visible()
    assert (await tab.sideways(), await tab.serious_faults()) == (0, [])
    await tab.logged_in(path=f"/agents/{agent}")
    run = page.get_by_role("button", name="Run").first
    await run.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_text("For whom").click()
    await dialog.get_by_text("When: not before").click()
    await dialog.get_by_text("More: environment").click()
    assert (await tab.sideways(), await tab.serious_faults()) == (0, [])
    for control in await dialog.locator("input, select, textarea, button").all():
        box = await control.bounding_box()
        assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= 360), await control.evaluate(
            "one => one.outerHTML"
        )
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(run).to_be_focused()
    await page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find or do")
    await page.keyboard.type("web")
    await expect(palette.get_by_role("option", name="web-01")).to_be_visible()
    assert (await tab.sideways(), await tab.serious_faults()) == (0, [])
    await page.keyboard.press("Escape")
    await expect(palette).to_have_count(0)
    await expect(run).to_be_focused()
    assert tab.complaints == []
