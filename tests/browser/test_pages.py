"""Every page, as everybody comes to it: in the dark, on a telephone, and by the keyboard alone."""

import re
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
        "/checks",
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
# Text that something cuts off, but for what ends in dots; and lines of a table that run into each other.
CUT = """() => {
  const cut = [];
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const text = words.currentNode, owner = text.parentElement;
    if (text.data.trim() === "" || !owner.checkVisibility({ visibilityProperty: true })) continue;
    if (owner.closest(".hidden-text, .skip, option, .cm-editor, .u-legend, title, dialog")) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    for (let at = owner; at !== document.body && at !== null; at = at.parentElement) {
      const look = getComputedStyle(at), room = at.getBoundingClientRect();
      const line = at.getAttribute("role") === "row";
      const down = (look.overflowY === "hidden" || look.overflowY === "clip" || line)
        && (box.bottom > room.bottom + 2 || box.top < room.top - 2);
      const across = (look.overflowX === "hidden" || look.overflowX === "clip") && look.textOverflow !== "ellipsis"
        && (box.right > room.right + 2 || box.left < room.left - 2);
      if (down || across) { cut.push(`${text.data.trim().slice(0, 40)} in ${at.outerHTML.slice(0, 90)}`); break; }
      if (look.overflowX === "auto" || look.overflowX === "scroll" || look.textOverflow === "ellipsis") break;
    }
  }
  return cut;
}"""
# Of choices beside each other, those of which the chosen one looks like another.
ALIKE = """() => {
  const look = one => {
    const { backgroundColor, borderTopColor, borderBottomColor, outlineStyle, color } = getComputedStyle(one);
    return [backgroundColor, borderTopColor, borderBottomColor, outlineStyle, color].join();
  };
  const alike = [];
  for (const chosen of document.querySelectorAll("[aria-pressed=true], [aria-selected=true], a[aria-current]")) {
    const row = chosen.closest("ul, [role=tablist], [role=group], nav, .tabs, .row, .chips") ?? chosen.parentElement;
    const other = [...row.querySelectorAll("[aria-pressed=false], [aria-selected=false], a:not([aria-current])")]
      .find(one => one.tagName === chosen.tagName && one.className.split(" ")[0] === chosen.className.split(" ")[0]);
    if (other !== undefined && look(other) === look(chosen)) alike.push(chosen.outerHTML.slice(0, 90));
  }
  const bare = [...document.querySelectorAll(".bar-part")].filter(one => {
    const { backgroundColor, backgroundImage } = getComputedStyle(one);
    const room = getComputedStyle(one.parentElement).backgroundColor;
    return backgroundImage === "none" && backgroundColor === room;
  });
  return [...alike, ...bare.map(one => one.outerHTML.slice(0, 90))];
}"""
# How a busy button turns is told of a spare one, since none stays busy for a test.
MOVING = """() => {
  const spare = document.body.appendChild(document.createElement("span"));
  spare.className = "spinner";
  const moves = document.getAnimations().map(one => one.effect?.target?.outerHTML.slice(0, 90));
  for (const one of document.querySelectorAll("*")) {
    const look = getComputedStyle(one);
    if (look.transitionDuration !== "0s" || look.scrollBehavior !== "auto") moves.push(one.outerHTML.slice(0, 90));
  }
  spare.remove();
  return moves;
}"""


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


async def test_twice_as_large_nothing_is_cut_off(browser: Browser, api: Api, paths: dict[str, str]) -> None:
    """At 200 percent, of the page and of the text alone, every page shows all of its words without going sideways."""
    wrong = []
    for how, size in (("page", {"width": 640, "height": 400}), ("text", {"width": 1280, "height": 800})):
        tab = await Tab.open(browser, api, viewport=size)
        if how == "text":
            devtools = await tab.page.context.new_cdp_session(tab.page)
            await devtools.send("Page.setFontSizes", {"fontSizes": {"standard": 32, "fixed": 26}})
        await tab.logged_in(name=f"Ada {how}")
        for path in PAGES:
            await tab.page.goto(path.format(**paths))
            await tab.settled()
            if how == "text":
                told = await tab.page.evaluate("getComputedStyle(document.querySelector('h1')).fontSize")
                assert float(told.removesuffix("px")) > 40, "the page goes by what the browser is set to"
            wrong += [f"{how} {path}: {words}" for words in await tab.page.evaluate(CUT)]
            if wide := await tab.sideways():
                wrong.append(f"{how} {path}: {wide} pixels too wide")
        assert tab.complaints == []
    assert wrong == []


async def test_in_the_systems_colours_and_without_motion(browser: Browser, api: Api, paths: dict[str, str]) -> None:
    """With forced colours what is chosen still looks it, and what is not done says so; nothing moves where none may."""
    tab = await Tab.open(browser, api, forced_colors="active", reduced_motion="reduce")
    await tab.logged_in()
    wrong = []
    for path in PAGES:
        await tab.page.goto(path.format(**paths))
        await tab.settled()
        wrong += [f"{path}: chosen, and looks like another: {one}" for one in await tab.page.evaluate(ALIKE)]
        wrong += [f"{path}: moves: {one}" for one in await tab.page.evaluate(MOVING)]
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


async def test_the_palette_finds_what_has_a_name(tab: Tab, fleet: Fleet) -> None:
    """Scripts, rollouts and the parts of Admin, beside machines; Enter goes there."""
    await fleet.agent("web-01")
    await made(fleet.http, "/scripts", {"name": "Nightly backup", "content": {"shell": "sh", "body": "true"}})
    await made(
        fleet.http,
        "/rollouts",
        {"name": "Backup once", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}},
    )
    await tab.logged_in()
    page = tab.page
    await expect(page.get_by_label("Select web-01")).to_be_visible()
    await page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find or do")
    await page.keyboard.type("backup")
    await expect(palette.get_by_role("option", name="Backup once")).to_be_visible()
    await palette.get_by_role("option", name="Nightly backup").click()
    await expect(page.get_by_role("heading", name="Nightly backup")).to_be_visible()
    await page.keyboard.press("Control+k")
    await page.keyboard.type("system health")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("/admin/health$"))
