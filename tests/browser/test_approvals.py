"""What waits for a second person."""

import pytest_asyncio
from playwright.async_api import expect

from tests.browser.harness import Tab
from tests.rest.harness import Api, Fleet, made
from tests.rest.test_approvals import TO_ALL, ask


@pytest_asyncio.fixture(loop_scope="session")
async def asked(api: Api, fleet: Fleet) -> tuple[object, str]:
    return await ask(api, fleet)


async def state(fleet: Fleet, approval_id: str) -> str:
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await fleet.api.log.head())
    return str((await fleet.http.get(f"/approvals/{approval_id}")).json()["state"])


async def test_a_request_is_seen_and_approved(tab: Tab, fleet: Fleet, asked: tuple[object, str]) -> None:
    """The navigation says that something waits; what it is, whom it would touch and why is shown; approving does it."""
    await tab.logged_in(name="Bob")
    page = tab.page
    await page.get_by_role("link", name="Approvals 1 wait for you").click()
    request = page.get_by_role("article")
    await expect(request).to_contain_text("Start rollout: r")
    await expect(request).to_contain_text("Ada asked")
    await expect(request).to_contain_text("2 machines")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    await page.set_viewport_size({"width": 1280, "height": 740})
    await request.get_by_label("Why").fill("as agreed")
    await request.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", name="Nothing waits")).to_be_visible()
    await expect(page.get_by_role("link", name="Approvals", exact=True)).to_be_visible()
    assert await state(fleet, asked[1]) == "granted"
    assert [one["name"] for one in (await fleet.http.get("/rollouts")).json()["items"]] == ["r"]
    await page.get_by_role("button", name="approved", exact=True).click()
    await expect(request).to_contain_text("Bob")
    await expect(request).to_contain_text("as agreed")


async def test_it_is_refused_and_ones_own_is_withdrawn(
    tab: Tab, api: Api, fleet: Fleet, asked: tuple[object, str]
) -> None:
    """A refusal does nothing; who asked can take it back and cannot approve it; who may decide nothing has no badge."""
    page = tab.page
    await tab.logged_in(name="Bob", path="/approvals")
    await page.get_by_role("article").get_by_role("button", name="Refuse").click()
    await expect(page.get_by_role("heading", name="Nothing waits")).to_be_visible()
    assert await state(fleet, asked[1]) == "refused"
    person = await tab.logged_in({"role": "careful", "everything": True}, name="Carol", path="/approvals")
    assert (await person.http.post("/rollouts", json=TO_ALL)).json()["code"] == "approval_awaited"
    request = page.get_by_role("article")
    await expect(request).to_contain_text("Carol asked")
    await expect(page.get_by_role("link", name="Approvals", exact=True)).to_be_visible()
    await expect(request.get_by_role("button", name="Approve")).to_have_count(0)
    await request.get_by_role("button", name="Withdraw").click()
    await expect(page.get_by_role("heading", name="Nothing waits")).to_be_visible()
    await made(api.client(), "/roles", {"name": "looker", "permissions": ["agents.see"]})
    await tab.logged_in({"role": "looker", "everything": True}, name="Dan")
    await expect(page.get_by_role("link", name="Fleet", exact=True)).to_be_visible()
    await expect(page.get_by_role("link", name="Approvals")).to_have_count(0)
    assert (await fleet.http.get("/rollouts")).json()["items"] == []
