"""NATS as `fleetlog up` and `fleetlog config nats` configure it: TLS under an authority of one's own, on both ports."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import nats.errors
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent import link_nats
from agent.errors import LinkError
from agent.identity import AgentKey, Identity, TrustRefusedError, trusting
from agent.link import Session
from gateways.agents import connection
from gateways.agents.nats_config import render_nats_config
from gateways.agents.service import GatewayService
from gateways.agents.trust import Told
from gateways.local.authority import SETTLED_S, Authority
from gateways.local.server import free_port
from gateways.local.servers import EmbeddedNats
from gateways.tls import Authorities, Pair
from schema import trust, wire
from schema.authorities import certificates
from tests.gateway.harness import Fleet

HOSTS = ("127.0.0.1",)
WAYS = ("tls", "wss")
# nats-py calls aiohttp as older versions of it wanted.
pytestmark = pytest.mark.filterwarnings("ignore:parameter .timeout. of type .float.:DeprecationWarning")


class Encrypted:
    """A NATS server with TLS, on TCP and on WebSocket."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.authority = Authority(folder / "data")
        self.authority.see_to(HOSTS, datetime.now(UTC))
        websocket = free_port()
        self.server = EmbeddedNats(
            folder / "server",
            config=lambda _: render_nats_config(fleet.keys, websocket=f"127.0.0.1:{websocket}", tls=self.server.tls),
            pair=Pair(self.authority.server_file, self.authority.server_file),
        )
        self.server.start()
        self.urls = {"tls": self.server.url, "wss": f"wss://127.0.0.1:{websocket}"}
        self.trusted = Authorities(self.authority.file)

    @property
    def ca(self) -> str:
        return self.authority.file.read_text()

    async def gateway(self, told: Told | None = None) -> GatewayService:
        fleet = self.fleet
        url = [self.urls["tls"]]
        service = GatewayService(
            fleet.log, fleet.pool, fleet.url, url, "gateway-tls", authorities=self.trusted, told=told
        )
        await service.start()
        fleet.services.append(service)
        return service


@pytest.fixture
def encrypted(fleet: Fleet, data_dir: Path) -> Iterator[Encrypted]:
    encrypted = Encrypted(fleet, data_dir)
    yield encrypted
    encrypted.server.stop()


class Machine:
    """An agent's identity and key, as enrollment left them."""

    def __init__(self, encrypted: Encrypted, agent_id: UUID, seed: bytes, folder: Path, ca: str | None) -> None:
        (folder / "agent.key").write_text(seed.hex())
        self.key = AgentKey.load_or_create(folder)
        self.identity = Identity(
            agent_id=agent_id,
            server_url="https://unused.invalid",
            server_public_key=encrypted.fleet.keys.delivery.public_hex,
            nats_urls=[],
            nats_ca=ca,
        )

    async def connect(self, url: str) -> Session:
        return await link_nats.connect(self.identity, self.key, url, _nothing, patience_s=5)


async def _nothing(_: bytes) -> bytes:
    raise AssertionError("Nothing was sent to this agent.")


async def _hello(session: Session, trusts: str = "") -> wire.HelloReply:
    hello = wire.Hello(agent_version="1", sent_at=datetime.now(UTC), trusts=trusts)
    answer = wire.decode_uplink_reply(await session.request("hello", wire.encode(hello), 10))
    assert isinstance(answer, wire.HelloReply)
    return answer


async def _machine(encrypted: Encrypted, folder: Path, ca: str | None) -> Machine:
    (simulated,) = await encrypted.fleet.identities()
    return Machine(encrypted, simulated.agent_id, simulated.seed, folder, ca)


@pytest.mark.parametrize("way", WAYS)
async def test_an_agent_comes_in_under_the_authority_that_enrollment_named(
    encrypted: Encrypted, way: str, tmp_path: Path
) -> None:
    """It trusts the authority that it was told, and no server of another; what it says is answered."""
    await encrypted.gateway()
    machine = await _machine(encrypted, tmp_path, None)
    with pytest.raises(LinkError, match="certificate"):
        await machine.connect(encrypted.urls[way])
    other = Authority(tmp_path / "other")
    other.see_to(HOSTS, datetime.now(UTC))
    machine = await _machine(encrypted, tmp_path, other.file.read_text())
    with pytest.raises(LinkError, match="certificate"):
        await machine.connect(encrypted.urls[way])
    machine = await _machine(encrypted, tmp_path, encrypted.ca)
    session = await machine.connect(encrypted.urls[way])
    await _hello(session)
    await session.close()


@pytest.mark.parametrize("way", WAYS)
async def test_a_certificate_for_another_host_is_refused(encrypted: Encrypted, way: str, tmp_path: Path) -> None:
    """Under the right authority, and for another name: it is another server."""
    encrypted.authority.see_to(["elsewhere.example.com"], datetime.now(UTC))
    encrypted.server.reload()
    machine = await _machine(encrypted, tmp_path, encrypted.ca)
    await _until_shown(encrypted)
    with pytest.raises(LinkError, match=r"(?i)mismatch|not valid for|certificate"):
        await machine.connect(encrypted.urls[way])


async def test_an_agent_that_was_told_whom_to_trust_takes_no_plain_text(
    fleet: Fleet, encrypted: Encrypted, tmp_path: Path
) -> None:
    """Neither by an address that is plain, nor from a server that goes on in plain text under an encrypted one."""
    await fleet.gateway()
    machine = await _machine(encrypted, tmp_path, encrypted.ca)
    plain = fleet.nats.urls[0]
    with pytest.raises(LinkError, match="plain text"):
        await machine.connect(plain)
    with pytest.raises(LinkError, match="secure connection required"):
        await machine.connect(plain.replace("nats://", "tls://"))


