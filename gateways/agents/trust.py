"""Whom agents are told to trust: the authorities of the API and of NATS as their files are now, signed by the fleet."""

import structlog

from command_bus.context import Clock
from gateways.agents.keys import Key
from gateways.tls import SYSTEM, Authorities, CertificateError
from schema import trust, wire
from schema.authorities import certificates

_log = structlog.get_logger()


class Told:
    """What one process tells agents.

    Args:
        server: authorities of the API.
        nats: authorities of the NATS servers, as agents reach them.
    """

    def __init__(self, server: Authorities = SYSTEM, nats: Authorities = SYSTEM) -> None:
        self._server = server
        self._nats = nats
        self._signed: trust.Trust | None = None
        self._signed_with = b""
        self.server_ca: str | None = None
        self.nats_ca: str | None = None
        self.in_use: str | None = None
        """Authorities of the API, the one in use first: for those who pin it."""
        self.digest = trust.trust_digest(None, None)

    def look(self) -> None:
        """Look whether the files are others now; one that cannot be read says what it said before."""
        try:
            in_use, nats = self._server.pem, self._nats.pem
        except CertificateError as error:
            _log.warning("authorities_unreadable", error=str(error))
            return
        # In an order of their own: which of them is in use is nothing that an agent must hear of.
        server_ca, nats_ca = _sorted(in_use), _sorted(nats)
        digest = trust.trust_digest(server_ca, nats_ca)
        if digest != self.digest:
            self._signed = None
        self.in_use, self.server_ca, self.nats_ca, self.digest = in_use, server_ca, nats_ca, digest

    def to(self, hello: wire.Hello, key: Key, clock: Clock) -> trust.Trust | None:
        """What an agent has to hear that trusts others than it should; None for one that does not.

        Args:
            hello: what it says of itself; an agent that is too old to speak of it is told nothing.
            key: the fleet's delivery key.
            clock: now.
        """
        self.look()
        if not hello.trusts or hello.trusts == self.digest:
            return None
        return self.signed(key, clock)

    def signed(self, key: Key, clock: Clock) -> trust.Trust:
        """Whom to trust, for whoever asks.

        Args:
            key: the fleet's delivery key.
            clock: now.
        """
        if self._signed is None or self._signed_with != key.name:
            body = wire.encode(trust.TrustBody(made_at=clock(), server_ca=self.server_ca, nats_ca=self.nats_ca))
            self._signed = trust.Trust(body=body, signature=key.sign(trust.TRUST_CONTEXT + body))
            self._signed_with = key.name
        return self._signed


def _sorted(pem: str | None) -> str | None:
    return "".join(sorted(certificates(pem))) if pem is not None else None
