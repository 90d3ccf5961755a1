"""Logging in through a provider from a terminal: with a browser here, or one elsewhere and what its page shows."""

import asyncio
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
import pyotp
import pytest

from gateways.cli import sso
from gateways.cli.errors import BadValueError
from gateways.cli.profile import kept
from tests.cli.terminal import Terminal
from tests.rest.harness import Api
from tests.rest.people import Person
from tests.rest.provider import RunningProvider
from tests.rest.sso import api, provider, running, terms
from tests.rest.test_permissions import until

__all__ = ["api", "provider", "running", "terms"]

ALL: dict[str, Any] = {"role": "administrator", "everything": True}


@pytest.fixture(autouse=True)
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile of the test's own."""
    file = tmp_path / "config" / "profile.json"
    monkeypatch.setenv("FLEETLOG_PROFILE", str(file))
    monkeypatch.setenv("FLEETLOG_DATA_DIR", str(tmp_path))
    return file


def port_of(answer: dict[str, str]) -> str:
    """Where our page sends it on to."""
    return f"http://127.0.0.1:{answer['state'].partition('.')[0]}/"


async def test_a_browser_on_this_machine(
    api: Api, provider: RunningProvider, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened, and what it comes back with is taken from the loopback; what else comes there is not."""
    ada = await Person.ready(api, "Ada", ALL)
    await terminal.ok("users", "link", "Ada", "--subject", "sub-ada")
    assert "sub-ada" in await terminal.ok("users", "identities", "Ada")
    said: list[int] = []

    def go(url: str) -> bool:
        def browse() -> None:
            answer = provider.sign_in(url, "sub-ada")
            # The page reads the port out of the state; here that is done for it.
            with httpx2.Client(trust_env=False) as browser:
                queries = ({"state": "x", "code": "evil"}, {}, answer)
                said.extend(browser.get(port_of(answer), params=query).status_code for query in queries)

        threading.Thread(target=browse).start()
        return True

    monkeypatch.setattr("webbrowser.open", go)
    monkeypatch.setattr("gateways.cli.login.asked", lambda _: ada.code())
    person = Terminal("", "", terminal.settle)
    assert "Logged in" in await person.ok("login", api.url, "--sso")
    assert said == [400, 400, 200]
    assert (await person.json("me"))["actor"] == f"user:{ada.user_id}"
    assert await person.refused("login", api.url, "--sso", "--user", "Ada") == "bad_value"
    provider.lies(claims={"auth_time": int(api.clock().timestamp())})
    await person.ok("prove", "--sso")
    assert (await ada.events("SessionProved"))[-1]["data"]["proof"] == "sso"
    await terminal.ok("users", "unlink", "Ada", "--subject", "sub-ada", "--reason", "left")
    session = kept()
    assert session is not None
    await until(api.client(session.key), "/session", 401)
    assert await person.refused("me") == "unauthenticated"
    assert await terminal.refused("users", "unlink", "Ada", "--subject", "sub-ada") == "not_found"


async def test_a_browser_elsewhere(
    api: Api, provider: RunningProvider, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its page shows is copied; somebody whom nobody is linked to is told how that is done."""
    await terminal.ok("users", "add", "Bob")
    urls: list[str] = []
    plain = sso.Output.plain

    def heard(out: Any, *text: Any) -> None:
        urls.extend(word for word in " ".join(map(str, text)).split() if word.startswith("http"))
        plain(out, *text)

    monkeypatch.setattr("gateways.cli.sso.Output.plain", heard)
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    monkeypatch.setattr("gateways.cli.sso.asked", lambda _: urlencode(provider.sign_in(urls[-1], "sub-bob")))
    person = Terminal("", "", terminal.settle)
    refused = await person("login", api.url, "--sso", "--no-browser")
    assert refused.exit_code == 2
    assert "identity_not_linked" in refused.stderr
    assert "fleetlog users link USER --subject" in refused.stderr
    await terminal.ok("users", "link", "Bob", "--subject", "sub-bob")
    told: list[str] = []
    monkeypatch.setattr("gateways.cli.first_login.qr_code", lambda uri: told.append(uri) or "")
    monkeypatch.setattr("gateways.cli.first_login.asked", lambda _: pyotp.parse_uri(told[0]).at(api.clock()))
    # A machine without a browser says so itself.
    assert "Recovery codes" in await person.ok("login", api.url, "--sso")
    assert kept() is not None
    assert (await person.json("me"))["name"] == "Bob"


def test_what_is_copied_is_of_this_login() -> None:
    """All that the page shows, or its address; nothing of another login, and no noise."""
    query = urlencode({"state": "t.abc", "code": "c/d", "iss": "https://x.example"})
    for text in (query, f"  {query}\n", f"https://fleet.example.com/login/sso?{query}"):
        assert sso.copied(text, "t.abc")["code"] == "c/d"
    for text in ("", "c/d", query, "state=t.abc&" + "a=b&" * 30, "http://["):
        with pytest.raises(BadValueError):
            sso.copied(text, "t.other" if text == query else "t.abc")


async def test_nobody_logs_in_in_time() -> None:
    """The terminal does not wait for ever, also while somebody else knocks."""
    with sso.Listener() as listener:
        waiting = asyncio.to_thread(listener.wait, "1.x", 0.4)
        with pytest.raises(BadValueError, match="Nobody logged in"):
            await waiting
        assert urlsplit(f"http://127.0.0.1:{listener.port}").port == listener.port
