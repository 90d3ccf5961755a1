"""The pictures of the dashboard in ``docs/images``, of the fleet of ``fleetlog demo --keep``: ``make screenshots``."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
from playwright.async_api import Browser, Page, async_playwright, expect

from gateways.local.demo_fleet import demo_fleet
from gateways.local.demo_history import PAUSED, RUNNING
from gateways.local.demo_login import Login
from gateways.local.demo_stage import Stage

IMAGES = Path(__file__).with_name("images")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 150_000
WIDE, LOW, NARROW = (1280, 660), (1280, 420), (360, 720)
"""Pixels."""
WAIT_MS = 20_000


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One file, and what is on it."""

    name: str
    path: str
    ready: str
    """Text that is there once the page shows what it is to show."""
    scheme: Literal["light", "dark"] = "light"
    window: tuple[int, int] = WIDE


async def pictures(api: Any) -> list[Picture]:
    """All of them, for a fleet."""
    rollouts = {one["name"]: one["id"] for one in await asyncio.to_thread(list, api.items("/rollouts"))}
    scripts = {one["name"]: one["id"] for one in await asyncio.to_thread(list, api.items("/scripts"))}
    machines = {one["name"]: one["id"] for one in await asyncio.to_thread(list, api.items("/agents", q="kl-ho-db01"))}
    machine = f"/agents/{machines['kl-ho-db01']}"
    # While something waited for it, so that the past has a queue to show.
    story = await asyncio.to_thread(lambda: api.get(f"/agents/{machines['kl-ho-db01']}/timeline", limit=100)["items"])
    then = next((one for one in story if one["type"] == "CommandDelivered"), story[-1])["position"]
    return [
        Picture(name="fleet", path="/?sort=id", ready="kl-ho-db01"),
        Picture(name="fleet-dark", path="/?f=kl-ho", ready="kl-ho-db01", scheme="dark"),
        Picture(name="fleet-phone", path="/?sort=id", ready="kl-ho-db01", window=NARROW),
        Picture(name="machine", path=machine, ready="kl-ho-db01"),
        Picture(name="machine-then", path=f"{machine}?at={then}", ready="As of", window=LOW),
        Picture(name="rollouts", path="/rollouts", ready=RUNNING, window=LOW),
        Picture(name="rollout-dark", path=f"/rollouts/{rollouts[PAUSED]}", ready=PAUSED, scheme="dark"),
        Picture(name="script", path=f"/scripts/{scripts['disk-report']}", ready="disk-report", window=LOW),
        Picture(name="activity-phone", path="/activity", ready="Activity", scheme="dark", window=NARROW),
    ]


async def log_in(page: Page, login: Login, code: str) -> None:
    """As somebody does who has only what was printed."""
    await page.goto("/")
    await page.get_by_label("Name").fill(login.name)
    await page.get_by_label("Password").fill(login.password)
    await page.get_by_label("Code").fill(code)
    await page.get_by_role("button", name="Log in", exact=True).click()
    await expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible(timeout=WAIT_MS)


async def take(browser: Browser, url: str, state: Any, picture: Picture) -> Path:
    """Take one.

    Args:
        browser: takes it.
        url: of the dashboard.
        state: of a browser that is logged in.
        picture: what is taken.

    Returns:
        The file.

    Raises:
        ValueError: it is larger than a page of the documentation should have to load.
    """
    context = await browser.new_context(
        base_url=url,
        storage_state=state,
        viewport={"width": picture.window[0], "height": picture.window[1]},
        color_scheme=picture.scheme,
        reduced_motion="reduce",
    )
    page = await context.new_page()
    await page.goto(picture.path)
    await expect(page.get_by_text(picture.ready).first).to_be_visible(timeout=WAIT_MS)
    await page.wait_for_timeout(1_000)  # what streams in behind the first answer; a live page is never idle
    file = IMAGES / f"{picture.name}.png"
    await page.screenshot(path=file)
    await context.close()
    size = file.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{file} has {size} bytes; at most {MOST_BYTES} are wanted.")
    return file


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser that is installed here.

    Raises:
        FileNotFoundError: there is none.
    """
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise FileNotFoundError("Chromium is needed; on Debian and Ubuntu: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        await browser.close()


def say(line: str) -> None:
    """Tell whoever waits."""
    sys.stdout.write(f"{line}\n")


async def main() -> None:
    """Bring up a Fleetlog and its fleet, and take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with Stage(say) as stage:
        stage.bring_up()
        async with demo_fleet(stage.api, tell=say) as fleet, chromium() as browser:
            context = await browser.new_context(base_url=stage.api.url)
            await log_in(await context.new_page(), fleet.login, fleet.login.codes[0])
            state = await context.storage_state()
            for picture in await pictures(stage.api):
                file = await take(browser, stage.api.url, state, picture)
                say(f"{file.relative_to(IMAGES.parent.parent)}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
