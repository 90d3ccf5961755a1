"""Forwarding: where events go as well."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from playwright.async_api import expect

from command_bus.ids import utc_now
from gateways.forward.cursors import Cursors
from gateways.forward.envelope import Outgoing
from tests.browser.harness import Tab
from tests.rest.harness import Fleet, made

HOOK: dict[str, Any] = {"kind": "webhook", "url": "https://siem.example.com/in"}


async def test_a_destination_is_added_steered_changed_and_removed(tab: Tab, fleet: Fleet) -> None:
    """Its key is shown once, what it is told never again; it is paused, goes on, is told other events, and goes."""
    await tab.logged_in(path="/admin/forwarding")
    page = tab.page
    await expect(page.get_by_role("heading", name="Events are forwarded nowhere")).to_be_visible()
    await page.get_by_role("button", name="New destination").click()
    dialog = page.get_by_role("dialog", name="New destination")
    await dialog.get_by_label("Name", exact=True).fill("SIEM")
    await dialog.get_by_label("URL", exact=True).fill("https://user:pw@siem.example.com/in")
    await dialog.get_by_text("Approvals").click()
    await dialog.get_by_label("ApprovalGranted").check()
    await dialog.get_by_label("Only of clients").last.select_option(label="Acme")
    await dialog.get_by_text("What it is told in confidence").click()
    await dialog.get_by_label("Header Authorization").fill("Bearer s3cr3t")
    assert await tab.serious_faults() == []
    fleet.api.clock.ahead += timedelta(minutes=11)
    await dialog.get_by_role("button", name="Forward there").click()
    await tab.show_it_is_me()
    await expect(dialog.get_by_role("alert")).to_be_visible()
    await dialog.get_by_label("URL", exact=True).fill(HOOK["url"])
    await dialog.get_by_role("button", name="Forward there").click()
    once = page.get_by_role("dialog", name="It is forwarded")
    await expect(once).to_contain_text("whsec_")
    await once.get_by_role("button", name="I have it").click()
    row = page.get_by_role("row", name="SIEM")
    await expect(row).to_contain_text(HOOK["url"])
    await expect(row).to_contain_text("ApprovalGranted, of 1 places")
    await expect(row).to_contain_text("waiting")
    (kept,) = (await fleet.http.get("/destinations")).json()["items"]
    assert (kept["secrets"], kept["only"]["types"]) == (["authorization", "signing_key"], ["ApprovalGranted"])
    await row.get_by_role("button", name="Pause").click()
    await expect(row).to_contain_text("paused")
    assert await tab.serious_faults() == []
    await row.get_by_role("button", name="Go on").click()
    await expect(row).to_contain_text("waiting")
    await row.get_by_role("button", name="Change SIEM").click()
    dialog = page.get_by_role("dialog", name="Change SIEM")
    await dialog.get_by_label("Kind").select_option(value="syslog")
    await dialog.get_by_label("Host").fill("log.example.com")
    await dialog.get_by_role("button", name="Take out Acme").click()
    await dialog.get_by_role("button", name="Save").click()
    told = page.get_by_role("dialog", name="It is forwarded")
    await expect(told).to_contain_text("It is not told any more: authorization, signing key")
    await told.get_by_role("button", name="I have it").click()
    await expect(row).to_contain_text("syslog://log.example.com:6514 by tls")
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await row.get_by_role("button", name="Remove").click()
    await row.get_by_role("button", name="Remove: click again").click()
    await expect(page.get_by_role("heading", name="Events are forwarded nowhere")).to_be_visible()


async def test_what_a_receiver_does_not_take_is_skipped_for_a_reason(tab: Tab, fleet: Fleet) -> None:
    """The event that all others wait behind is named, and passed over once it is said why."""
    added = await made(fleet.http, "/destinations", {"name": "SIEM", "to": HOOK, "after": "beginning"})
    assert (await fleet.http.get("/destinations")).is_success  # by now the read model has it
    cursors = Cursors(fleet.api.pool)
    await cursors.take(UUID(added["id"]), 0)
    (event,) = (await fleet.http.get("/events", params={"limit": 1, "type": "ClientCreated"})).json()["items"]
    row = (event["position"], None, 1, "ClientCreated/1", b"{}", utc_now())
    await cursors.fail(UUID(added["id"]), 3, "It answered 413.", utc_now(), Outgoing(row, "log"))
    await tab.logged_in(path="/admin/forwarding")
    page = tab.page
    row = page.get_by_role("row", name="SIEM")
    await expect(row).to_contain_text("It answered 413.")
    await expect(row).to_contain_text(f"does not take ClientCreated at {event['position']}")
    await row.get_by_role("button", name="Skip an event").click()
    dialog = page.get_by_role("dialog", name="Skip an event of SIEM")
    await dialog.get_by_label("Why").fill("too large for them")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Never send it there").click()
    await expect(dialog).to_have_count(0)
    (kept,) = (await fleet.http.get("/destinations")).json()["items"]
    assert kept["skipped_at"] == event["position"]


async def test_who_may_only_see_steers_nothing(tab: Tab, fleet: Fleet) -> None:
    """They see how far it is; who sees one client alone is not even shown the tab."""
    await made(fleet.http, "/destinations", {"name": "SIEM", "to": HOOK})
    await tab.logged_in({"role": "auditor", "everything": True}, path="/admin/forwarding")
    await expect(tab.page.get_by_role("row", name="SIEM")).to_be_visible()
    for name in ("New destination", "Pause", "Remove"):
        await expect(tab.page.get_by_role("button", name=name)).to_have_count(0)
    await tab.page.context.clear_cookies()
    await tab.logged_in({"role": "auditor", "clients": [fleet.client_id]}, name="Bob", path="/admin/audit")
    await expect(tab.page.get_by_role("link", name="Audit")).to_be_visible()
    await expect(tab.page.get_by_role("link", name="Forwarding")).to_have_count(0)
