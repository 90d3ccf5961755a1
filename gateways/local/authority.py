"""A certificate authority of this platform's own, for those who bring no certificate.

All of it lies in ``<data>/tls``, readable by its owner alone:

    ca-<n>.pem, ca-<n>.key   authorities, the numbers growing; each is there once its .pem is
    signing                  the number of the one that signs; without it, the lowest
    server.pem               the server's key and certificate in one file, so that they are replaced together
    authorities.pem          what agents and people trust: all authorities, the one that signs first

A new authority takes over in three steps, with time between them: it is *announced* (agents are told to trust it beside
the old one), *used* (the server's certificate comes from it), and then the old one is *retired*. Killed anywhere, each
step is done or not, and may be asked for again.
"""

import ipaddress
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateways.local.server import write_private
from gateways.tls import CertificateError, days_left, names, read_certificate
from schema.authorities import fingerprint

FOLDER = "tls"
CA_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
BACKDATED = timedelta(hours=1)
"""For machines whose clock is behind."""
SETTLED_S = 15.0
"""By then every listener has taken up a new certificate."""
_PEM = serialization.Encoding.PEM


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One authority."""

    number: int
    fingerprint: str
    signs: bool
    ends_at: datetime


class Step(msgspec.Struct, frozen=True):
    """What `Authority.roll_over` did."""

    did: str
    """``announced | used | retired``"""
    next: str


class Authority:
    """The authority of one data folder.

    Args:
        data_dir: of the platform.
    """

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER
        self.server_file = self.folder / "server.pem"
        self.file = self.folder / "authorities.pem"
        self._signing_file = self.folder / "signing"

    def see_to(self, hosts: Collection[str], now: datetime) -> bool:
        """Make what is missing, and renew what ends soon, has another authority now, or lacks a name.

        Args:
            hosts: names and addresses that the server is reached by.
            now: the time.

        Returns:
            Whether the server's certificate is a new one.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._numbers():
            self._make(1, now)
        number = self._signing()
        ca = self._certificate(number)
        self._tell()
        if self._good(ca, hosts, now):
            return False
        self._issue(number, ca, hosts, now)
        return True

    def standings(self) -> list[Standing]:
        """All authorities, the one that signs first."""
        signing = self._signing() if self._numbers() else 0
        found = [
            Standing(
                number=number,
                fingerprint=fingerprint(self._path(number).read_text()),
                signs=number == signing,
                ends_at=self._certificate(number).not_valid_after_utc,
            )
            for number in self._numbers()
        ]
        return sorted(found, key=lambda one: (not one.signs, one.number))

    def roll_over(self, now: datetime) -> Step:
        """Take the next step to a new authority; see the head of this module.

        Raises:
            CertificateError: there is none yet that could be replaced, or the new one is in use since a moment only.
        """
        numbers = self._numbers()
        if not numbers:
            raise CertificateError(f"There is no authority in {self.folder}; `fleetlog up` makes one when it needs it.")
        if len(numbers) == 1:
            self._make(numbers[0] + 1, now)
            self._tell()
            return Step("announced", "when agents have heard of it, once more: the server's certificate will be its")
        if self._signing() != numbers[-1] or not self._shows(self._certificate(numbers[-1])):
            write_private(self._signing_file, str(numbers[-1]))
            self._tell()
            # For the same hosts as before; a running `fleetlog up` sees to it that they are today's.
            self._issue(numbers[-1], self._certificate(numbers[-1]), self._shown_hosts(), now)
            return Step("used", "when all agents have come back, once more: the old authority will be retired")
        shown_s = now.timestamp() - self.server_file.stat().st_mtime
        if shown_s < SETTLED_S:
            raise CertificateError(
                f"The server's certificate is {shown_s:.0f} s old, and some listener may show the one before: come "
                f"again in {SETTLED_S - shown_s:.0f} s."
            )
        for number in numbers[:-1]:
            self._path(number).unlink()
            self._key_path(number).unlink(missing_ok=True)
        self._tell()
        return Step("retired", "nothing: there is one authority")

    # -- files -----------------------------------------------------------------------------------------------------

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem.removeprefix("ca-")) for path in self.folder.glob("ca-*.pem"))

    def _signing(self) -> int:
        numbers = self._numbers()
        try:
            said = int(self._signing_file.read_text())
        except (FileNotFoundError, ValueError):
            said = 0
        return said if said in numbers else numbers[0]

    def _path(self, number: int) -> Path:
        return self.folder / f"ca-{number}.pem"

    def _key_path(self, number: int) -> Path:
        return self.folder / f"ca-{number}.key"

    def _certificate(self, number: int) -> x509.Certificate:
        return read_certificate(self._path(number))

    def _tell(self) -> None:
        signing = self._signing()
        ordered = sorted(self._numbers(), key=lambda number: (number != signing, number))
        text = "".join(self._path(number).read_text() for number in ordered)
        if not self.file.exists() or self.file.read_text() != text:
            write_private(self.file, text)

    def _good(self, ca: x509.Certificate, hosts: Collection[str], now: datetime) -> bool:
        if not self._shows(ca):
            return False
        server = read_certificate(self.server_file)
        return timedelta(days=days_left(server, now)) > RENEW_BEFORE and set(hosts) <= set(names(server))

    def _shown_hosts(self) -> list[str]:
        try:
            return names(read_certificate(self.server_file))
        except CertificateError:
            return ["localhost"]

    def _shows(self, ca: x509.Certificate) -> bool:
        """Whether the server's certificate is there and under this authority."""
        try:
            read_certificate(self.server_file).verify_directly_issued_by(ca)
        except (CertificateError, ValueError, TypeError, InvalidSignature):
            return False  # not there, damaged, or another authority's
        return True

    # -- certificates ----------------------------------------------------------------------------------------------

    def _make(self, number: int, now: datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Fleetlog authority {secrets.token_hex(4)}")])
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(name, name, key, now, CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(own, critical=False)
            .sign(key, hashes.SHA256())
        )
        write_private(self._key_path(number), _private(key))
        write_private(self._path(number), certificate.public_bytes(_PEM).decode())

    def _issue(self, number: int, ca: x509.Certificate, hosts: Collection[str], now: datetime) -> None:
        try:
            signer = serialization.load_pem_private_key(self._key_path(number).read_bytes(), None)
        except (OSError, ValueError) as error:
            raise CertificateError(f"{self._key_path(number)} cannot be read: {error}") from error
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise CertificateError(f"{self._key_path(number)} holds another kind of key than Fleetlog made.")
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fleetlog")])
        known = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(name, ca.subject, key, now, SERVER_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general(host) for host in sorted(hosts)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known), critical=False)
            .sign(signer, hashes.SHA256())
        )
        write_private(self.server_file, _private(key) + certificate.public_bytes(_PEM).decode())


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
