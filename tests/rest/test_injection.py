"""Text from people is text: no statement, subject, header, path or template is made of it, in any field."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from gateways.rest.routes import ROUTES
from tests.rest.harness import Api, Fleet
from tests.rest.payloads import FAMILIES, MARK, Document, Place

AT_ONCE = 16

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


def _request(http: httpx2.AsyncClient, place: Place, text: str) -> httpx2.Request:
    asked = place.holding(text)
    method, _, _ = place.operation.partition(" ")
    path = place.path.replace(MARK, "".join(f"%{byte:02x}" for byte in text.encode()))
    # The end of a header's line is for the client to write, and no text can hold it; all else is sent as it stands.
    headers = {name: value.replace("\r\n", " ").encode() for name, value in asked.headers.items()}
    url = path.removeprefix("/api/v1")
    if asked.body is not None:
        headers["content-type"] = b"application/json"
    content = None if asked.body is None else msgspec.json.encode(asked.body)
    return http.build_request(method, url, params=asked.query or None, content=content, headers=headers)  # type: ignore[arg-type]  # bytes will do


async def _said(http: httpx2.AsyncClient, place: Place, text: str) -> str:
    """What is wrong with the answer to a request that holds a text somewhere; empty where nothing is."""
    try:
        response = await http.send(_request(http, place, text), stream=True)
    except httpx2.LocalProtocolError:
        return ""  # no HTTP client can say it
    try:
        kind = response.headers.get("content-type", "")
        # An event stream has no end.
        told = b"" if kind.startswith("text/event-stream") else await response.aread()
    finally:
        await response.aclose()
    signs = {
        "it failed": response.status_code >= 500,
        "headers of its own": not {"set-cookie", "x-owned"}.isdisjoint(response.headers),
        "it was calculated": b"54397" in told,
        "it is answered as a page": kind.startswith("text/html"),
        "control characters in the answer": b"\x1b" in told or b"\x07" in told,
    }
    wrong = [sign for sign, so in signs.items() if so]
    return f"{', '.join(wrong)}: {response.status_code} {told[:300]!r}" if wrong else ""


async def test_every_text_of_every_route_is_taken_as_text_or_refused(api: Api, fleet: Fleet) -> None:
    """By the OpenAPI document: whatever a text holds, in bodies, queries, headers and paths, it stays a text."""
    agent_id = await fleet.agent()
    http = api.client(await api.key(), check=False)
    document = (await http.get(f"{api.url}/openapi.json")).json()
    places = list(Document(document, agent_id).places())
    before = (await http.get("/clients")).json()["items"]
    limit = asyncio.Semaphore(AT_ONCE)

    async def tried(place: Place, family: str) -> str:
        async with limit:
            wrong = await _said(http, place, FAMILIES[family])
        return f"{place.operation} {place.where} [{family}]: {wrong}" if wrong else ""

    found = await asyncio.gather(*(tried(*one) for one in _chosen(places)))
    assert [one for one in found if one] == []
    _covers(document, places)
    after = (await api.client().get("/clients")).json()["items"]
    assert {one["id"] for one in before} <= {one["id"] for one in after}


def _chosen(places: list[Place]) -> Iterator[tuple[Place, str]]:
    """Each place with all families; headers are read by the same lines for all routes, so they share them out."""
    families = list(FAMILIES)
    for number, place in enumerate(places):
        for family in families[number % len(families) :][:1] if place.headers else families:
            yield place, family


def _covers(document: dict[str, Any], places: list[Place]) -> None:
    """Every operation whose declarations take a text has places, and none was invented."""
    operations = {f"{method.upper()} {path}" for path, by in document["paths"].items() for method in by}
    assert {place.operation for place in places} <= operations
    silent = {f"{route.method} /api/v1{route.path}" for route in ROUTES} - {place.operation for place in places}
    # These take no text at all: nothing in a path, a query or a body.
    for name in silent:
        method, _, path = name.partition(" ")
        assert "{" not in path, f"{name} takes a text in its path, and was not tried"
        body = document["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
        name_of = body.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        fields = document["components"]["schemas"].get(name_of, {}).get("properties", {})
        texts = [field for field, one in fields.items() if one.get("type") == "string" and "enum" not in one]
        assert not texts, f"{name} takes {texts}, and was not tried"
    assert len(places) > 200, "fewer than there are: the document is not read as it is written"


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
