"""NATS as `fleetlog config nats` configures it: TLS under an authority of one's own, by TCP and by WebSocket."""

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent import link_nats
from agent.errors import LinkError
from agent.identity import AgentKey, Identity
from gateways.agents.nats_config import Tls, render_nats_config
from gateways.agents.service import GatewayService
from gateways.local.server import free_port
from gateways.local.servers import EmbeddedNats
from schema import wire
from tests.gateway.harness import Fleet

PEM = serialization.Encoding.PEM


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


class Encrypted:
    """A NATS server with TLS, on TCP and on WebSocket."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(_certificate("authority", authority, "authority", authority, ca=True).public_bytes(PEM))
        cert, private = folder / "nats.pem", folder / "nats.key"
        cert.write_bytes(_certificate("nats", key, "authority", authority, ca=False).public_bytes(PEM))
        private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        for file in (folder, cert, private):
            file.chmod(0o755)  # the server has an account of its own when the tests run as root
        websocket = free_port()
        tls = Tls(cert_file=str(cert), key_file=str(private))
        self.server = EmbeddedNats(
            folder / "server", config=render_nats_config(fleet.keys, websocket=f"127.0.0.1:{websocket}", tls=tls)
        )
        self.server.start()
        self.urls = {"tls": f"tls://127.0.0.1:{self.server.port()}", "wss": f"wss://127.0.0.1:{websocket}"}


@pytest.fixture
def encrypted(fleet: Fleet, data_dir: Path) -> Iterator[Encrypted]:
    folder = data_dir / "encrypted"
    folder.mkdir()
    encrypted = Encrypted(fleet, folder)
    yield encrypted
    encrypted.server.stop()


async def _nothing(_: bytes) -> bytes:
    raise AssertionError("Nothing was sent to this agent.")


# nats-py calls aiohttp as older versions of it wanted.
@pytest.mark.filterwarnings("ignore:parameter .timeout. of type .float.:DeprecationWarning")
@pytest.mark.parametrize("way", ["tls", "wss"])
async def test_an_agent_comes_in_under_the_authority_that_enrollment_named(
    fleet: Fleet, encrypted: Encrypted, monkeypatch: pytest.MonkeyPatch, way: str, tmp_path: Path
) -> None:
    """It trusts the authority that it was told, and no server of another; what it says is answered."""
    monkeypatch.setenv("SSL_CERT_FILE", str(encrypted.ca))  # how the gateway is told
    gateway = GatewayService(fleet.log, fleet.pool, fleet.url, [encrypted.urls["tls"]], "gateway-tls")
    await gateway.start()
    monkeypatch.delenv("SSL_CERT_FILE")
    try:
        (simulated,) = await fleet.identities()
        (tmp_path / "agent.key").write_text(simulated.seed.hex())
        key = AgentKey.load_or_create(tmp_path)
        stranger = _identity(simulated.agent_id, fleet, None)
        with pytest.raises(LinkError, match="certificate"):
            await link_nats.connect(stranger, key, encrypted.urls[way], _nothing, patience_s=5)
        told = _identity(simulated.agent_id, fleet, encrypted.ca.read_text())
        session = await link_nats.connect(told, key, encrypted.urls[way], _nothing, patience_s=5)
        hello = wire.Hello(agent_version="1", sent_at=datetime.now(UTC))
        answer = wire.decode_uplink_reply(await session.request("hello", wire.encode(hello), 10))
        assert isinstance(answer, wire.HelloReply)
        await session.close()
    finally:
        await gateway.stop()


def _identity(agent_id: UUID, fleet: Fleet, authority: str | None) -> Identity:
    return Identity(
        agent_id=agent_id,
        server_url="https://unused.invalid",
        server_public_key=fleet.keys.delivery.public_hex,
        nats_urls=[],
        nats_ca=authority,
    )
