"""Every window above a page: the keyboard goes in, stays in and comes back, and it can be read wherever it opens."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import msgspec
import psycopg
import pytest
from playwright.async_api import Locator, Page, expect

from command_bus.handlers.duplicates import DuplicateNotices
from command_bus.ids import new_id, utc_now
from domain.duplicates import Sighting
from domain.ids import AgentId, ClientId
from gateways.agents.software import SoftwareReports
from gateways.dashboard import bundle
from gateways.forward.cursors import Cursors
from gateways.forward.envelope import Outgoing
from schema.software import pack
from tests.audit.chaining import signed
from tests.browser.harness import Tab
from tests.browser.test_forwarding import HOOK
from tests.browser.test_pages import MOST_STOPS, STOP
from tests.browser.test_software import INSTALLED
from tests.rest.harness import Fleet, made

SOURCES = bundle.HERE / "src"
THE_WINDOWS_THEMSELVES = {"ui/Dialog.tsx", "ui/FormDialog.tsx"}
LATE = timedelta(minutes=11)
"""Longer than a proof of who one is counts."""
UPPERMOST = "[...document.querySelectorAll('dialog[open]')].at(-1)"
SAME_STOPS = 10
"""A day and a time are that many stops of one control at most."""
INSIDE = f"{UPPERMOST}.contains(document.activeElement)"
# All that can be used in the window, those in closed details as well, and that Tab has not met.
CONTROLS = f"""() => [...{UPPERMOST}.querySelectorAll(
    "a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea:not(:disabled), summary")]
  .filter(one => one.tabIndex >= 0 && one.checkVisibility({{ visibilityProperty: true }}))
  .filter(one => one.type !== "radio" || one.checked)
  .filter(one => !(window.stops ?? new Map()).has(one)).map(one => one.outerHTML.slice(0, 120))"""
# What is wider than the window that it is in.
BEYOND = f"""() => {{
  const room = {UPPERMOST}.getBoundingClientRect();
  const body = {UPPERMOST}.querySelector(".body");
  const wide = [...{UPPERMOST}.querySelectorAll("button, input, select, textarea, a, p, label")].filter(one => {{
    const box = one.getBoundingClientRect();
    return box.width > 0 && one.closest(".scroll-x, .output, .editor") === null
      && (box.left < room.left - 1 || box.right > room.right + 1);
  }}).map(one => one.outerHTML.slice(0, 120));
  if (room.left < 0 || room.right > innerWidth || room.bottom > innerHeight) wide.push("the window itself");
  if (body !== null && body.scrollWidth > body.clientWidth) wide.push("its body");
  return wide;
}}"""
TYPED = "textarea, input:not([type]), input:is([type=text], [type=url], [type=email], [type=password])"


class World(msgspec.Struct):
    """A browser tab, and the fleet that it shows."""

    tab: Tab
    fleet: Fleet
    postgres_url: str

    @property
    def page(self) -> Page:
        return self.tab.page

    @property
    def dialog(self) -> Locator:
        return self.page.locator("dialog[open]").last

    async def press(self, name: str, *, exact: bool = False, within: Locator | None = None) -> Locator:
        """Press a button by the keyboard, and hand it back: the focus comes back to it."""
        button = (within or self.page).get_by_role("button", name=name, exact=exact)
        await button.press("Enter")
        return button

    async def admin(self, tab: str, *, name: str) -> Locator:
        await self.tab.logged_in(path=f"/admin/{tab}")
        return await self.press(name)

    async def send(self, name: str) -> None:
        await self.dialog.get_by_role("button", name=name, exact=True).click()

    async def agent(self, *, retired: bool = False) -> str:
        agent_id = await self.fleet.agent("web-01")
        if retired:
            await self.fleet.http.post(f"/agents/{agent_id}/retire", json={})
        await self.tab.logged_in(path=f"/agents/{agent_id}")
        return agent_id


Opening = Callable[[World], Awaitable[Locator]]
OPENINGS: list[tuple[str, Opening]] = []


def opens(source: str) -> Callable[[Opening], Opening]:
    """The next row of the table: one window of one source file, and how it is come to."""

    def add(opening: Opening) -> Opening:
        OPENINGS.append((source, opening))
        return opening

    return add


@opens("admin/ClientsTab.tsx")
async def fields_of_a_client(world: World) -> Locator:
    terms = {"kind": "text", "on": ["client", "site"]}
    await made(world.fleet.http, "/fields", {"name": "Contract", "terms": terms})
    await world.tab.logged_in(path="/admin/clients")
    await world.page.locator("details", has_text="Acme").locator("summary").click()
    opener = await world.press("Custom fields of Acme", exact=True)
    await world.press("Fill in")
    return opener


@opens("admin/ClientsTab.tsx")
async def fields_of_a_site(world: World) -> Locator:
    terms = {"kind": "text", "on": ["client", "site"]}
    await made(world.fleet.http, "/fields", {"name": "Contract", "terms": terms})
    await world.tab.logged_in(path="/admin/clients")
    await world.page.locator("details", has_text="Acme").locator("summary").click()
    return await world.press("Custom fields of Acme / Main")


@opens("admin/ClientsTab.tsx")
async def a_new_client(world: World) -> Locator:
    return await world.admin("clients", name="New client")


@opens("admin/ServerKeysTab.tsx")
async def another_server_key(world: World) -> Locator:
    await world.tab.logged_in(path="/admin/server-keys")
    return await world.press("Make another…", within=world.page.get_by_role("region", name="Delivery"))


@opens("admin/RoleDialog.tsx")
async def a_new_role(world: World) -> Locator:
    return await world.admin("roles", name="New role")


@opens("admin/TokensTab.tsx")
async def a_new_token(world: World) -> Locator:
    return await world.admin("tokens", name="New token")


@opens("admin/TokensTab.tsx")
async def the_token(world: World) -> Locator:
    opener = await a_new_token(world)
    await world.send("Make it")
    return opener


@opens("admin/ExtractDialog.tsx")
async def a_part_of_the_history(world: World) -> Locator:
    return await world.admin("audit", name="Take a part out")


@opens("admin/ExtractDialog.tsx")
async def the_part_of_the_history(world: World) -> Locator:
    opener = await a_part_of_the_history(world)
    await world.send("Ask for it")
    return opener


@opens("admin/Retention.tsx")
async def retention(world: World) -> Locator:
    return await world.admin("health", name="Change")


@opens("admin/DestinationDialog.tsx")
async def a_new_destination(world: World) -> Locator:
    return await world.admin("forwarding", name="New destination")


@opens("admin/AuditTab.tsx")
async def a_checkpoint(world: World) -> Locator:
    await asyncio.to_thread(signed, world.postgres_url)
    return await world.admin("audit", name="Show checkpoint 1")


@opens("admin/SecretsTab.tsx")
async def a_new_secret(world: World) -> Locator:
    return await world.admin("secrets", name="New secret")


@opens("admin/UsersTab.tsx")
async def a_new_user(world: World) -> Locator:
    return await world.admin("users", name="Add somebody")


@opens("admin/UsersTab.tsx")
async def the_new_user(world: World) -> Locator:
    opener = await a_new_user(world)
    await world.dialog.get_by_label("Name").fill("Bob")
    await world.send("Add")
    return opener


@opens("admin/UserDialog.tsx")
async def a_user(world: World) -> Locator:
    return await world.admin("users", name="Change Ada")


@opens("admin/FieldsTab.tsx")
async def a_new_field(world: World) -> Locator:
    return await world.admin("fields", name="New field")


@opens("admin/ForwardingTab.tsx")
async def an_event_to_skip(world: World) -> Locator:
    fleet = world.fleet
    added = await made(fleet.http, "/destinations", {"name": "SIEM", "to": HOOK, "after": "beginning"})
    assert (await fleet.http.get("/destinations")).is_success
    cursors = Cursors(fleet.api.pool)
    await cursors.take(UUID(added["id"]), 0)
    row = (1, None, 1, "ClientCreated/1", b"{}", utc_now())
    await cursors.fail(UUID(added["id"]), 3, "It answered 413.", utc_now(), Outgoing(row, "log"))
    return await world.admin("forwarding", name="Skip an event")


@opens("admin/ForwardingTab.tsx")
async def what_the_receiver_is_told(world: World) -> Locator:
    opener = await a_new_destination(world)
    await world.dialog.get_by_label("Name", exact=True).fill("SIEM")
    await world.dialog.get_by_label("URL", exact=True).fill(HOOK["url"])
    await world.send("Forward there")
    return opener


@opens("admin/KeysTab.tsx")
async def a_new_key(world: World) -> Locator:
    return await world.admin("keys", name="New key")


@opens("admin/KeysTab.tsx")
async def the_key(world: World) -> Locator:
    opener = await a_new_key(world)
    await world.dialog.get_by_label("Name").fill("backup")
    await world.send("Make it")
    return opener


@opens("app/EraseDialog.tsx")
async def to_erase(world: World) -> Locator:
    await world.agent(retired=True)
    return await world.press("Erase…")


@opens("app/EraseDialog.tsx")
async def what_cannot_be_erased(world: World) -> Locator:
    await world.agent()
    async with await psycopg.AsyncConnection.connect(world.postgres_url, autocommit=True) as admin:
        await admin.execute("SET session_replication_role TO replica")
        await admin.execute(
            "UPDATE fleetlog.events SET state = convert_to(regexp_replace(convert_from(state, 'UTF8'),"
            " 'sealed:1:[^\"]*', 'web-01'), 'UTF8') WHERE topic = 'AgentEnrolled/1'"
        )
    await world.fleet.http.post(world.page.url.replace(world.fleet.api.url, "") + "/retire", json={})
    await world.page.reload()
    await world.press("Erase…")
    await world.dialog.get_by_label("Name").fill("web-01")
    await world.send("Erase for good")
    # The button that opened it is gone, with what there was to erase: the page itself has the focus.
    return world.page.locator("main")


@opens("app/Help.tsx")
async def help_with_the_keyboard(world: World) -> Locator:
    await world.tab.logged_in(path="/scripts")
    opener = world.page.get_by_role("link", name="New script").first
    await opener.focus()
    await world.page.keyboard.press("?")
    return opener


@opens("app/Proof.tsx")
async def the_proof(world: World) -> Locator:
    await a_new_key(world)
    await world.dialog.get_by_label("Name").fill("backup")
    world.fleet.api.clock.ahead += LATE
    return await world.press("Make it")


@opens("app/Palette.tsx")
async def the_palette(world: World) -> Locator:
    await world.tab.logged_in(path="/scripts")
    return await world.press("Find or do…")


@opens("agent/CommandDialog.tsx")
async def a_command(world: World) -> Locator:
    agent_id = await world.fleet.agent("web-01")
    await world.fleet.command(agent_id)
    await world.tab.logged_in(path="/commands")
    opener = world.page.get_by_role("main").get_by_role("row").locator(".link").first
    await opener.press("Enter")
    return opener


@opens("agent/Duplicate.tsx")
async def one_of_two(world: World) -> Locator:
    agent_id = await world.agent()
    one, two = (Sighting(address="192.0.2.1", hostname=name, machine=name, instance=name) for name in ("old", "new"))
    notices = DuplicateNotices(world.fleet.api.log, new_id)
    await notices.noticed(AgentId(UUID(agent_id)), ClientId(UUID(world.fleet.client_id)), one, two, "gateway-1")
    return await world.press("new takes its place…")


@opens("agent/ActionDialog.tsx")
async def a_change_of_a_machine(world: World) -> Locator:
    await world.agent()
    menu = world.page.locator("summary", has_text="Change")
    await menu.press("Enter")
    await world.press("Rename…")
    return menu


@opens("patches/InstallDialog.tsx")
async def updates_to_install(world: World) -> Locator:
    agent_id = await world.fleet.agent("web-01")
    await world.tab.logged_in(path=f"/agents/{agent_id}?tab=patches")
    reports = SoftwareReports(world.fleet.api.log, world.fleet.api.pool, utc_now, new_id)
    await reports.reported(AgentId(UUID(agent_id)), ClientId(UUID(world.fleet.client_id)), pack(INSTALLED))
    await world.page.get_by_label("vim").check()
    return await world.press("Install 1 chosen…")


@opens("patches/RestartDialog.tsx")
async def a_machine_to_restart(world: World) -> Locator:
    agent_id = await world.fleet.agent("web-01")
    await world.tab.logged_in(path=f"/agents/{agent_id}?tab=patches")
    return await world.press("Restart…")


@opens("checks/CheckDialog.tsx")
async def a_new_check(world: World) -> Locator:
    await world.fleet.agent("web-01")
    await world.tab.logged_in(path="/checks")
    return await world.press("New check")


@opens("scripts/Folder.tsx")
async def where_a_script_lies(world: World) -> Locator:
    script = await made(world.fleet.http, "/scripts", {"name": "Uptime", "content": {"shell": "sh", "body": "uptime"}})
    await world.tab.logged_in(path=f"/scripts/{script['id']}")
    return await world.press("Name and folder…")


@opens("run/RunDialog.tsx")
async def something_to_run(world: World) -> Locator:
    await world.agent()
    return await world.press("Run")


@opens("run/RunDialog.tsx")
async def what_runs(world: World) -> Locator:
    opener = await something_to_run(world)
    await world.dialog.get_by_label("Line").fill("uptime")
    await world.send("Run")
    await expect(world.dialog.get_by_role("button", name="Run something else")).to_be_visible()
    return opener


@opens("run/TestRun.tsx")
async def where_to_try_a_script(world: World) -> Locator:
    script = await made(world.fleet.http, "/scripts", {"name": "Uptime", "content": {"shell": "sh", "body": "uptime"}})
    await world.tab.logged_in(path=f"/scripts/{script['id']}")
    return await world.press("Try it…")


@opens("fleet/TagDialog.tsx")
async def tags_of_many(world: World) -> Locator:
    await world.fleet.agent("web-01")
    await world.tab.logged_in()
    await world.page.get_by_role("checkbox", name="Select web-01").check()
    return await world.press("Tags…")


@pytest.fixture
def world(tab: Tab, fleet: Fleet, postgres_url: str) -> World:
    return World(tab, fleet, postgres_url)


def test_the_table_has_every_window_of_the_sources() -> None:
    """A window that is added to the dashboard is added here as well, with how it is come to."""
    window = re.compile(r"<(?:Dialog|FormDialog|dialog)$|<(?:Dialog|FormDialog|dialog)[\s>]", re.MULTILINE)
    found: Counter[str] = Counter()
    for file in SOURCES.rglob("*.tsx"):
        found[file.relative_to(SOURCES).as_posix()] += len(window.findall(file.read_text()))
    written = {source: number for source, number in found.items() if number and source not in THE_WINDOWS_THEMSELVES}
    assert written == Counter(source for source, _ in OPENINGS)


async def goes_round(page: Page) -> None:
    """Tab comes to all that can be used in the uppermost window, and to nothing of the page beneath."""
    await page.evaluate("window.stops = undefined")
    met: set[int] = set()
    last, same = None, 0
    for _ in range(MOST_STOPS):
        await page.keyboard.press("Tab")
        stop = await page.evaluate(STOP)
        if stop is None:
            continue
        assert await page.evaluate(INSIDE), f"outside of the window: {stop['what']}"
        assert stop["shown"], f"it cannot be seen that this has the focus: {stop['what']}"
        same = same + 1 if stop["number"] == last else 0
        if stop["number"] in met and (stop["number"] != last or same > SAME_STOPS):
            break
        last = stop["number"]
        met.add(stop["number"])
    else:
        pytest.fail("Tab does not come round")
    assert await page.evaluate(CONTROLS) == []


async def leaves(world: World, opener: Locator, *, kept: bool) -> None:
    """Escape closes it and the focus is back; what was typed is not lost unasked."""
    page, dialog = world.page, world.dialog
    before = await page.locator("dialog[open]").count()
    field = dialog.locator(TYPED).first
    if kept:
        await field.fill("typed by hand")
        await page.keyboard.press("Escape")
        await expect(dialog.get_by_role("alert").last).to_contain_text("What you typed is not saved")
        await dialog.get_by_role("button", name="Keep it", exact=True).click()
        await expect(field).to_have_value("typed by hand")
        await page.keyboard.press("Escape")
        await expect(dialog.get_by_role("button", name="Keep it", exact=True)).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("dialog[open]")).to_have_count(before - 1)
    await expect(opener).to_be_focused()


@pytest.mark.parametrize("opening", [opening for _, opening in OPENINGS], ids=lambda opening: opening.__name__)
async def test_a_window_holds_the_keyboard_and_can_be_read(world: World, opening: Opening) -> None:
    """Focus goes in, Tab reaches all of it and nothing else, Escape asks before it loses text, focus comes back."""
    tab, page = world.tab, world.page
    opener = await opening(world)
    dialog = world.dialog
    await expect(dialog).to_be_visible()
    await expect(dialog.get_by_text("Loading…")).to_have_count(0)
    await expect(page.locator("dialog[open]:focus-within").last).to_be_visible()
    assert await page.evaluate(INSIDE)
    await page.evaluate(f"{UPPERMOST}.querySelectorAll('details').forEach(one => {{ one.open = true; }})")
    await goes_round(page)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert await tab.serious_faults() == [], scheme
    size = page.viewport_size
    assert size is not None
    await page.set_viewport_size({"width": 360, "height": 740})
    assert (await page.evaluate(BEYOND), await tab.sideways()) == ([], 0)
    await page.set_viewport_size(size)
    asks = opening not in (the_palette, the_proof) and await dialog.locator(TYPED).count() > 0
    await leaves(world, opener, kept=asks)