async def test_a_gateway_takes_no_plain_text_for_tls(fleet: Fleet) -> None:
    """A server that says that it has no TLS gets nothing from a gateway that was told to use it."""
    client = connection._KeyClient(lambda: fleet.keys.gateway, Authorities(None))
    with pytest.raises(nats.errors.SecureConnRequiredError):
        await client.connect(
            fleet.nats.urls[0].replace("nats://", "tls://"),
            token="x",  # noqa: S106
            signature_cb=lambda _: b"",
            allow_reconnect=False,
            max_reconnect_attempts=0,
        )
    await client.close()


def _shown(port: int, pem: str) -> bytes:
    """The certificate that a NATS server shows now."""
    context = ssl.create_default_context(cadata=pem)
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", port), 5) as raw:
        assert raw.recv(65536).startswith(b"INFO ")
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped:
            found = wrapped.getpeercert(binary_form=True)
            assert found is not None
            return found


async def _until_shown(encrypted: Encrypted) -> None:
    """Wait until the server shows what its files hold."""
    wanted = Pair(encrypted.authority.server_file, encrypted.authority.server_file).leaf
    async with asyncio.timeout(10):
        while True:
            if await asyncio.to_thread(_shown, encrypted.server.port(), encrypted.ca) == wanted.public_bytes(
                Encoding.DER
            ):
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("way", WAYS)
async def test_a_renewal_needs_no_restart(encrypted: Encrypted, way: str, tmp_path: Path) -> None:
    """The server takes up a new certificate: gateways stay connected, and agents come in under the new one.

    Agents that are connected it has come anew: a reload judges them again, and whom a gateway let in it does not know.
    """
    gateway = await encrypted.gateway()
    connections = [gateway._client, gateway._system]
    machine = await _machine(encrypted, tmp_path, encrypted.ca)
    session = await machine.connect(encrypted.urls[way])
    reconnects = [one.stats["reconnects"] for one in connections if one is not None]
    encrypted.authority.server_file.unlink()
    encrypted.authority.see_to(HOSTS, datetime.now(UTC))
    encrypted.server.reload()
    await _until_shown(encrypted)
    await asyncio.wait_for(session.lost(), 10)
    newcomer = await machine.connect(encrypted.urls[way])
    await _hello(newcomer)
    assert [one.stats["reconnects"] for one in connections if one is not None] == reconnects
    await newcomer.close()
    await session.close()


async def test_an_agent_is_told_of_a_new_authority_before_it_is_used(encrypted: Encrypted, tmp_path: Path) -> None:
    """Announced, used, retired: an agent that says hello in between is never shut out, and trusts the new one alone."""
    told = Told(encrypted.trusted, encrypted.trusted)
    await encrypted.gateway(told)
    machine = await _machine(encrypted, tmp_path, encrypted.ca)
    for _ in range(3):
        encrypted.authority.roll_over(datetime.now(UTC) + timedelta(seconds=SETTLED_S))
        encrypted.authority.see_to(HOSTS, datetime.now(UTC))
        encrypted.server.reload()
        await _until_shown(encrypted)
        session = await machine.connect(encrypted.urls["tls"])
        reply = await _hello(session, trust.trust_digest(machine.identity.server_ca, machine.identity.nats_ca))
        await session.close()
        if reply.trust is not None:
            machine.identity = trusting(machine.identity, reply.trust)
        assert machine.identity.nats_ca == machine.identity.server_ca
        assert set(certificates(machine.identity.nats_ca or "")) == set(certificates(encrypted.ca))
    (only,) = encrypted.authority.standings()
    assert only.number == 2
    session = await machine.connect(encrypted.urls["tls"])
    reply = await _hello(session, trust.trust_digest(machine.identity.server_ca, machine.identity.nats_ca))
    assert reply.trust is None, "what it trusts already need not be sent"
    await session.close()


def test_an_agent_believes_nobody_else_whom_to_trust(fleet: Fleet, encrypted: Encrypted, tmp_path: Path) -> None:
    """Whom to trust is taken from the server alone, and never an older word than the last."""
    machine = Machine(encrypted, UUID(int=7), bytes(32), tmp_path, encrypted.ca)

    def said(
        at: datetime, *, key: Any = fleet.keys.delivery, context: bytes = trust.TRUST_CONTEXT, ca: str = encrypted.ca
    ) -> trust.Trust:
        body = wire.encode(trust.TrustBody(made_at=at, server_ca=ca))
        return trust.Trust(body=body, signature=key.sign(context + body))

    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    for wrong in (
        said(late, key=fleet.keys.gateway),
        said(late, context=wire.SIGNING_CONTEXT),
        said(late, ca="no certificate"),
        trust.Trust(body=b"\xc1", signature=fleet.keys.delivery.sign(trust.TRUST_CONTEXT + b"\xc1")),
        said(datetime(2026, 1, 1)),  # noqa: DTZ001 -- that is what is wrong with it
    ):
        with pytest.raises(TrustRefusedError):
            trusting(machine.identity, wrong)
    newer = trusting(machine.identity, said(late))
    assert (newer.server_ca, newer.nats_ca) == (encrypted.ca, None)
    for old in (said(early), said(late)):
        with pytest.raises(TrustRefusedError, match="older"):
            trusting(newer, old)
