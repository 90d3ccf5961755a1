"""NATS: a message for each event, in the structured mode of CloudEvents over NATS.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors

from domain.destinations import NatsSubject
from gateways.agents.keys import Key
from gateways.agents.patience import PatientClient
from gateways.forward.envelope import SINGLE, Outgoing
from gateways.forward.errors import ForwardError, NotTakenError, UnreachableError
from gateways.forward.guard import Guard
from schema.authorities import trusting

CONNECT_S = 5
ACKNOWLEDGE_S = 10.0
PORT = 4222
AT_ONCE = 100
_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\s+(\S+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(r"-----BEGIN USER NKEY SEED-----\s+(\S+)\s+-+END USER NKEY SEED-+")
_SEED_LETTERS, _SEED_BYTES = 58, 32


class NatsChannel:
    """A connection to one server.

    It does not reconnect by itself, and so never goes to servers that this one names: each connection is judged.

    Args:
        to: the destination.
        told: what it is told in confidence, by name.
        guard: says where may be sent to.
    """

    at_once = AT_ONCE

    def __init__(self, to: NatsSubject, told: Mapping[str, str], guard: Guard) -> None:
        self._to = to
        self._told = told
        self._guard = guard
        self._client: PatientClient | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            AddressRefusedError: it would go where this server does not send to.
            UnreachableError: nobody is there, or it does not let us in.
        """
        parts = urlsplit(self._to.url)
        host, plain = parts.hostname or "", parts.scheme == "nats"
        context = None if plain else await asyncio.to_thread(trusting, self._to.authority or None)
        failure: Exception | None = None
        for address in await self._guard.addresses(host, parts.port or PORT, plain=plain):
            where = f"[{address}]" if ":" in address else address
            client = PatientClient()
            try:
                await client.connect(
                    [f"{parts.scheme}://{where}:{parts.port or PORT}"],
                    name="fleetlog forwarding",
                    allow_reconnect=False,
                    connect_timeout=CONNECT_S,
                    tls=context,
                    tls_hostname=host if context is not None else None,
                    error_cb=_quiet,
                    **self._credentials(),
                )
            except (nats.errors.Error, OSError, TimeoutError) as error:
                failure = error
                await client.close()
                continue
            self._client = client
            return
        raise UnreachableError(f"NATS cannot be reached: {_said(failure)}") from failure

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def settled(self) -> int | None:
        """What was acknowledged is there; without a stream, NATS has no more to say than that it took it."""
        return None

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Publish; to a stream each event after the one before is acknowledged, for only so the order holds.

        Raises:
            UnreachableError: the connection broke, or nobody answered in time.
            NotTakenError: no stream listens there, or it does not take the event.
        """
        client = self._client
        if client is None:
            raise RuntimeError("It is not open.")
        sent: Outgoing | None = None
        try:
            stream = client.jetstream(timeout=ACKNOWLEDGE_S) if self._to.jetstream else None
            for event in events:
                sent = event
                body = event.body if len(event.body) <= client.max_payload else event.without_data()
                headers = {"Content-Type": SINGLE, "Nats-Msg-Id": event.id}
                if stream is not None:
                    await stream.publish(self._to.subject, body, headers=headers)
                else:
                    await client.publish(self._to.subject, body, headers=headers)
            if stream is None:
                await client.flush(int(ACKNOWLEDGE_S))
        except nats.js.errors.NoStreamResponseError as error:
            raise NotTakenError(
                f"No JetStream stream listens at {self._to.subject}: make one, or do without (jetstream: false).",
                event=sent,
            ) from error
        except nats.js.errors.APIError as error:
            said = f"The stream does not take it: {error.description or error.code}."
            raise NotTakenError(said, event=sent) from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise UnreachableError(f"The connection to NATS broke: {_said(error)}") from error

    def _credentials(self) -> dict[str, Any]:
        told = self._told
        if "user" in told:
            return {"user": told["user"], "password": told["password"]}
        if "token" in told:
            return {"token": told["token"]}
        if "credentials" in told:
            jwt, key = parse_credentials(told["credentials"])
            return {
                "user_jwt_cb": lambda: bytearray(jwt.encode()),
                "signature_cb": lambda nonce: base64.b64encode(key.sign(nonce.encode())),
            }
        return {}


def parse_credentials(text: str) -> tuple[str, Key]:
    """The JWT and the key in the content of a ``.creds`` file.

    Raises:
        ForwardError: it is none; nothing of it is shown.
    """
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None or seed is None:
        raise ForwardError("secrets.credentials is not the content of a .creds file.")
    letters = seed.group(1)
    try:
        # Prefix (2 bytes), seed and checksum in base 32 without padding.
        raw = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError):
        raw = b""
    if len(letters) != _SEED_LETTERS or len(raw) != _SEED_BYTES + 4 or not letters.startswith("SU"):
        raise ForwardError("secrets.credentials holds no seed of a user.")
    return jwt.group(1), Key(raw[2:-2])


async def _quiet(_error: Exception) -> None:
    """What goes wrong is told by whatever was waiting for it."""


def _said(error: Exception | None) -> str:
    return f"{str(error) or type(error).__name__}".removeprefix("nats: ").rstrip(".") + "."
