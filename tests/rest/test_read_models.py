"""The rows of read models, as they are kept."""

from typing import Any

import pytest

from tests.rest.harness import Api, Fleet


async def read(fleet: Fleet, **params: object) -> tuple[int, Any]:
    answer = await fleet.http.get("/read-models/rows", params=params)
    return answer.status_code, answer.json()


async def test_rows_come_in_pages_and_by_column(fleet: Fleet) -> None:
    """Every row once, by its key; a filter narrows, and one that is none is named."""
    agents = sorted([await fleet.agent(f"web-{n}") for n in range(5)])
    await fleet.command(agents[0])
    tables = {one["table"]: one for one in (await fleet.http.get("/read-models")).json()["items"]}
    assert tables["agents"]["key"] == ["agent_id"]
    assert tables["agents"]["columns"]["online"] == "boolean"
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await fleet.api.log.head())
    await fleet.http.get("/agents")
    seen: list[str] = []
    cursor: dict[str, object] = {}
    while True:
        _, page = await read(fleet, table="agents", limit=2, **cursor)
        seen += [one["agent_id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == agents
    _, page = await read(fleet, table="agents", filter=["name=web-3", "online=false"])
    assert [one["name"] for one in page["items"]] == ["web-3"]
    _, page = await read(fleet, table="agents", filter="connected_at=")
    assert len(page["items"]) == 5


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"table": "nothing"}, "not_found"),
        ({"table": 'agents" --'}, "not_found"),
        ({"table": "agents", "filter": "nothing=1"}, "invalid_value"),
        ({"table": "agents", "filter": "name"}, "invalid_value"),
        ({"table": "agents", "filter": "agent_id=x"}, "invalid_value"),
        ({"table": "agents", "filter": 'name" = name; --=1'}, "invalid_value"),
        ({"table": "api_keys", "filter": "secret_sha256=x"}, "invalid_value"),
        ({"table": "agents", "cursor": "x"}, "invalid_cursor"),
    ],
)
async def test_what_cannot_be_asked_is_named(fleet: Fleet, params: dict[str, str], code: str) -> None:
    """A table, column or value that is not there is the caller's to mend."""
    _, problem = await read(fleet, **params)
    assert problem["code"] == code


async def test_no_credential_is_shown(api: Api, fleet: Fleet) -> None:
    """Neither what a key is kept as, nor to whom the platform's own is not given."""
    key = await api.key_that_may(grants=[{"role": "administrator", "clients": [fleet.client_id]}])
    fleet.http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    await fleet.http.get("/api-keys")
    _, page = await read(fleet, table="api_keys")
    assert {one["secret_sha256"] for one in page["items"]} == {"(not shown)"}
    assert (await api.client(key).get("/read-models")).status_code == 403
