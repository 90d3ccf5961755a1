"""The audit chain, as an auditor looks at it."""

import asyncio
import json
from pathlib import Path

from playwright.async_api import expect

from schema.audit.proofs import check_proof, decode_proof
from tests.audit.chaining import signed
from tests.browser.harness import Tab
from tests.rest.harness import Fleet


async def test_the_chain_is_shown_proved_and_taken_away(
    tab: Tab, fleet: Fleet, postgres_url: str, tmp_path: Path
) -> None:
    """How far it is, what was signed, the proof of one event, and a part of the history that holds by itself."""
    agent_id = await fleet.agent("web-01")
    await tab.logged_in({"role": "auditor", "everything": True}, path="/admin/audit")
    page = tab.page
    await expect(page.get_by_role("heading", name="There is no checkpoint yet")).to_be_visible()
    last = await asyncio.to_thread(signed, postgres_url)
    await page.reload()
    chain = page.get_by_role("region", name="Audit chain")
    await expect(chain).to_contain_text("all of the log is chained")
    checkpoints = page.get_by_role("region", name="Checkpoints")
    await expect(checkpoints.get_by_role("row", name="fleetlog")).to_contain_text(f"1 to {last}")
    assert await tab.serious_faults() == []
    await checkpoints.get_by_role("button", name="Show checkpoint 1").click()
    dialog = page.get_by_role("dialog", name="Checkpoint 1")
    shown = (await fleet.http.get("/audit/checkpoints/1")).json()
    await expect(dialog).to_contain_text(shown["sha256"])
    await expect(dialog.get_by_role("region", name="Signed by fleetlog")).to_be_visible()
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Close").last.click()

    prove = page.get_by_role("region", name="Proof of an event")
    await prove.get_by_label("Position of the event").fill("1000000")
    await prove.get_by_role("button", name="Prove it").click()
    await expect(prove.get_by_role("alert")).to_contain_text("no event at position 1000000")
    await prove.get_by_label("Position of the event").fill("1")
    await prove.get_by_role("button", name="Prove it").click()
    await expect(prove).to_contain_text("is under a signed checkpoint")
    async with page.expect_download() as found:
        await prove.get_by_role("link", name="Download the proof").click()
    await (await found.value).save_as(tmp_path / "proof.json")
    proof = decode_proof((tmp_path / "proof.json").read_bytes())
    assert check_proof(proof).last_position == last

    await page.get_by_role("button", name="Take a part out").click()
    dialog = page.get_by_role("dialog", name="Take a part of the history out")
    await dialog.get_by_label("Of machine").fill("web")
    await dialog.get_by_role("button", name="web-01").click()
    await dialog.get_by_label("As", exact=True).select_option(value="csv")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Ask for it").click()
    dialog = page.get_by_role("dialog", name="A part of the history")
    async with page.expect_download() as found:
        await dialog.get_by_role("link", name="Download it as ndjson").click()
    await (await found.value).save_as(tmp_path / "part.ndjson")
    lines = [json.loads(line) for line in (tmp_path / "part.ndjson").read_text().splitlines()]
    events = [line["event"] for line in lines if "event" in line]
    assert {event["agent_id"] for event in events} == {agent_id}
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
