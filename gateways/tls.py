"""TLS of this platform's own listeners and connections: files that may change while it runs.

A certificate is renewed by replacing its file. A listener looks at its files every few seconds and takes the new pair
into the context that it has: connections that are up go on, new ones see the new certificate. A pair that does not
belong together (one file of the two was replaced so far) is passed over, and looked at again.
"""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509

from gateways.cancelling import end
from gateways.local.addresses import Peers, is_loopback
from gateways.settings import PREFIX, Settings, SettingsError, Tls
from schema.authorities import AuthorityError, certificates, trusting

_log = structlog.get_logger()
LOOK_S = 5.0


class CertificateError(Exception):
    """A certificate, its key or its authority cannot be used."""

    code = "bad_certificate"


class PlainTextError(Exception):
    """Other machines would speak to this one in plain text."""

    code = "plain_text"


def listener_pair(settings: Settings, host: str) -> "Pair | None":
    """What a listener on an address shows; None where it speaks plain text.

    Args:
        settings: of this process.
        host: where it listens.

    Raises:
        PlainTextError: other machines would come in, and nothing encrypts what they say.
        CertificateError: the certificate cannot be used.
    """
    if settings.tls is Tls.PROXY or (settings.tls is Tls.AUTO and is_loopback(host)):
        return None
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        raise PlainTextError(
            f"Other machines reach {host}, and nothing would be encrypted. Name a certificate (FLEETLOG_TLS_CERT_FILE "
            "and FLEETLOG_TLS_KEY_FILE), or set FLEETLOG_TLS=proxy if TLS ends at a proxy in front of it."
        )
    return Pair(settings.tls_cert_file, settings.tls_key_file)


def proxies_alone(settings: Settings, host: str) -> Peers | None:
    """Whom a listener on an address hears where TLS ends at a proxy; None where anybody may come.

    Args:
        settings: of this process.
        host: where it listens.

    Raises:
        SettingsError: what `trusted_proxies` names is neither an address nor a network.
    """
    if settings.tls is not Tls.PROXY or is_loopback(host):
        return None
    try:
        return Peers(settings.trusted_proxies)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}TRUSTED_PROXIES: {error}.") from error


class Pair:
    """A certificate with its key, for a listener.

    Args:
        certificate: a PEM file: the certificate, and the chain that leads to its authority.
        key: a PEM file; may be the same.

    Raises:
        CertificateError: they cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._stamp = self._look()
        self._load()

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        try:
            found = [file.stat() for file in (self.certificate, self.key)]
        except OSError as error:
            raise CertificateError(f"{error.filename}: {error.strerror}.") from error
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in found)

    def _load(self) -> None:
        # First into a context that nobody uses: one that fails half-way keeps the certificate without its key.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            try:
                context.load_cert_chain(self.certificate, self.key)
            except OSError as error:  # ssl.SSLError is one
                raise CertificateError(
                    f"{self.certificate} and {self.key} are no certificate and its key: {error.strerror or error}."
                ) from error

    def renew(self) -> bool:
        """Take up what the files hold now; returns whether that is another pair. Those who are connected stay.

        Raises:
            CertificateError: they cannot be used (yet); the pair from before stays.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._load()
        self._stamp = stamp
        return True

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate itself.

        Raises:
            CertificateError: it cannot be read.
        """
        return read_certificate(self.certificate)


class Renewal:
    """Keeps a pair as its files are, as long as it runs.

    Args:
        pair: of a listener.
        look_s: how often the files are looked at.
    """

    def __init__(self, pair: Pair, look_s: float = LOOK_S) -> None:
        self._pair = pair
        self._look_s = look_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._look_for_ever(), name="tls-renewal")

    async def stop(self) -> None:
        if self._task is not None:
            await end((self._task,))

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            try:
                renewed = await asyncio.to_thread(self._pair.renew)
            except CertificateError as error:
                _log.warning("certificate_not_renewed", error=str(error))
            else:
                if renewed:
                    _log.info("certificate_renewed", file=str(self._pair.certificate))


class Authorities:
    """Whom our own connections trust, and what agents are told to trust: a file that may change.

    Args:
        file: PEM, the authority in use first; without it, those that the system trusts.
        name: what the certificate must be for, where that is not the host of the address.
    """

    def __init__(self, file: Path | None, name: str | None = None) -> None:
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._pem: str | None = None
        self.name = name

    @property
    def pem(self) -> str | None:
        """As the file is now; it is read again only where it is another than before.

        Raises:
            CertificateError: it cannot be read, or holds no certificate.
        """
        if self._file is None:
            return None
        try:
            stat = self._file.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp != self._stamp:
                self._pem = "".join(certificates(self._file.read_text(encoding="ascii", errors="replace")))
                self._stamp = stamp
        except OSError as error:
            raise CertificateError(f"{self._file}: {error.strerror}.") from error
        except AuthorityError as error:
            raise CertificateError(f"{self._file}: {error}") from error
        return self._pem

    def context(self) -> ssl.SSLContext:
        """For a connection that is made now.

        Raises:
            CertificateError: as above.
        """
        return trusting(self.pem)


SYSTEM = Authorities(None)
"""Those that the system trusts."""


def read_certificate(file: Path) -> x509.Certificate:
    """The first certificate of a PEM file.

    Raises:
        CertificateError: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())[0]
    except OSError as error:
        raise CertificateError(f"{file}: {error.strerror}.") from error
    except ValueError as error:
        raise CertificateError(f"{file} holds no certificate: {error}.") from error


def names(certificate: x509.Certificate) -> list[str]:
    """The hosts and addresses that a certificate is for."""
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = [str(one) for one in found.get_values_for_type(x509.IPAddress)]
        return [*found.get_values_for_type(x509.DNSName), *addresses]
    return []


def own_name(file: Path) -> str | None:
    """A host that a certificate is for, where it names one outright.

    Raises:
        CertificateError: there is no certificate.
    """
    return next((name for name in names(read_certificate(file)) if "*" not in name), None)


def days_left(certificate: x509.Certificate, now: datetime) -> float:
    """Until a certificate ends."""
    return (certificate.not_valid_after_utc - now.astimezone(UTC)).total_seconds() / 86_400
