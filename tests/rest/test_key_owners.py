"""Whose a key is: from now on somebody's, always."""

from command_bus.credentials import KEY_PREFIX, mint
from command_bus.ids import new_id, utc_now
from domain.access import Grant
from domain.api_keys import ApiKey, ApiKeyCreated
from domain.event import Metadata
from domain.permissions import Permission
from domain.roles import Role
from tests.rest.harness import Api, made
from tests.rest.people import Person

ALL = {"role": "administrator", "everything": True}


async def test_a_persons_key_is_their_own(api: Api) -> None:
    """Where no owner is named, by their session as by a key of theirs; disabled, they take it with them."""
    ada = await Person.ready(api, "Ada", ALL)
    first = await made(ada.http, "/api-keys", {"name": "ci", "role": "administrator", "unattended": True})
    second = await made(api.client(first["key"]), "/api-keys", {"name": "ci"})
    assert first["owner_id"] == second["owner_id"] == ada.user_id
    assert (await api.client(second["key"]).get("/me")).json()["user_id"] == ada.user_id
    assert "ci" not in [user["name"] for user in (await ada.http.get("/users")).json()["items"]]
    await made(api.client(), f"/users/{ada.user_id}/disable", {})
    assert (await api.client(second["key"]).get("/me")).status_code == 401


async def test_a_programs_key_has_an_account_made_with_it(api: Api) -> None:
    """Of the key's name and with what it may, in one transaction; a name that is taken is told apart, not refused."""
    http = api.client()
    head = await api.log.head()
    first = await made(http, "/api-keys", {"name": "ci", "role": "read-only"})
    gained = [type(one).__name__ for one in await api.done_since(head)]
    assert gained == ["UserCreated", "NameClaimed", "ApiKeyCreated"]
    second = await made(http, "/api-keys", {"name": "ci", "role": "read-only"})
    owners = {one["id"]: one for one in (await http.get("/users")).json()["items"]}
    assert owners[first["owner_id"]]["name"] == "ci"
    assert owners[second["owner_id"]]["name"] == f"ci {second['id'].replace('-', '')[-8:]}"
    for one in (first, second):
        owner = owners[one["owner_id"]]
        assert (owner["kind"], [grant["role"] for grant in owner["grants"]]) == ("service", ["read-only"])
        assert (await api.client(one["key"]).get("/me")).json()["user_id"] == one["owner_id"]
    await made(http, f"/users/{first['owner_id']}/disable", {})
    assert (await api.client(first["key"]).get("/me")).status_code == 401
    assert (await api.client(second["key"]).get("/me")).status_code == 200


async def test_an_old_key_without_an_owner_goes_on(api: Api) -> None:
    """It does what it did, is listed as nobody's, and what it makes has an owner."""
    key = ApiKey(new_id())
    credential = mint(KEY_PREFIX, key.stream_id)
    grants = (Grant(role_id=Role.ADMIN.id, everything=True),)
    old = ApiKeyCreated(name="old", secret_sha256=credential.secret_sha256, grants=grants, unattended=True)
    await api.log.append([key.create(old, utc_now())], Metadata(actor="system", correlation_id=new_id()))
    http = api.client(credential.text)
    made_by_it = await made(http, "/api-keys", {"name": "new", "role": "read-only"})
    listed = {one["id"]: one for one in (await http.get("/api-keys")).json()["items"]}
    assert listed[str(key.stream_id)]["owner_id"] is None
    assert listed[made_by_it["id"]]["owner"] == "new"


async def test_a_key_made_for_somebody_else_does_not_grow_with_them(api: Api) -> None:
    """It keeps to what its owner had when it was made, in whose name it speaks; their own grows with them."""
    http = api.client()
    for name, permissions in (("keys", ["keys.manage", "agents.see"]), ("sees", ["agents.see"])):
        await made(http, "/roles", {"name": name, "permissions": permissions})
    ada = await Person.ready(api, "Ada", {"role": "keys", "everything": True})
    bob = await made(http, "/users", {"name": "Bob", "grants": [{"role": "sees", "everything": True}]})
    ada.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    of_bob = await made(ada.http, "/api-keys", {"name": "for Bob", "owner_id": bob["id"]})
    of_ada = await made(ada.http, "/api-keys", {"name": "own", "owner_id": ada.user_id})
    for one in (bob["id"], ada.user_id):
        changed = await http.put(f"/users/{one}/grants", json={"grants": [ALL]})
        assert changed.is_success
    wait = {"Fleetlog-Wait-Position": changed.headers["Fleetlog-Position"]}
    may = {}
    for name, key in (("bob", of_bob), ("ada", of_ada)):
        me = (await api.client(key["key"], **wait).get("/me")).json()
        may[name] = {one["permission"] for one in me["may"]}
    assert may["bob"] == {"agents.see"}
    assert len(may["ada"]) == len(Permission)
    listed = {one["name"]: one for one in (await http.get("/api-keys")).json()["items"]}
    assert [grant["role"] for grant in listed["for Bob"]["grants"]] == ["sees"]
    assert listed["own"]["grants"] is None
    await made(http, f"/users/{bob['id']}/disable", {})
    assert (await api.client(of_bob["key"]).get("/me")).status_code == 401


async def test_nobody_makes_more_than_they_have_this_way(api: Api) -> None:
    """The account that is made with a key may no more than whoever asked for it."""
    http = api.client()
    await made(http, "/roles", {"name": "keys", "permissions": ["keys.manage", "agents.see"]})
    fields = {"grants": [{"role": "keys", "everything": True}]}
    maker = api.client(await api.key_that_may(**fields), **{"Fleetlog-Wait-Position": str(await api.log.head())})
    head = await api.log.head()
    for body in ({"name": "x"}, {"name": "x", "role": "administrator"}):
        assert (await maker.post("/api-keys", json=body)).json()["code"] == "forbidden"
    assert await api.done_since(head) == []
    assert (await maker.post("/api-keys", json={"name": "x"} | fields)).is_success
