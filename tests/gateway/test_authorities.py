"""A certificate authority takes over from another while an agent is away; what is said of it in the log."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from agent.errors import LinkError
from agent.identity import Identity
from agent.regain import is_untrusted
from command_bus.ids import new_id
from domain.authorities import Authorities as AuthoritiesSeen
from domain.authorities import AuthorityAnnounced, AuthorityRetired, AuthorityUsed
from domain.server_keys import Purpose
from gateways.agents.http import AgentHttp
from gateways.agents.key_changes import KeyChanges
from gateways.agents.trust import Told
from gateways.local.authority import SETTLED_S
from gateways.local.authority_notes import AuthorityNotes
from gateways.local.roles import HttpService, listening_socket
from gateways.tls import Pair
from projections.agents import Unaware
from schema import trust, wire
from schema.authorities import certificates
from tests.gateway.harness import Fleet
from tests.gateway.test_agent_keys import RealAgent, succeeded
from tests.gateway.test_encryption import HOSTS, Encrypted, _until_shown


class Platform:
    """NATS and the agents' part of the API, both under one authority."""

    def __init__(self, encrypted: Encrypted) -> None:
        self.encrypted = encrypted
        self.told = Told(encrypted.trusted, encrypted.trusted)
        fleet = encrypted.fleet
        self.agents = AgentHttp(fleet.log, fleet.pool, fleet.url, [encrypted.urls["tls"]], "api", told=self.told)
        self.pair = Pair(encrypted.authority.server_file, encrypted.authority.server_file)
        listener = listening_socket("127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        app = Starlette(routes=[Mount("/api/v1", routes=self.agents.routes())])
        self.http = HttpService(app, listener, pair=self.pair)

    async def start(self) -> None:
        await self.agents.start()
        await self.http.start()

    async def stop(self) -> None:
        await self.http.stop()
        await self.agents.stop()

    async def roll_over(self) -> None:
        """All three steps, so that nobody who was away knows anybody any more."""
        authority = self.encrypted.authority
        for _ in range(3):
            authority.roll_over(datetime.now(UTC) + timedelta(seconds=SETTLED_S + 1))
        authority.see_to(HOSTS, datetime.now(UTC))
        self.encrypted.server.reload()
        await _until_shown(self.encrypted)
        self.pair.renew()


@pytest.fixture
async def platform(fleet: Fleet, data_dir: Path) -> AsyncIterator[Platform]:
    encrypted = Encrypted(fleet, data_dir)
    platform = Platform(encrypted)
    await platform.start()
    yield platform
    await platform.stop()
    while fleet.services:
        await fleet.services.pop().stop()
    encrypted.server.stop()


@pytest.mark.parametrize("transport", ["nats", "http"])
async def test_an_agent_that_was_away_through_a_whole_roll_over_comes_back(
    platform: Platform, data_dir: Path, transport: str
) -> None:
    """Neither listener is under anybody whom it trusts, and the key that it knows is over too: it asks, and is back."""
    encrypted = platform.encrypted
    fleet = encrypted.fleet
    (simulated,) = await fleet.identities()
    agent = RealAgent(fleet, simulated, data_dir / "agent")
    before = msgspec.structs.replace(
        Identity.load(agent.folder),
        server_url=platform.url,
        nats_urls=[encrypted.urls["tls"]],
        server_ca=encrypted.ca,
        nats_ca=encrypted.ca,
    )
    before.save(agent.folder)
    await platform.roll_over()
    changes = KeyChanges(fleet.log, fleet.url, new_id)
    await changes.rotate(Purpose.DELIVERY)
    await changes.retire(Purpose.DELIVERY, lambda _: Unaware(1, 1, ["it"]), force=True)
    await encrypted.gateway(platform.told)
    (waits,) = await fleet.queue(agent.agent_id)
    agent.process.start(transport=transport)
    try:
        await succeeded(fleet, waits)
    finally:
        agent.process.clean_up()
    after = Identity.load(agent.folder)
    assert before.server_ca != after.server_ca
    assert certificates(after.server_ca or "") == certificates(after.nats_ca or "") == certificates(encrypted.ca)


async def test_whoever_stands_in_between_can_name_nobody(platform: Platform, data_dir: Path) -> None:
    """What is asked over a connection that proves nothing is believed by its signature alone."""
    fleet = platform.encrypted.fleet
    (simulated,) = await fleet.identities()
    agent = RealAgent(fleet, simulated, data_dir / "agent")
    identity = msgspec.structs.replace(Identity.load(agent.folder), server_url=platform.url)
    signed = platform.told.signed
    platform.told.signed = lambda _key, clock: signed(fleet.keys.issuer, clock)  # type: ignore[method-assign]
    identity = msgspec.structs.replace(identity, server_ca=_other(data_dir), nats_ca=_other(data_dir))
    identity.save(agent.folder)
    agent.process.start(transport="http")
    try:
        async with asyncio.timeout(20):
            while "refused to trust others" not in agent.process.log.read_text():  # noqa: ASYNC110 -- a process writes it
                await asyncio.sleep(0.05)
    finally:
        agent.process.clean_up()
    assert Identity.load(agent.folder) == identity


def _other(folder: Path) -> str:
    from gateways.local.authority import Authority

    other = Authority(folder / "other")
    other.see_to(HOSTS, datetime.now(UTC))
    return other.file.read_text()


def test_what_makes_an_agent_ask() -> None:
    """A certificate that is nobody's who is trusted, as each library reports it; and no other failure."""
    bad = ssl.SSLCertVerificationError("self-signed")
    wrapped = LinkError("x")
    wrapped.__cause__ = OSError("y")
    wrapped.__cause__.__cause__ = bad
    key: Any = None
    for error in (bad, wrapped, aiohttp.ClientConnectorCertificateError(key, bad)):
        assert is_untrusted(error)
    for error in (None, LinkError("x"), ssl.SSLError("handshake"), ConnectionResetError()):
        assert not is_untrusted(error)


async def test_a_roll_over_is_on_record(platform: Platform) -> None:
    """Each step is an event, whatever it is that saw it; what happened while nothing ran is recorded afterwards."""
    encrypted = platform.encrypted
    fleet, authority = encrypted.fleet, encrypted.authority
    notes = AuthorityNotes(fleet.url, new_id)
    (first,) = authority.standings()
    for _ in range(2):
        await notes.note(authority.standings())
    authority.roll_over(datetime.now(UTC))
    await notes.note(authority.standings())
    later = datetime.now(UTC) + timedelta(seconds=SETTLED_S + 1)
    for _ in range(2):
        authority.roll_over(later)
    (second,) = authority.standings()
    await AuthorityNotes(fleet.url, new_id).note(authority.standings())
    assert await fleet.story(AuthoritiesSeen.STREAM) == [
        AuthorityAnnounced(fingerprint=first.fingerprint),
        AuthorityUsed(fingerprint=first.fingerprint),
        AuthorityAnnounced(fingerprint=second.fingerprint),
        AuthorityUsed(fingerprint=second.fingerprint),
        AuthorityRetired(fingerprint=first.fingerprint),
    ]


@given(st.lists(st.tuples(st.lists(st.sampled_from("abc"), min_size=1, unique=True), st.integers(0, 2))))
def test_the_log_ends_with_what_is_seen(looks: list[tuple[list[str], int]]) -> None:
    """Whatever was missed in between; and the same seen twice is no event."""
    seen = AuthoritiesSeen(AuthoritiesSeen.STREAM)
    for trusted, index in looks:
        used = trusted[index % len(trusted)]
        seen.see(trusted, used)
        assert (set(seen.trusted), seen.used) == (set(trusted), used)
        assert seen.see(trusted, used) == []


def test_the_answer_is_small_enough_to_be_read() -> None:
    """A hundred rotations and two authorities are far below what an agent reads."""
    link = trust.KeyLink(previous=bytes(32), public_key=bytes(32), signature=bytes(64))
    assert len(wire.encode(trust.ServerKeys(links=[link] * 100))) < 32 * 1024
