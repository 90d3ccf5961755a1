"""Scripts: revisions that stay, and changes that change only what they name."""

from typing import Any
from uuid import uuid4

from tests.rest.harness import Api, Fleet, made

CONTENT = {"shell": "sh", "body": "date"}


async def test_a_change_leaves_what_it_does_not_name(api: Api) -> None:
    """A new name keeps the description, and a new description the name."""
    http = api.client()
    path = f"/scripts/{(await made(http, '/scripts', {'name': 'a', 'description': 'why', 'content': CONTENT}))['id']}"
    for change in ({"name": "b"}, {"description": "because"}, {}):
        response = await http.patch(path, json=change)
        assert response.status_code == 200
        http.headers["Fleetlog-Wait-Position"] = response.headers["Fleetlog-Position"]
    script = (await http.get(path)).json()
    assert (script["name"], script["description"]) == ("b", "because")


async def test_a_revision_stays_as_it_is(api: Api) -> None:
    """What a script was is read back after it has become something else, and after it was archived."""
    http = api.client()
    path = f"/scripts/{(await made(http, '/scripts', {'name': 'a', 'content': CONTENT}))['id']}"
    await made(http, f"{path}/revisions", {"content": {"shell": "sh", "body": "uptime"}})
    await made(http, f"{path}/archive", {})
    bodies = [(await http.get(f"{path}/revisions/{number}")).json()["body"] for number in (1, 2)]
    assert bodies == ["date", "uptime"]
    refused = await http.post(f"{path}/revisions", json={"content": CONTENT})
    assert (refused.status_code, refused.json()["code"]) == (409, "script_archived")


async def test_a_script_lies_in_a_folder(fleet: Fleet) -> None:
    """From the start or later; its name stays; slashes at the ends do not count; a part without a name is refused."""
    http = fleet.http
    made_ = await made(http, "/scripts", {"name": "a", "description": "why", "folder": "/Backup/", "content": CONTENT})
    path = f"/scripts/{made_['id']}"

    async def lies() -> tuple[str, str, str]:
        script = (await http.get(path)).json()
        return script["name"], script["description"], script["folder"]

    assert await lies() == ("a", "why", "Backup")
    for folder in ("Backup / Linux", "Backup / Linux", ""):
        changed = await http.patch(path, json={"folder": folder})
        assert changed.status_code == 200, changed.text
        http.headers["Fleetlog-Wait-Position"] = changed.headers["Fleetlog-Position"]
        assert await lies() == ("a", "why", folder.replace(" / ", "/"))
    refused = await http.patch(path, json={"folder": "Backup//Linux"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_value")
    both = await http.patch(path, json={"folder": "Old", "name": "b"})
    http.headers["Fleetlog-Wait-Position"] = both.headers["Fleetlog-Position"]
    assert await lies() == ("b", "why", "Old")


async def test_everybody_has_favourites_of_their_own(api: Api) -> None:
    """Taken in and out as often as one likes; a script that is not there is none; who may only look has some, too."""
    http = api.client()
    script_id = (await made(http, "/scripts", {"name": "a", "content": CONTENT}))["id"]
    looker = api.client(await api.key_that_may(grants=[{"role": "read-only", "everything": True}]))

    async def kept(client: Any) -> list[str]:
        client.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
        return list((await client.get("/favourites")).json()["items"])

    for _ in range(2):
        assert (await looker.post(f"/scripts/{script_id}/favourite", json={})).status_code == 200
    assert (await kept(looker), await kept(http)) == ([script_id], [])
    assert (await http.post(f"/scripts/{uuid4()}/favourite", json={})).status_code == 404
    for _ in range(2):
        await made(looker, f"/scripts/{script_id}/favourite", {"favourite": False})
    assert await kept(looker) == []
    await made(looker, f"/scripts/{script_id}/favourite", {})
    assert await kept(looker) == [script_id]
