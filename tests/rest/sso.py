"""People who log in through a provider that runs, and what a browser or terminal of theirs holds."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import httpx2
import msgspec
import pytest

from command_bus.sso_terms import SsoTerms
from gateways.rest.cookies import CSRF_HEADER, PLAIN_NAME
from tests.rest.conftest import administered
from tests.rest.harness import Api, made
from tests.rest.provider import CLIENT, SECRET, RunningProvider, running_provider


@pytest.fixture(scope="module")
def running() -> Iterator[RunningProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(running: RunningProvider) -> RunningProvider:
    """It tells the truth until a test has it lie."""
    running.lies(reset=True)
    return running


@pytest.fixture
def terms() -> dict[str, Any]:
    """Beyond what is always set; a test module may say otherwise."""
    return {}


@pytest.fixture
async def api(postgres_url: str, provider: RunningProvider, terms: dict[str, Any]) -> AsyncIterator[Api]:
    async with with_provider(postgres_url, provider, terms) as api:
        yield api


def with_provider(url: str, provider: RunningProvider, terms: dict[str, Any]) -> AbstractAsyncContextManager[Api]:
    """An API whose people may log in through a provider."""
    said = {"issuer": provider.issuer, "client_id": CLIENT, "client_secret": SECRET} | terms
    return administered(url, sso=SsoTerms(**said))


class Page(Protocol):
    """Where people log in at some provider."""

    def sign_in(self, url: str, subject: str) -> dict[str, str]:
        """What a browser comes back with."""


class Terminal(msgspec.Struct):
    """Logs in as a program does: what stays is a ticket, and what comes a token."""

    api: Api
    provider: Page
    http: Any = None
    ticket: str = ""
    state: str = ""

    async def offered(self, path: str = "/session/sso/offer", **more: Any) -> str:
        if self.http is None:
            self.http = self.api.client("")
        answer = await self.http.post(path, json={"terminal": True} | more)
        assert answer.status_code == 200, answer.text
        self.ticket, self.state = answer.json()["ticket"], answer.json()["state"]
        return str(answer.json()["url"])

    async def back_from(self, subject: str) -> dict[str, str]:
        """Begin, and log in there; what the browser comes back with."""
        return self.provider.sign_in(await self.offered(), subject)

    async def hand_in(self, answer: dict[str, str], **more: Any) -> httpx2.Response:
        body = {name: answer[name] for name in ("state", "code", "iss") if name in answer}
        body |= {"ticket": self.ticket} | more
        return await self.http.post("/session/sso/answer", json=body)

    async def enter(self, code: str | None = None, **more: Any) -> httpx2.Response:
        body = {"state": self.state, "ticket": self.ticket, "bearer": True, "code": code} | more
        answer = await self.http.post("/session/sso", json=body)
        if answer.status_code == 201 and answer.json()["token"]:
            self.http.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        return answer

    async def log_in(self, subject: str, code: str | None = None) -> httpx2.Response:
        """All of it, or the refusal that it came to."""
        answer = await self.hand_in(await self.back_from(subject))
        return await self.enter(code) if answer.is_success else answer


class Browser(msgspec.Struct):
    """The same as a page of ours does: what stays, and what comes, are cookies."""

    api: Api
    provider: RunningProvider
    http: Any = None

    async def log_in(self, subject: str) -> httpx2.Response:
        self.http = self.api.client("", Origin=self.api.url)
        offered = (await self.http.post("/session/sso/offer", json={})).json()
        assert offered["ticket"] is None
        assert f"{PLAIN_NAME}-sso" in self.http.cookies
        answer = self.provider.sign_in(offered["url"], subject)
        known = await self.http.post("/session/sso/answer", json=answer)
        assert known.is_success, known.text
        begun = await self.http.post("/session/sso", json={"state": answer["state"]})
        if begun.is_success:
            self.http.headers[CSRF_HEADER] = begun.json()["csrf_token"]
        return begun


async def linked(api: Api, user_id: str, subject: str, **more: Any) -> str:
    """Have an administrator link somebody."""
    body = {"subject": subject} | more
    return str((await made(api.client(), f"/users/{user_id}/identities", body))["id"])


async def plain_user(api: Api, name: str = "Ada", *grants: dict[str, Any]) -> str:
    """Somebody who has no password at all."""
    return str((await made(api.client(), "/users", {"name": name, "grants": list(grants)}))["id"])


async def refusals(api: Api) -> list[tuple[str, str]]:
    """Why whom was refused, by the log, oldest first: (why, detail)."""
    return [(one["data"]["why"], one["data"].get("detail", "")) for one in await of_type(api, "LoginRefused")]


async def of_type(api: Api, event_type: str) -> list[dict[str, Any]]:
    """Events by the log, oldest first."""
    answer = await api.client().get("/events", params={"limit": 500, "type": event_type})
    return sorted(answer.json()["items"], key=lambda one: one["position"])
