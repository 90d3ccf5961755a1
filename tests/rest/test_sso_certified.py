"""The same against a provider that others made, and that the OpenID Foundation certifies: oidc-provider, on Node."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2

from command_bus.sso_terms import SsoTerms
from gateways.dashboard.bundle import install_packages, npm_command
from tests.rest.conftest import administered
from tests.rest.harness import Api
from tests.rest.people import Person
from tests.rest.provider import CLIENT
from tests.rest.sso import Terminal, linked, of_type, refusals
from tests.rest.test_permissions import until

FOLDER = Path(__file__).parent / "openid"
SECRET = "only-for-tests"  # noqa: S105
PAGES = 10
"""No login leads through more of them."""


class Certified:
    """It runs, and one browser has its cookies."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.issuer = self.line()
        self.http = httpx2.Client(trust_env=False, timeout=10)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def serve(self, api: Api) -> None:
        """Register this API's client."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{api.url}\n")
        self.process.stdin.flush()
        assert self.line() == "ready"

    def sign_in(self, url: str, subject: str) -> dict[str, str]:
        """Log in and agree on its pages, each of them a form, until it leads back; it remembers who has logged in."""
        answer = self.http.get(url)
        for _ in range(PAGES):
            if answer.has_redirect_location:
                url = urljoin(url, answer.headers["location"])
                if not url.startswith(self.issuer):
                    return dict(parse_qsl(urlsplit(url).query))
                answer = self.http.get(url)
                continue
            fields = {"prompt": "login", "login": subject, "password": "any"}
            answer = self.http.post(url, data=fields if 'name="login"' in answer.text else {"prompt": "consent"})
        raise AssertionError(answer.text)

    def log_out(self) -> None:
        """As somebody does on its own page of that name."""
        page = self.http.get(f"{self.issuer}/session/end").text
        found = re.search(r'action="([^"]+)".*?name="xsrf" value="([^"]+)"', page, re.DOTALL)
        assert found is not None, page
        answer = self.http.post(found[1], data={"xsrf": found[2], "logout": "yes"})
        assert answer.is_redirect, answer.text


@contextlib.contextmanager
def certified() -> Iterator[Certified]:
    install_packages(FOLDER)
    command, environment = npm_command()
    node = command[0] if len(command) > 1 else "node"
    with subprocess.Popen(
        [node, "provider.mjs", CLIENT, SECRET],
        cwd=FOLDER, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        running = Certified(process)
        try:
            yield running
        finally:
            running.http.close()
            assert process.stdin is not None
            process.stdin.close()


async def test_a_certified_provider_logs_people_in_and_out(postgres_url: str) -> None:
    """By its discovery, keys, PKCE and claims; a stranger is refused, and its own logout ends what began through it."""
    with certified() as provider:
        terms = SsoTerms(issuer=provider.issuer, client_id=CLIENT, client_secret=SECRET)
        async with administered(postgres_url, sso=terms) as api:
            provider.serve(api)
            ada = await Person.ready(api, "Ada", {"role": "administrator", "everything": True})
            await linked(api, ada.user_id, "sub-ada")
            terminal = Terminal(api, provider)
            assert (await terminal.log_in("sub-ada", ada.code())).status_code == 201
            assert (await terminal.http.get("/agents")).status_code == 200
            proofs = (await of_type(api, "SessionOpened"))[-1]["data"]["proofs"]
            assert proofs == ["sso", "totp"]

            await asyncio.to_thread(provider.log_out)  # it tells the API, which answers in this thread
            await until(terminal.http, "/session", 401)
            assert await of_type(api, "ProviderLogoutTaken")
            stranger = Terminal(api, provider)
            refused = await stranger.log_in("sub-eve")
            assert (refused.status_code, refused.json()["code"]) == (403, "identity_not_linked")
            told: list[Any] = await refusals(api)
            assert "sso_not_linked" in [why for why, _ in told]
