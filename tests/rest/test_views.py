"""Saved views: one's own are one's own, and shared ones are seen where their place is seen."""

from uuid import UUID

import pytest

from tests.rest.harness import Api, Fleet, made


async def test_a_view_is_saved_changed_shared_and_removed(api: Api, fleet: Fleet) -> None:
    """Others see it once it is shared, and change it only where they may edit machines."""
    http = fleet.http
    view = {"name": "Web, off", "query": "  tag:web   status:offline ", "sort": "-seen", "columns": ["name", "seen"]}
    view_id = (await made(http, "/views", view))["id"]
    read_only = {"role": "read-only", "clients": [UUID(fleet.client_id)]}
    reader = api.client(await api.key_that_may(grants=[read_only]), check=False)

    async def seen() -> list[str]:
        reader.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
        return [one["name"] for one in (await reader.get("/views")).json()["items"]]

    shown = (await http.get(f"/views/{view_id}")).json()
    assert (shown["query"], shown["own"], shown["shared"]) == ("tag:web status:offline", True, False)
    assert await seen() == []
    await http.put(f"/views/{view_id}", json=view | {"site_id": fleet.site_id, "shared": True})
    assert await seen() == ["Web, off"]  # and the read models are as far as that
    assert (await http.get(f"/views/{view_id}")).json()["client_id"] == fleet.client_id
    assert (await reader.get(f"/views/{view_id}")).json()["own"] is False
    assert (await reader.post(f"/views/{view_id}/remove", json={})).status_code == 404
    operator = api.client(
        await api.key_that_may(grants=[{"role": "operator", "clients": [UUID(fleet.client_id)]}]), check=False
    )
    assert (await operator.put(f"/views/{view_id}", json={"name": "All of them"})).is_success
    assert await seen() == []
    assert (await http.get(f"/views/{view_id}")).json()["own"] is True
    removed = await http.post(f"/views/{view_id}/remove", json={})
    http.headers["Fleetlog-Wait-Position"] = removed.headers["Fleetlog-Position"]
    assert (await http.get("/views")).json()["items"] == []


async def test_nobody_shares_what_reaches_beyond_where_they_may_edit(api: Api, fleet: Fleet) -> None:
    """One of the whole fleet takes the permission everywhere; one of a client takes it there."""
    grants = [{"role": "operator", "clients": [UUID(fleet.client_id)]}]
    operator = api.client(await api.key_that_may(grants=grants), check=False)
    everywhere = {"name": "x", "shared": True}
    refused = await operator.post("/views", json=everywhere)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await operator.post("/views", json=everywhere | {"client_id": fleet.client_id})).status_code == 201
    reader = api.client(await api.key_that_may(grants=[grants[0] | {"role": "read-only"}]), check=False)
    assert (await reader.post("/views", json=everywhere | {"client_id": fleet.client_id})).status_code == 403
    assert (await reader.post("/views", json={"name": "mine"})).status_code == 201


@pytest.mark.parametrize(
    ("wrong", "where"),
    [({"sort": "colour"}, "/sort"), ({"columns": ["a b"]}, "/columns/0"), ({"query": "x" * 501}, "/query")],
)
async def test_what_is_no_view_is_refused_with_the_field_that_is_wrong(
    fleet: Fleet, wrong: dict[str, object], where: str
) -> None:
    """And nothing is saved."""
    http = fleet.api.client(check=False)
    refused = await http.post("/views", json={"name": "x"} | wrong)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == where
    assert (await http.get("/views")).json()["items"] == []
