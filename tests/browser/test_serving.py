"""The dashboard's files, as the API serves them."""

import re

import httpx2

from gateways.dashboard import bundle
from gateways.dashboard.serving import POLICY
from tests.rest.harness import Api

MOST_BYTES = 200_000
"""Gzipped JavaScript until the first page shows."""


async def test_the_page_and_its_files(api: Api) -> None:
    """The page is asked for each time, its files are kept for good, and both come packed under a strict policy."""
    http = api.client("", check=False)
    page = await http.get(f"{api.url}/", headers={"Accept-Encoding": "gzip"})
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-encoding"] == "gzip"
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    again = await http.get(f"{api.url}/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    script = re.findall(r'src="(/assets/[^"]+\.js)"', page.text)[0]
    file = await http.get(api.url + script, headers={"Accept-Encoding": "identity"})
    assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert file.headers["content-type"].startswith("text/javascript")
    assert "content-encoding" not in file.headers
    assert file.headers["x-content-type-options"] == "nosniff"
    assert not re.findall(r"https?://(?!www\.w3\.org|react\.dev|localhost)[\w.-]+\.\w+/", page.text)


async def test_every_other_path_is_the_page_or_a_problem(api: Api) -> None:
    """A link into the middle of the dashboard opens it; what is no page of it stays a problem document."""
    http = api.client("", check=False)

    async def get(path: str, method: str = "GET") -> httpx2.Response:
        return await http.request(method, api.url + path)

    for path in ("/agents/0192", "/rollouts", "/index.html"):
        assert (await get(path)).headers["content-type"].startswith("text/html"), path
    for path in (
        "/api/v1/nothing",
        "/api",
        "/docs/x",
        "/assets/none.js",
        "/.sources",
        "/.vite/manifest.json",
        "/x.php",
    ):
        answer = await get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route"), path
    assert (await get("/", "POST")).json()["code"] == "method_not_allowed"
    assert (await get("/", "HEAD")).content == b""


def test_the_first_page_is_small() -> None:
    """What is loaded before the first page shows stays under its bound."""
    assert 50_000 < bundle.first_page_bytes() < MOST_BYTES
