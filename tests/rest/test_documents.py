"""What the API says of itself."""

import inspect

import httpx2
from openapi_pydantic import OpenAPI

from gateways.rest.openapi import build_document, problem_types
from gateways.rest.route import API
from gateways.rest.routes import ROUTES
from tests.rest.harness import Api


async def test_the_document_covers_every_route(api: Api) -> None:
    """OpenAPI 3.1, well formed; each declared route is in it and nothing else."""
    async with httpx2.AsyncClient(base_url=api.url, trust_env=False) as client:
        document = (await client.get("/openapi.json")).json()
    OpenAPI.model_validate(document)
    assert document["openapi"].startswith("3.1")
    told = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert told == {(route.method, API + route.path) for route in ROUTES}
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_every_reference_resolves() -> None:
    """No schema names another that the document does not hold, and none is left over."""
    text = str(document := build_document(ROUTES))
    for name in document["components"]["schemas"]:
        assert f"#/components/schemas/{name}'" in text, name
    for part in text.split("#/components/schemas/")[1:]:
        assert part.partition("'")[0] in document["components"]["schemas"]


async def test_the_page_needs_nobody_else(api: Api) -> None:
    """/docs shows every operation and every problem, without a script, from this server alone."""
    async with httpx2.AsyncClient(base_url=api.url, trust_env=False) as client:
        page = await client.get("/docs")
        style = await client.get("/docs.css")
    assert page.status_code == style.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "://" not in page.text
    for route in ROUTES:
        assert f"id='{route.operation_id}'" in page.text
    for code in problem_types(ROUTES):
        assert f"id='{code}'" in page.text


async def test_metrics_count_by_route_and_not_by_address(api: Api) -> None:
    """Requests are counted under their template, so that ids in addresses do not fill the memory."""
    await api.client().get("/agents/01890a5d-ac96-774b-bcce-b302099a8057")
    await api.client().get("/nothing/at/all")
    async with httpx2.AsyncClient(base_url=api.url, trust_env=False) as client:
        text = (await client.get("/metrics")).text
    assert 'route="/api/v1/agents/{agent_id}",status="404"' in text
    assert 'route="unmatched",status="404"' in text
    assert "01890a5d" not in text


def test_what_reads_a_projection_can_be_asked_to_wait_for_it() -> None:
    """A route that opens a connection to the read models says which ones: else nobody sees their own write by it."""
    silent = [
        f"{route.method} {route.path}"
        for route in ROUTES
        if "call.connection()" in inspect.getsource(route.handler) and not (route.reads or route.of_log)
    ]
    assert silent == []
