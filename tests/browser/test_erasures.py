"""What is personal about a retired machine and a suspended user is erased from their page, by whom it is permitted."""

from datetime import timedelta

import psycopg
from playwright.async_api import Page, expect

from domain.personal import ERASED
from tests.browser.harness import ADMINISTRATOR, Tab
from tests.rest.gains import waits
from tests.rest.harness import Api, Fleet, made
from tests.rest.people import SECOND, Person

NAME = "corvus-9d1c"


async def erase(page: Page, name: str) -> None:
    """From the window that says what is destroyed to the proof of who wants it."""
    dialog = page.get_by_role("dialog", name=f"Erase {name}")
    await expect(dialog).to_contain_text("Nobody can undo it.")
    sure = dialog.get_by_role("button", name="Erase for good")
    await expect(sure).to_be_disabled()
    await dialog.get_by_label("Name").fill(name[:-1])
    await expect(sure).to_be_disabled()
    await dialog.get_by_label("Name").fill(name)
    await dialog.get_by_label("Why").fill("request 4711")
    await sure.click()
    proof = page.get_by_role("dialog", name="Is it you?")
    await proof.get_by_label("Password or code").fill(SECOND)
    await proof.get_by_role("button", name="Go on").click()


async def test_a_retired_machine_is_erased(tab: Tab, fleet: Fleet) -> None:
    """Offered once it is retired; what it destroys is said, its name is typed, and who asks shows that it is them."""
    agent_id = await fleet.agent(NAME)
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await expect(page.get_by_role("heading", name=NAME)).to_be_visible()
    await expect(page.get_by_role("button", name="Erase")).to_have_count(0)
    await fleet.http.post(f"/agents/{agent_id}/retire", json={})
    await page.reload()
    await page.get_by_role("button", name="Erase").click()
    await expect(page.get_by_role("dialog")).to_contain_text("addresses, serial numbers")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    fleet.api.clock.ahead += timedelta(minutes=11)
    await erase(page, NAME)
    await expect(page.get_by_text(f"{NAME} is erased for good.")).to_be_visible()
    await expect(page.get_by_role("heading", name=ERASED)).to_be_visible()
    await expect(page.get_by_text("Its history stays.")).to_be_visible()
    await expect(page.get_by_role("button", name="Erase")).to_have_count(0)
    assert await tab.sideways() == 0
    shown = (await fleet.http.get(f"/agents/{agent_id}")).json()
    assert (shown["erased"], shown["hostname"]) == (True, ERASED)


async def test_what_cannot_be_erased_is_said(tab: Tab, fleet: Fleet, postgres_url: str) -> None:
    """How many events are from before there was sealing is read before the window closes."""
    agent_id = await fleet.agent(NAME)
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute("SET session_replication_role TO replica")
        await admin.execute(
            "UPDATE fleetlog.events SET state = convert_to(regexp_replace(convert_from(state, 'UTF8'),"
            " 'sealed:1:[^\"]*', %s), 'UTF8') WHERE topic = 'AgentEnrolled/1'",
            [NAME],
        )
    await fleet.http.post(f"/agents/{agent_id}/retire", json={})
    await tab.logged_in(path=f"/agents/{agent_id}")
    page = tab.page
    await page.get_by_role("button", name="Erase").click()
    fleet.api.clock.ahead += timedelta(minutes=11)
    await erase(page, NAME)
    left = page.get_by_role("dialog", name=f"{NAME} is erased")
    await expect(left).to_contain_text("But for 1 event from before there was sealing")
    await left.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("heading", name=ERASED)).to_be_visible()


async def test_a_suspended_user_is_erased(tab: Tab, api: Api, fleet: Fleet) -> None:
    """Offered in the row of a suspended user alone; afterwards there is nothing left to change about them."""
    person = await Person.add(api, NAME)
    await tab.logged_in(path="/admin/users")
    page = tab.page
    row = page.get_by_role("row", name=NAME)
    await expect(row).to_contain_text("active")
    await expect(page.get_by_role("button", name="Erase")).to_have_count(0)
    await fleet.http.post(f"/users/{person.user_id}/disable", json={})
    await row.get_by_role("button", name=f"Erase {NAME}").click()
    await expect(page.get_by_role("dialog")).to_contain_text("password, second factor and recovery codes")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    api.clock.ahead += timedelta(minutes=11)
    await erase(page, NAME)
    gone = page.get_by_role("row", name=ERASED)
    await expect(gone.get_by_role("cell", name="erased", exact=True)).to_be_visible()
    await expect(gone.get_by_role("button")).to_have_count(0)
    assert await tab.serious_faults() == []
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    shown = (await fleet.http.get(f"/users/{person.user_id}")).json()
    assert (shown["erased"], shown["name"]) == (True, ERASED)


async def test_a_machine_that_was_refused_is_erased(tab: Tab, api: Api, fleet: Fleet) -> None:
    """Among the past ones, with the key that it showed; the same window says what goes, and asks who it is."""
    body = {"site_id": fleet.site_id, "max_uses": 9, "approval": "required"}
    token = (await made(fleet.http, "/enrollment-tokens", body))["token"]
    enrollment_id = await waits(api, token, NAME)
    await fleet.http.post("/enrollments/refuse", json={"enrollments": [enrollment_id], "reason": "not ours"})
    await tab.logged_in(path="/admin/tokens")
    page = tab.page
    await page.get_by_role("button", name="past ones too").click()
    refused = page.get_by_role("region", name="Refused machines")
    await refused.get_by_role("button", name=f"Erase {NAME}").click()
    await expect(page.get_by_role("dialog")).to_contain_text("the address that it came from")
    assert await tab.serious_faults() == []
    api.clock.ahead += timedelta(minutes=11)
    await erase(page, NAME)
    await expect(refused.get_by_role("row", name=ERASED)).to_contain_text("erased")
    await expect(refused.get_by_role("button")).to_have_count(0)
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await tab.sideways() == 0
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    (shown,) = (await fleet.http.get("/enrollments", params={"state": "refused"})).json()["items"]
    assert (shown["erased"], shown["hostname"], shown["address"]) == (True, ERASED, ERASED)


async def test_who_may_not_erase_is_not_offered_it(tab: Tab, api: Api, fleet: Fleet) -> None:
    """Neither an operator, nor who has the permission over a client alone, as the server would refuse both."""
    agent_id, person = await fleet.agent(NAME), await Person.add(api, "Bob")
    await fleet.http.post(f"/agents/{agent_id}/retire", json={})
    await fleet.http.post(f"/users/{person.user_id}/disable", json={})
    page = tab.page
    await tab.logged_in({"role": "operator", "everything": True}, path=f"/agents/{agent_id}")
    await expect(page.get_by_role("heading", name=NAME)).to_be_visible()
    await expect(page.get_by_role("button", name="Erase")).to_have_count(0)
    over_one = ADMINISTRATOR | {"everything": False, "clients": [fleet.client_id]}
    await tab.logged_in(over_one, name="Carol", path=f"/agents/{agent_id}")
    await expect(page.get_by_role("heading", name=NAME)).to_be_visible()
    await expect(page.get_by_role("button", name="Erase")).to_have_count(0)
    await made(api.client(), "/roles", {"name": "people", "permissions": ["people.see", "users.manage"]})
    await tab.logged_in({"role": "people", "everything": True}, name="Dan", path="/admin/users")
    await expect(page.get_by_role("button", name="Change Bob")).to_be_visible()
    await expect(page.get_by_role("button", name="Erase")).to_have_count(0)
