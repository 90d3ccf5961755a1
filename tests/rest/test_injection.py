"""Text from people is text: no statement, subject, header, path or template is made of it, in any field."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateways.rest.routes import ROUTES
from tests.rest.harness import Api, Fleet

NASTY = (
    "'; DROP TABLE read.agents; --",
    '" OR ""="',
    "fleet.*.cmd",
    ">",
    "x\r\nSet-Cookie: owned=1",
    "../../../etc/passwd",
    "%2e%2e%2f%00",
    "{{7*7}}${7*7}#{7*7}<%= 7*7 %>",
    "<script>alert(1)</script>",
    "\x1b]0;owned\x07",
    "%s%n{0}",
)


def _texts(schema: dict[str, Any], defs: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every place of a body that takes a text of one's own."""
    if "$ref" in schema:
        if len(path) < 4:
            yield from _texts(defs[schema["$ref"].rpartition("/")[2]], defs, path)
        return
    for one in schema.get("anyOf", []):
        yield from _texts(one, defs, path)
    if schema.get("type") == "string" and not {"format", "enum", "const"} & schema.keys():
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from _texts(inner, defs, (*path, name))


async def _sane(api: Api, before: list[str]) -> None:
    """The database still has what it had, and the server answers."""
    http = api.client()
    names = [one["name"] for one in (await http.get("/clients")).json()["items"]]
    assert set(before) <= set(names)


@pytest.mark.parametrize("nasty", NASTY)
async def test_every_text_field_takes_it_as_text_or_refuses_it(api: Api, fleet: Fleet, nasty: str) -> None:
    """By the routes' own schemas: each text of each body is accepted as it stands or refused, and breaks nothing."""
    agent_id = await fleet.agent()
    http = api.client(check=False)
    document = (await http.get(f"{api.url}/openapi.json")).json()
    defs = document["components"]["schemas"]
    before = [one["name"] for one in (await api.client().get("/clients")).json()["items"]]
    tried = 0
    for route in ROUTES:
        if route.intent is None or route.streams:
            continue
        schema = route.intent.model_json_schema(ref_template="#/components/schemas/{model}")
        own = defs | schema.get("$defs", {})
        ids = dict.fromkeys(route.path_names, agent_id) | {"revision": "1"}
        for place in set(_texts(schema, own)):
            if place and place[0] in route.path_names:
                continue
            body: dict[str, Any] = {}
            inner = body
            for name in place[:-1]:
                inner = inner.setdefault(name, {})
            if place:
                inner[place[-1]] = nasty
            response = await http.request(route.method, route.path.format(**ids), json=body)
            assert response.status_code < 500, (route.method, route.path, place, response.text)
            assert "set-cookie" not in response.headers
            tried += 1
    assert tried > 20
    await _sane(api, before)


@pytest.mark.parametrize("nasty", NASTY)
async def test_what_is_kept_comes_back_as_it_was(api: Api, fleet: Fleet, nasty: str) -> None:
    """A name, a tag, a search and a header that hold it: kept to the letter, found by the letter, or refused."""
    http = api.client(check=False)
    agent_id = await fleet.agent()
    made = await http.put(f"/agents/{agent_id}/name", json={"name": nasty})
    if made.is_success:
        found = await http.get(
            "/agents", params={"q": nasty}, headers={"Fleetlog-Wait-Position": made.headers["Fleetlog-Position"]}
        )
        assert [one["name"] for one in found.json()["items"]] == [nasty]
        assert found.headers["content-type"].startswith("application/json")
    else:
        assert made.status_code == 422
    searched = await http.get("/agents", params={"q": nasty, "tag": nasty})
    assert searched.status_code in (200, 400, 422)
    for path in (f"/agents/{nasty!r}", "/scripts/%2e%2e%2fx"):
        assert (await http.get(path)).status_code in (400, 404, 405, 422)
