"""The API's listener over real TLS: who is trusted, who is refused, and what a renewal does."""

import asyncio
import ssl
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agent.enroll import enroll
from agent.errors import EnrollmentRefusedError, LinkError
from agent.link_http import post_to
from gateways.cli.api import Api
from gateways.cli.errors import UntrustedError
from gateways.cli.profile import Profile
from gateways.local.authority import Authority
from gateways.local.roles import HttpService, listening_socket
from gateways.settings import Settings, Tls
from gateways.tls import CertificateError, Pair, PlainTextError, listener_pair
from schema.authorities import PATH, AuthorityError, certificates, fingerprint, pinned, trusting
from tests.tls.conftest import HOSTS

TOKEN = "flt_never-to-be-seen"  # noqa: S105


class Listener:
    """A small application behind a certificate."""

    def __init__(self, authority: Authority) -> None:
        self.heard: list[bytes] = []
        self.told = authority.file
        listener = listening_socket("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.pair = Pair(authority.server_file, authority.server_file)
        app = Starlette(
            routes=[
                Route(PATH, self._authorities),
                Route("/{path:path}", self._anything, methods=["GET", "POST"]),
            ]
        )
        self.service = HttpService(app, listener, pair=self.pair)

    async def _authorities(self, _request: Request) -> Response:
        return PlainTextResponse(self.told.read_text())

    async def _anything(self, request: Request) -> Response:
        self.heard.append(await request.body())
        return PlainTextResponse("heard")


@pytest.fixture
async def listener(authority: Authority) -> AsyncIterator[Listener]:
    listener = Listener(authority)
    await listener.service.start()
    yield listener
    await listener.service.stop()


def _get(url: str, context: ssl.SSLContext) -> str:
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:  # noqa: S310 - our own
        return str(answer.read().decode())


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that nobody was told of."""
    other = Authority(tmp_path / "stranger")
    other.see_to(HOSTS, datetime.now(UTC))
    return other


async def test_who_trusts_the_authority_is_heard(listener: Listener, authority: Authority) -> None:
    """A client that was told the authority, and nothing else, speaks with the server."""
    assert await asyncio.to_thread(_get, listener.url, trusting(authority.file.read_text())) == "heard"


async def test_another_authority_is_refused(listener: Listener, stranger: Authority) -> None:
    """A client that was told another authority says nothing to the server, whatever the system trusts."""
    for pem in (stranger.file.read_text(), None):
        with pytest.raises(OSError, match="certificate verify failed"):
            await asyncio.to_thread(_get, listener.url, trusting(pem))
        with pytest.raises(LinkError, match="certificate verify failed"):
            await asyncio.to_thread(post_to(listener.url, pem), b"secret", "", 10)
    assert listener.heard == []


async def test_another_name_is_refused(authority: Authority) -> None:
    """A certificate of the right authority for another host is not this host's."""
    assert authority.see_to(["elsewhere.example.com"], datetime.now(UTC))
    listener = Listener(authority)
    await listener.service.start()
    try:
        with pytest.raises(OSError, match=r"(?i)mismatch|not valid for"):
            await asyncio.to_thread(_get, listener.url, trusting(authority.file.read_text()))
        assert listener.heard == []
    finally:
        await listener.service.stop()


async def test_plain_text_gets_no_answer(listener: Listener) -> None:
    """Who speaks plain HTTP to the encrypted port is not answered, and nothing of it is heard."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        answer = await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        answer = b""
    writer.close()
    assert b"HTTP" not in answer
    assert listener.heard == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_of_tls_are_refused(listener: Listener, authority: Authority) -> None:
    """Nothing older than TLS 1.2 is spoken, whatever the client offers."""
    context = trusting(authority.file.read_text())
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)ssl"):
        await asyncio.to_thread(_get, listener.url, context)


async def test_a_fingerprint_stands_for_the_authority(listener: Listener, authority: Authority) -> None:
    """Asked for its authority, the server is believed where that has the fingerprint, however it is written."""
    (known,) = authority.standings()
    digits = known.fingerprint.removeprefix("sha256:").upper()
    spaced = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    for written in (known.fingerprint, spaced):
        assert await asyncio.to_thread(pinned, listener.url, written, 10) == certificates(authority.file.read_text())[0]


async def test_another_fingerprint_is_refused_before_anything_is_said(
    listener: Listener, stranger: Authority, tmp_path: Path
) -> None:
    """A server that shows another authority than the install line named never sees the token, nor does plain text."""
    (other,) = stranger.standings()
    for url, pin in (
        (listener.url, other.fingerprint),
        (listener.url.replace("https", "http"), other.fingerprint),
        (listener.url, "sha256:12"),
    ):
        with pytest.raises(EnrollmentRefusedError):
            await asyncio.to_thread(enroll, url, TOKEN, tmp_path / "agent", fingerprint=pin)
    with pytest.raises(EnrollmentRefusedError, match="certificate"):
        await asyncio.to_thread(enroll, listener.url, TOKEN, tmp_path / "agent")
    assert listener.heard == []


async def test_who_shows_the_right_authority_without_its_key_is_refused(
    listener: Listener, stranger: Authority, tmp_path: Path
) -> None:
    """An authority is public: to hand it out proves nothing, the certificate must be under it."""
    listener.told = stranger.file
    (other,) = stranger.standings()
    with pytest.raises(EnrollmentRefusedError, match="certificate"):
        await asyncio.to_thread(enroll, listener.url, TOKEN, tmp_path / "agent", fingerprint=other.fingerprint)
    assert listener.heard == []


async def test_the_command_line_says_what_to_do_about_a_stranger(listener: Listener) -> None:
    """A key is not shown to a server whose certificate is not trusted, and the error says how it can be."""
    with Api(Profile(listener.url, "flk_secret")) as api, pytest.raises(UntrustedError, match="--fingerprint"):
        await asyncio.to_thread(api.get, "/me")
    assert listener.heard == []


async def test_a_renewal_keeps_those_who_are_connected(listener: Listener, authority: Authority) -> None:
    """New connections see the new certificate; a connection from before goes on with what it has."""
    context = trusting(authority.file.read_text())
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)

    async def ask() -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        await reader.readexactly(len(b"heard"))
        return head

    async def shown() -> bytes | None:
        _, other = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
        found: Any = other.get_extra_info("ssl_object")
        other.close()
        return bytes(found.getpeercert(True))

    assert (await ask()).startswith(b"HTTP/1.1 200")
    before = await shown()
    authority.server_file.unlink()
    assert authority.see_to(HOSTS, datetime.now(UTC))
    assert listener.pair.renew()
    assert not listener.pair.renew()
    assert await shown() != before
    assert (await ask()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_half_a_renewal_is_passed_over(listener: Listener, authority: Authority, stranger: Authority) -> None:
    """While only one of two files was replaced, the pair from before goes on, and the whole is taken up later."""
    pair, content = listener.pair, authority.server_file.read_text()
    key, _, leaf = content.partition("-----BEGIN CERTIFICATE-----")
    authority.server_file.write_text(
        stranger.server_file.read_text().partition("-----BEGIN")[0]
        + key
        + certificates(stranger.server_file.read_text())[0]
    )
    with pytest.raises(CertificateError, match="no certificate and its key"):
        pair.renew()
    assert await asyncio.to_thread(_get, listener.url, trusting(authority.file.read_text())) == "heard"
    authority.server_file.write_text(key + "-----BEGIN CERTIFICATE-----" + leaf)
    assert pair.renew()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fleet.example.com"])  # noqa: S104 -- judged, not bound
def test_plain_text_is_for_the_loopback(host: str) -> None:
    """Other machines are let in over TLS, or not at all, unless a setting says that a proxy ends it."""
    with pytest.raises(PlainTextError, match="FLEETLOG_TLS=proxy"):
        listener_pair(Settings(), host)
    assert listener_pair(Settings(tls=Tls.PROXY), host) is None
    assert listener_pair(Settings(), "127.0.0.1") is None
    with pytest.raises(PlainTextError):
        listener_pair(Settings(tls=Tls.ALWAYS), "127.0.0.1")


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    """Files that are missing, empty, or no pair are named."""
    missing = tmp_path / "missing.pem"
    with pytest.raises(CertificateError, match=r"missing\.pem"):
        Pair(missing, missing)
    missing.write_text("nothing")
    with pytest.raises(CertificateError, match="no certificate"):
        Pair(missing, missing)
    with pytest.raises(AuthorityError):
        fingerprint("nothing")
