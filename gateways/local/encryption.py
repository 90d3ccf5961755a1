"""Which certificate `fleetlog up` shows, and that it is a good one for as long as it runs.

Brought by the administrator (`tls_cert_file`), or under an authority of its own, made when it is first needed. The API
looks at its files itself; the embedded NATS has to be told.
"""

import contextlib
import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from gateways.local.addresses import reachable
from gateways.local.authority import Authority, Standing
from gateways.settings import Settings, Tls
from gateways.tls import LOOK_S, CertificateError, Pair, own_name
from schema.authorities import certificates, fingerprint

_log = structlog.get_logger(__name__)
SEE_S = 600.0
"""How often it is looked whether our own certificate ends soon, or lacks an address."""


class Encryption:
    """The certificate of one `fleetlog up`.

    Args:
        settings: of it; they ask for TLS.
        clock: now.

    Raises:
        CertificateError: what was brought cannot be used.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._authority = None if settings.tls_cert_file is not None else Authority(settings.data_dir)
        self._next_look = 0.0
        self._next_see = 0.0
        self._told = b""
        if self._authority is not None:
            self._authority.see_to(self._hosts(), clock())
            self.pair = Pair(self._authority.server_file, self._authority.server_file)
        else:
            if settings.tls_cert_file is None or settings.tls_key_file is None:
                raise CertificateError("FLEETLOG_TLS_CERT_FILE and FLEETLOG_TLS_KEY_FILE belong together.")
            self.pair = Pair(settings.tls_cert_file, settings.tls_key_file)

    @property
    def ca_file(self) -> Path | None:
        """Whom agents and people are to trust; None where that is who everybody trusts."""
        return self._authority.file if self._authority is not None else self._settings.tls_ca_file

    @property
    def name(self) -> str | None:
        """A host that the certificate is for, where it was brought and may lack this machine's addresses."""
        return None if self._authority is not None else own_name(self.pair.certificate)

    @property
    def ca(self) -> str | None:
        """The authorities, PEM."""
        return self.ca_file.read_text() if self.ca_file is not None else None

    @property
    def fingerprint(self) -> str | None:
        """Of the authority in use."""
        return fingerprint(certificates(self.ca)[0]) if self.ca is not None else None

    def standings(self) -> list[Standing]:
        """Our own authorities; none where a certificate was brought.

        Raises:
            CertificateError, OSError: their files cannot be read.
        """
        return self._authority.standings() if self._authority is not None else []

    def renewed(self) -> bool:
        """See to our own certificate when it is time to; returns whether there is another one than before.

        To be called often: it looks every few seconds at the most.
        """
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_S
        try:
            if self._authority is not None and (now >= self._next_see or self._rolled_over()):
                self._next_see = now + SEE_S
                if self._authority.see_to(self._hosts(), self._clock()):
                    _log.info("certificate_made", file=str(self._authority.server_file))
            return self.pair.renew()
        except (CertificateError, OSError) as error:
            _log.warning("certificate_not_renewed", error=str(error))
            return False

    def _rolled_over(self) -> bool:
        """Whether somebody took a step to another authority since (`fleetlog tls roll-over`)."""
        if self._authority is None:
            return False
        told, self._told = self._told, self._authority.file.read_bytes()
        return bool(told) and told != self._told

    def _hosts(self) -> set[str]:
        settings = self._settings
        hosts = {"localhost", "127.0.0.1", "::1", socket.gethostname(), *reachable(settings.listen_host)}
        urls = [settings.public_url or "", *(settings.nats_agent_urls or "").split(",")]
        for url in urls:
            with contextlib.suppress(ValueError):
                hosts.add(urlsplit(url.strip()).hostname or "localhost")
        return {host for host in hosts if host.isascii()}


def encryption(settings: Settings, *, is_open: bool, clock: Callable[[], datetime]) -> Encryption | None:
    """What `fleetlog up` encrypts with; None where it speaks plain text.

    Args:
        settings: of it.
        is_open: whether other machines come in.
        clock: now.

    Raises:
        CertificateError: what was brought cannot be used.
    """
    if settings.tls is Tls.PROXY or (settings.tls is Tls.AUTO and not is_open):
        return None
    return Encryption(settings, clock)
