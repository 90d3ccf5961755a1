"""A tab of a browser, as a test uses it."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from playwright.async_api import Browser, ConsoleMessage, Page, Request, Response, expect

import gateways.dashboard
from gateways.rest.cookies import PLAIN_NAME
from tests.rest.harness import Api
from tests.rest.people import SECOND, Person

WAIT_MS = 15_000
LOOK_S = 0.05
CALM_S = 0.3
STREAM = "text/event-stream"
AXE = Path(gateways.dashboard.__file__).with_name("node_modules") / "axe-core" / "axe.min.js"
ADMINISTRATOR: dict[str, Any] = {"role": "admin", "everything": True}
EXPECTED = ("Failed to load resource",)
"""What a browser says of every answer that is an error; whether there should be one, the test knows."""
expect.set_options(timeout=WAIT_MS)


class Tab(msgspec.Struct):
    """A page, and what went wrong in it."""

    page: Page
    api: Api
    complaints: list[str] = []
    unanswered: set[Request] = set()

    @classmethod
    async def open(cls, browser: Browser, api: Api, **context: Any) -> "Tab":
        """A tab of a browser that nobody has used yet."""
        made = await browser.new_context(base_url=api.url, **context)
        tab = cls(await made.new_page(), api)
        tab.page.set_default_timeout(WAIT_MS)
        tab.page.on("console", lambda message: tab.heard(message))  # noqa: PLW0108 - it marks who owns a method
        tab.page.on("pageerror", lambda error: tab.complaints.append(f"uncaught: {error}"))
        # Playwright marks who owns a method, which a Struct does not let it.
        tab.page.on("request", lambda request: tab.asks(request))  # noqa: PLW0108
        tab.page.on("response", lambda response: tab.hears_of(response))  # noqa: PLW0108
        tab.page.on("requestfinished", lambda request: tab.was_answered(request))  # noqa: PLW0108
        tab.page.on("requestfailed", lambda request: tab.was_answered(request))  # noqa: PLW0108
        return tab

    def heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED):
            self.complaints.append(f"{message.type}: {message.text}")

    def asks(self, request: Request) -> None:
        self.unanswered.add(request)

    def hears_of(self, response: Response) -> None:
        """A stream is answered as soon as it begins: it has no end."""
        if response.headers.get("content-type", "").startswith(STREAM):
            self.unanswered.discard(response.request)

    def was_answered(self, request: Request) -> None:
        self.unanswered.discard(request)

    async def close(self) -> None:
        await self.page.context.close()

    async def settled(self) -> None:
        """Until the page has its heading, and has had no question open for a while."""
        await expect(self.page.get_by_role("heading", level=1)).to_be_visible()
        quiet = 0.0
        async with asyncio.timeout(WAIT_MS / 1000):
            while quiet < CALM_S:
                await asyncio.sleep(LOOK_S)
                quiet = 0.0 if self.unanswered else quiet + LOOK_S

    async def logged_in(self, *grants: dict[str, Any], name: str = "Ada", path: str = "/") -> Person:
        """Show a page to a person whose login is in order; an administrator, unless it is said what they may."""
        person = await Person.ready(self.api, name, *(grants or (ADMINISTRATOR,)), bearer=False)
        host = urlsplit(self.api.url).hostname
        await self.page.context.add_cookies(
            [{"name": PLAIN_NAME, "value": person.token, "domain": host or "", "path": "/", "sameSite": "Strict"}]
        )
        await self.page.goto(path)
        return person

    async def show_it_is_me(self) -> None:
        """Answer what asks for a fresh proof."""
        proof = self.page.get_by_role("dialog", name="Is it you?")
        await proof.get_by_label("Password or code").fill(SECOND)
        await proof.get_by_role("button", name="Go on").click()

    async def serious_faults(self) -> list[str]:
        """What axe-core finds that keeps somebody from using the page: rules that are broken, and where."""
        await self.page.evaluate(await asyncio.to_thread(AXE.read_text))
        found = await self.page.evaluate("axe.run({ resultTypes: ['violations'] })")
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    async def sideways(self) -> int:
        """By how many pixels the page is wider than the window."""
        told = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return int(told)
