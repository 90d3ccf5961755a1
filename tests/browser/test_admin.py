"""Admin: how Fleetlog itself fares, and who may do what in it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from playwright.async_api import expect

from gateways.agents.broker_states import State
from tests.browser.harness import Tab
from tests.rest.gains import waits
from tests.rest.harness import Api, Fleet, made

WIDTH, HEIGHT = 360, 740
EVIL = "<img src=x onerror=alert(1)>"
BROKER = State(
    version="2.12.1",
    cluster="fleet",
    jetstream=False,
    started_at=datetime(2026, 5, 1, tzinfo=UTC),
    connections=1000,
    subscriptions=3000,
    slow_consumers=0,
    routes=1,
    memory_bytes=1 << 25,
    cpu_percent=3.5,
    in_messages_per_s=1200,
    in_bytes_per_s=3_400_000,
    out_messages_per_s=None,
    out_bytes_per_s=None,
)


async def test_what_is_down_is_named_first(tab: Tab, fleet: Fleet) -> None:
    """Every server, role and projection, with what is down in words at the top; it keeps looking by itself."""
    agent_id = await fleet.agent()
    await fleet.command(agent_id)
    async with fleet.api.pool.connection() as connection:
        for number, slow in (("one", 0), ("two", 3)):
            state = msgspec.json.encode(msgspec.structs.replace(BROKER, slow_consumers=slow)).decode()
            values = {"id": number, "state": state}
            await connection.execute(
                "INSERT INTO fleetlog.nats_servers (server_id, name, state) VALUES (%(id)s, %(id)s, %(state)s)", values
            )
    await tab.logged_in()
    page = tab.page
    await page.get_by_role("link", name="Admin").click()
    await expect(page.get_by_role("link", name="System health")).to_have_attribute("aria-current", "page")
    servers = page.get_by_role("region", name="Servers")
    await expect(servers.get_by_role("row", name="Postgres")).to_contain_text("up")
    await expect(servers.get_by_role("row", name="NATS")).to_contain_text("down")
    await expect(page.get_by_text("things are not well")).to_be_visible()
    await expect(page.get_by_role("region", name="Processes").get_by_role("row", name="gateway")).to_contain_text(
        "missing"
    )
    kept = page.get_by_role("region", name="Retention")
    await expect(kept.get_by_role("row", name="Whole outputs")).to_contain_text("for ever")
    brokers = page.get_by_role("region", name="NATS servers")
    await expect(brokers.get_by_role("row", name="one")).to_contain_text("1,200/s, 3.4 MB/s")
    await expect(brokers.get_by_role("row", name="one")).to_contain_text("fleet, 1 route")
    await expect(brokers.get_by_role("row", name="two")).to_contain_text("3 cut off")
    projections = page.get_by_role("region", name="Projections")
    await expect(projections.get_by_role("row", name="agents")).to_contain_text("running")
    pending = page.get_by_role("region", name="Pending commands").get_by_role("cell").first
    await expect(pending).to_have_text("1")
    await fleet.command(agent_id)
    await expect(pending).to_have_text("2")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0


async def test_how_long_things_are_kept_is_set_and_the_servers_keys_change(tab: Tab, fleet: Fleet) -> None:
    """Each is said before it is done, and asks once more who sits there; what goes for good is named as that."""
    await tab.logged_in(path="/admin/health")
    page = tab.page
    kept = page.get_by_role("region", name="Retention")
    await expect(kept).to_contain_text("by the settings of the server")
    await kept.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog", name="Retention")
    await dialog.get_by_label("Keep whole outputs for days").fill("30")
    await expect(dialog).to_contain_text("go for good within the hour")
    await dialog.get_by_label("Keep at most, in GB").fill("1.5")
    assert await tab.serious_faults() == []
    fleet.api.clock.ahead += timedelta(minutes=11)
    await dialog.get_by_role("button", name="Keep it so").click()
    await tab.show_it_is_me()
    await expect(kept.get_by_role("row", name="Whole outputs")).to_contain_text("30 days")
    await expect(kept).to_contain_text("set here")
    held = (await fleet.http.get("/retention")).json()
    assert (held["output_keep_days"], held["output_keep_bytes"], held["archive_after_days"]) == (
        30,
        1_500_000_000,
        None,
    )

    await page.get_by_role("link", name="Server keys").click()
    delivery = page.get_by_role("region", name="Delivery")
    rows = delivery.locator("tbody tr")
    await expect(rows.nth(0)).to_contain_text("used")
    await delivery.get_by_role("button", name="Make another").click()
    await page.get_by_role("button", name="Make it").click()
    await expect(rows.nth(1)).to_contain_text("announced")
    assert await tab.serious_faults() == []
    await fleet.agent()
    await delivery.get_by_role("button", name="End the old one").click()
    dialog = page.get_by_role("dialog", name="End the old delivery key")
    await dialog.get_by_role("button", name="End it for good").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("have not said that they know key 2")
    await dialog.get_by_label("All the same").check()
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="End it for good").click()
    await expect(rows.nth(0)).to_contain_text("retired")
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0


async def test_who_sees_one_client_does_not_see_the_platform(tab: Tab, fleet: Fleet) -> None:
    """What belongs to no client is not offered to whom the server would refuse it."""
    await tab.logged_in({"role": "read-only", "clients": [fleet.client_id]}, path="/admin/health")
    await expect(tab.page.get_by_text("There is no such page")).to_be_visible()


async def test_who_may_see_no_part_of_it_is_not_led_there(tab: Tab, api: Api) -> None:
    """The navigation leaves out what would be refused."""
    http = api.client()
    await http.post("/roles", json={"name": "looker", "permissions": ["agents.see"]})
    await tab.logged_in({"role": "looker", "everything": True})
    await expect(tab.page.get_by_role("link", name="Fleet", exact=True)).to_be_visible()
    await expect(tab.page.get_by_role("link", name="Admin")).to_have_count(0)


async def test_a_key_is_made_shown_once_and_revoked(tab: Tab, fleet: Fleet) -> None:
    """It opens as much as was said and no more, is nowhere to be read again, and is void at a click."""
    await tab.logged_in(path="/admin/keys")
    page, api = tab.page, tab.api
    await page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("backup checker")
    await expect(dialog.get_by_label("Role")).to_contain_text("all that you may, as it changes")
    await made(fleet.http, "/users", {"name": "robot", "kind": "service"})
    await page.reload()
    await page.get_by_role("button", name="New key").click()
    await dialog.get_by_label("Name").fill("backup checker")
    await dialog.get_by_label("Owner").select_option(label="robot (service account)")
    await expect(dialog.get_by_label("Role")).to_contain_text("all that its owner is granted now, and no more later")
    await dialog.get_by_label("Owner").select_option(label="Ada")
    await dialog.get_by_label("Role").select_option(label="read-only")
    await dialog.get_by_label("Over").select_option(label="Acme")
    await dialog.get_by_label("It may do what a person has to prove").check()
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Make it").click()
    key = (await dialog.locator(".copy code").text_content()) or ""
    client = api.client(key)
    assert [one["id"] for one in (await client.get("/sites")).json()["items"]] == [fleet.site_id]
    assert (await client.post("/clients", json={"name": "Mine"})).status_code == 403
    await dialog.get_by_role("button", name="I have it").click()
    row = page.get_by_role("row", name="backup checker")
    await expect(row).to_contain_text("Ada")
    await expect(row).to_contain_text("read-only over Acme")
    assert key not in await page.content()
    (made_key,) = (await api.client().get("/api-keys", params={"prefix": key[:20]})).json()["items"]
    assert made_key["unattended"]
    # What turned up somewhere is pasted whole: nothing but its beginning is kept, shown or sent.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.get_by_label("Begins with").fill(key)
    await expect(page.get_by_label("Begins with")).to_have_value(key[:36])
    await expect(page.get_by_role("row")).to_have_count(2)
    await expect(row).to_contain_text(key[:20])
    assert any(key[:36] in url for url in asked)
    assert not any(key[37:] in url for url in asked)
    await page.get_by_label("Begins with").fill(f"flk_{'0' * 32}")
    await expect(page.get_by_text("No key begins so")).to_be_visible()
    await page.get_by_label("Begins with").fill("")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0
    await row.get_by_role("button", name="Revoke").click()
    await row.get_by_role("button", name="Revoke: click again").click()
    await expect(row).to_have_count(0)
    assert (await client.get("/clients")).status_code == 401
    await page.get_by_role("button", name="revoked too").click()
    await expect(row).to_contain_text("revoked")


async def test_machines_that_wait_are_shown_live_and_decided(tab: Tab, fleet: Fleet, api: Api) -> None:
    """As they come, on three pages, with key and address, and whatever they call themselves; approved one or many."""
    await tab.logged_in(path="/admin/tokens")
    page = tab.page
    await page.get_by_role("button", name="New token").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("For how many machines").fill("9")
    await dialog.get_by_label("Note").fill("rack 4")
    await dialog.get_by_label("waits until somebody approves it").check()
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Make it").click()
    token = (await dialog.locator(".copy code").text_content()) or ""
    await dialog.get_by_role("button", name="I have it").click()
    await waits(api, token, EVIL)
    waiting = page.get_by_role("region", name="Machines that wait for approval")
    row = waiting.get_by_role("row", name=EVIL)
    await expect(row).to_contain_text("192.0.2.7")
    await expect(row).to_contain_text("sha256:")
    await expect(row).to_contain_text("rack 4")
    for hostname in ("db-01", "db-02", "db-03"):
        await waits(api, token, hostname)
    await expect(waiting.get_by_role("row")).to_have_count(5)
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0
    await page.set_viewport_size({"width": 1280, "height": HEIGHT})
    await row.get_by_role("button", name="Refuse").click()
    await row.get_by_role("button", name="Refuse: click again").click()
    await expect(row).to_have_count(0)
    await page.get_by_role("link", name="Fleet", exact=True).click()
    await page.get_by_role("link", name="3 machines wait for approval").click()
    await waiting.get_by_role("row", name="db-03").get_by_role("button", name="Approve").click()
    await expect(waiting.get_by_role("row")).to_have_count(3)
    for hostname in ("db-01", "db-02"):
        await waiting.get_by_label(f"Choose {hostname}").check()
    await waiting.locator("header").get_by_role("button", name="Approve").click()
    await expect(waiting).to_have_count(0)
    assert len((await fleet.http.get("/agents")).json()["items"]) == 3
    await expect(page.get_by_role("row", name="rack 4")).to_contain_text("3 of 9")


async def test_a_token_is_made_shown_once_and_revoked(tab: Tab, fleet: Fleet) -> None:
    """The list says how far each is used up; one that is revoked is among the past ones."""
    await tab.logged_in(path="/admin/tokens")
    page = tab.page
    await expect(page.get_by_text("There is no token yet")).to_be_visible()
    await page.get_by_role("button", name="New token").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("For how many machines").fill("3")
    await dialog.get_by_label("Expires").select_option(label="in a week")
    await dialog.get_by_label("Note").fill("new laptops")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Make it").click()
    await expect(dialog.locator(".copy code")).to_contain_text("flt_")
    await dialog.get_by_role("button", name="I have it").click()
    row = page.get_by_role("row", name="Acme / Main")
    await expect(row).to_contain_text("0 of 3")
    await expect(row).to_contain_text("new laptops")
    made = (await fleet.http.get("/enrollment-tokens")).json()["items"][0]
    assert (made["max_uses"], made["site_id"]) == (3, fleet.site_id)
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0
    await row.get_by_role("button", name="Revoke").click()
    await row.get_by_role("button", name="Revoke: click again").click()
    await expect(page.get_by_text("No token is open")).to_be_visible()


async def test_who_may_look_alone_is_offered_no_change(tab: Tab, fleet: Fleet) -> None:
    """An auditor sees keys and tokens, and no button that the server would refuse."""
    await fleet.agent()
    await tab.logged_in({"role": "auditor", "everything": True}, path="/admin/keys")
    page = tab.page
    await expect(page.get_by_role("row", name="admin")).to_be_visible()
    await expect(page.get_by_role("button", name="New key")).to_have_count(0)
    await expect(page.get_by_role("button", name="Revoke", exact=True)).to_have_count(0)
    await page.get_by_role("link", name="Enrollment").click()
    await page.get_by_role("button", name="past ones too").click()
    await expect(page.get_by_role("row", name="used up")).to_be_visible()
    await expect(page.get_by_role("button", name="New token")).to_have_count(0)


async def test_somebody_is_added_given_roles_and_shut_out(tab: Tab, fleet: Fleet) -> None:
    """A person with a password to begin with; roles given and taken away hold at once; suspended, they are shut out."""
    await tab.logged_in(path="/admin/users")
    page = tab.page
    await page.get_by_role("button", name="Add somebody").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("Bob")
    await dialog.get_by_label("Email").fill("bob@example.com")
    await dialog.get_by_label("Role").select_option(label="helpdesk")
    await dialog.get_by_label("Over").select_option(label="Acme / Main")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Add", exact=True).click()
    password = (await dialog.locator(".copy code").text_content()) or ""
    begun = await tab.api.client("").post("/session", json={"user": "Bob", "password": password, "bearer": True})
    assert (begun.status_code, begun.json()["pending"]) == (201, ["password", "totp"])
    await dialog.get_by_role("button", name="Done").click()
    row = page.get_by_role("row", name="Bob")
    await expect(row).to_contain_text("helpdesk over Acme / Main")

    await row.get_by_role("button", name="Change Bob").click()
    await dialog.get_by_role("combobox", name="Role").select_option(label="auditor")
    await dialog.get_by_role("button", name="Give it").click()
    await expect(dialog.get_by_text("auditor over everything")).to_be_visible()
    await dialog.get_by_role("button", name="Take away helpdesk over Acme / Main").click()
    await expect(dialog.get_by_text("helpdesk over")).to_have_count(0)
    await dialog.get_by_role("button", name="Reset second factor").click()
    await dialog.get_by_role("button", name="Reset: click again").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("no_second_factor")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Suspend").click()
    await dialog.get_by_role("button", name="Suspend: click again").click()
    await expect(dialog.get_by_role("button", name="Let in again")).to_be_visible()
    await dialog.get_by_role("button", name="Close", exact=True).last.click()
    await expect(row).to_contain_text("suspended")
    bob = next(one for one in (await fleet.http.get("/users")).json()["items"] if one["name"] == "Bob")
    assert (bob["disabled"], [one["role"] for one in bob["grants"]]) == (True, ["auditor"])
    again = await tab.api.client("").post("/session", json={"user": "Bob", "password": password, "bearer": True})
    assert again.status_code == 401
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0


async def test_a_user_is_renamed_and_linked_to_a_provider(tab: Tab, fleet: Fleet) -> None:
    """Name and address are what the server then has; who vouches for them is linked, named, and unlinked again."""
    await made(fleet.http, "/users", {"name": "Bob", "email": "bob@example.com"})
    await tab.logged_in(path="/admin/users")
    page = tab.page
    await page.get_by_role("button", name="Change Bob").click()
    dialog = page.get_by_role("dialog")
    name = dialog.get_by_role("region", name="Name")
    await expect(name.get_by_role("button", name="Save the name")).to_be_disabled()
    await name.get_by_label("Name").fill("Ada")
    await name.get_by_role("button", name="Save the name").click()
    await expect(name.get_by_role("alert")).to_contain_text("name_taken")
    await name.get_by_label("Name").fill("Robert")
    await name.get_by_label("E-mail").fill("robert@example.com")
    await name.get_by_role("button", name="Save the name").click()
    await expect(page.get_by_role("heading", name="Robert")).to_be_visible()
    linked = dialog.get_by_role("region", name="Linked identities")
    await expect(linked).to_contain_text("no provider can vouch for Robert yet")
    await linked.get_by_text("Link another").click()
    await linked.get_by_label("Subject").fill("0815")
    await linked.get_by_role("button", name="Link it").click()
    await expect(linked.get_by_role("alert")).to_be_visible()
    await linked.get_by_label("Issuer").fill("https://sso.example.com")
    await linked.get_by_role("button", name="Link it").click()
    await expect(linked.get_by_text("0815 at https://sso.example.com")).to_be_visible()
    assert await tab.serious_faults() == []
    bob = next(one for one in (await fleet.http.get("/users")).json()["items"] if one["name"] == "Robert")
    assert bob["email"] == "robert@example.com"
    known = (await fleet.http.get(f"/users/{bob['id']}/identities")).json()["items"]
    assert [one["subject"] for one in known] == ["0815"]
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0
    await linked.get_by_role("button", name="Unlink").click()
    await linked.get_by_role("button", name="Unlink: click again").click()
    await expect(linked).to_contain_text("no provider can vouch for Robert yet")


async def test_what_a_role_allows_is_said_in_words(tab: Tab) -> None:
    """Each permission with what it is for, and the limits; who may only look is not offered to change anybody."""
    await tab.logged_in({"role": "auditor", "everything": True}, path="/admin/roles")
    page = tab.page
    helpdesk = page.locator("details", has_text="helpdesk")
    await helpdesk.locator("summary").click()
    await expect(helpdesk).to_contain_text("No action on more than 25 machines.")
    await expect(helpdesk).to_contain_text("Run scripts from the library.")
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0
    await page.get_by_role("link", name="Users").click()
    await expect(page.get_by_role("row", name="Ada")).to_contain_text("auditor over everything")
    await expect(page.get_by_role("button", name="Change Ada")).to_have_count(0)
    await expect(page.get_by_role("button", name="Add somebody")).to_have_count(0)


async def test_a_secret_is_set_and_removed_and_never_shown(tab: Tab, fleet: Fleet) -> None:
    """The page says where it holds and when it was set; its value is nowhere, and what is wrong of it is said."""
    await tab.logged_in(path="/admin/secrets")
    page = tab.page
    await page.get_by_role("button", name="New secret").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("2 words")
    await dialog.get_by_label("Value").fill("hush-hush-hush")
    await dialog.get_by_role("button", name="Set it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("invalid")
    await dialog.get_by_label("Name").fill("db_password")
    await dialog.get_by_label("Holds for").select_option(label="Acme / Main")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Set it").click()
    row = page.get_by_role("row", name="db_password")
    await expect(row).to_contain_text("Acme / Main")
    await row.get_by_role("button", name="Set another value of").click()
    await dialog.get_by_label("Value").fill("quiet-quiet-quiet")
    await dialog.get_by_role("button", name="Set it").click()
    await expect(row).to_contain_text("(2 times)")
    kept = (await fleet.http.get("/secrets")).json()["items"]
    assert [(one["scope"], one["site_id"], one["number"]) for one in kept] == [("site", fleet.site_id, 2)]
    assert "quiet" not in await page.content()
    assert await tab.serious_faults() == []
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0
    await page.goto("/admin/secrets")
    await expect(page.get_by_role("link", name="Secrets")).to_be_in_viewport(ratio=0.9)
    await row.get_by_role("button", name="Remove").click()
    await row.get_by_role("button", name="Remove: click again").click()
    await expect(page.get_by_text("There is no secret yet")).to_be_visible()


async def test_secrets_are_sealed_anew(tab: Tab, fleet: Fleet) -> None:
    """After another click; it is said how many, and under which key; who sets those of one client may not."""
    for name in ("one", "two"):
        await made(fleet.http, "/secrets", {"name": name, "value": "hush-hush-hush", "scope": {"kind": "fleet"}})
    await tab.logged_in(path="/admin/secrets")
    page = tab.page
    await page.get_by_role("button", name="Seal anew").click()
    await page.get_by_role("button", name="Seal anew: click again").click()
    await expect(page.get_by_text("2 secrets are sealed anew, under master key")).to_be_visible()
    assert await tab.serious_faults() == []
    await page.context.clear_cookies()
    await tab.logged_in({"role": "admin", "clients": [fleet.client_id]}, name="Bob", path="/admin/secrets")
    await expect(page.get_by_role("button", name="New secret")).to_be_visible()
    await expect(page.get_by_role("button", name="Seal anew")).to_have_count(0)


async def test_who_sees_one_client_sees_its_secrets_alone(tab: Tab, fleet: Fleet) -> None:
    """Tabs of what belongs to no client are left out, and what others have is not listed."""
    for name, scope in (("ours", {"kind": "client", "client_id": fleet.client_id}), ("theirs", {"kind": "fleet"})):
        answer = await fleet.http.post("/secrets", json={"name": name, "value": "hush-hush-hush", "scope": scope})
        assert answer.is_success, answer.text
    await tab.logged_in({"role": "read-only", "clients": [fleet.client_id]}, path="/admin")
    tabs = tab.page.get_by_role("navigation", name="Admin").get_by_role("link")
    await expect(tabs).to_have_text(["Clients", "Custom fields", "Enrollment", "Secrets", "Audit"])
    await tab.page.get_by_role("link", name="Secrets").click()
    await expect(tab.page.get_by_role("row", name="ours")).to_be_visible()
    await expect(tab.page.get_by_role("row", name="theirs")).to_have_count(0)
    await expect(tab.page.get_by_role("button", name="New secret")).to_have_count(0)


async def test_a_role_is_made_changed_and_retired(tab: Tab, api: Api) -> None:
    """What is ticked is what it allows, with its limits; a change holds; built-in ones are left alone."""
    await tab.logged_in(path="/admin/roles")
    page = tab.page
    await expect(page.locator("details", has_text="helpdesk")).to_be_visible()
    await page.get_by_role("button", name="New role").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name", exact=True).fill("night shift")
    await dialog.get_by_role("checkbox", name="agents.see").check()
    await dialog.get_by_role("checkbox", name="commands.shell Run").check()
    await dialog.get_by_label("Another person approves each use of commands.shell").check()
    await dialog.get_by_label("At most so many machines in one action").fill("12")
    assert await tab.serious_faults() == []
    await dialog.get_by_role("button", name="Make it").click()
    card = page.locator("details", has_text="night shift")
    await card.locator("summary").click()
    await expect(card).to_contain_text("No action on more than 12 machines.")
    await page.get_by_role("button", name="Change night shift").click()
    await dialog.get_by_role("checkbox", name="agents.edit").check()
    await dialog.get_by_label("At most so many machines in one action").fill("")
    await dialog.get_by_role("button", name="Save").click()
    await expect(card).to_contain_text("3 permissions")

    async def kept() -> Any:
        http = api.client(**{"Fleetlog-Wait-Position": str(await api.log.head())})
        roles = (await http.get("/roles")).json()["items"]
        return next(one for one in roles if one["name"] == "night shift")

    role = await kept()
    assert role["permissions"] == ["agents.edit", "agents.see", "commands.shell"]
    assert role["limits"] == {"max_agents": None, "approval_above": None, "approval_for": ["commands.shell"]}
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0
    await card.get_by_role("button", name="Retire").click()
    await card.get_by_role("button", name="Retire: it allows nothing any more").click()
    await expect(card).to_contain_text("retired: allows nothing")
    assert (await kept())["retired"] is True


async def test_read_models_are_read_row_by_row(tab: Tab, fleet: Fleet) -> None:
    """By table and by column; what is wrong of a filter is said; who has no permission has no tab."""
    for name in ("web-01", "web-02"):
        await fleet.agent(name)
    await tab.logged_in({"role": "auditor", "everything": True}, path="/admin/browse")
    page = tab.page
    await page.get_by_label("Table", exact=True).select_option(value="agents")
    rows = page.get_by_role("group", name="agents, as a table").get_by_role("row")
    await expect(rows).to_have_count(3)
    assert await tab.serious_faults() == []
    await page.get_by_label("Column").select_option(label="name")
    await page.get_by_label("is", exact=True).fill("web-02")
    await page.get_by_role("button", name="Filter", exact=True).click()
    await expect(rows).to_have_count(2)
    await page.get_by_label("Column").select_option(label="agent_id")
    await page.get_by_label("is", exact=True).fill("nonsense")
    await page.get_by_role("button", name="Filter", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("nonsense")
    await page.get_by_role("button", name="agent_id=nonsense").click()
    await expect(rows).to_have_count(2)
    await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert await tab.sideways() == 0
    await tab.logged_in({"role": "operator", "everything": True}, name="Bob", path="/admin/health")
    await expect(page.get_by_role("link", name="System health")).to_be_visible()
    await expect(page.get_by_role("link", name="Read models")).to_have_count(0)
