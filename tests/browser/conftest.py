"""The dashboard in a real browser, on a real API, log and projector."""

import inspect
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from gateways.dashboard import bundle
from tests.browser.harness import Tab
from tests.rest.conftest import administered
from tests.rest.harness import Api, Fleet

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for all that is here, since a browser belongs to the loop that started it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session", autouse=True)
def bundled() -> None:
    """What is tested is what the sources are; `make` has seen to it already."""
    if CHROMIUM is None:
        pytest.skip("the browser's tests need chromium, for example from: apt-get install chromium")
    assert bundle.STAMP.is_file(), "there is no bundle: make dashboard"
    assert bundle.STAMP.read_text() == bundle.sources_digest(), "the bundle is of other sources: make dashboard"


@pytest_asyncio.fixture(loop_scope="session")
async def api(postgres_url: str) -> AsyncIterator[Api]:
    """The API behind a real server."""
    async with administered(postgres_url) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def fleet(api: Api) -> Fleet:
    """A client named Acme with one site."""
    return await Fleet.make(api, api.client(), "Acme")


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One for all tests of this process: to start it, and what drives it, takes as long as a test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """The browser, as if nobody had used it: nothing outlives the test."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, api: Api) -> AsyncIterator[Tab]:
    """One page of one browser, with nobody logged in; whatever it complains of fails the test."""
    tab = await Tab.open(browser, api)
    yield tab
    await tab.close()
    assert tab.complaints == []
