"""Webhooks: a POST in the structured or the batched mode of CloudEvents over HTTP, signed by Standard Webhooks.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import httpx2

from command_bus.context import Clock
from domain.destinations import Webhook
from domain.ids import derived_id
from gateways.forward.envelope import BATCH, SINGLE, Outgoing, batched
from gateways.forward.errors import EventRefusedError, NotTakenError, UnreachableError
from gateways.forward.guard import Guard
from schema.authorities import trusting

CONNECT_S = 5.0
TIMEOUT_S = 30.0
"""For all of one request."""
MAX_ANSWER_BYTES = 64 * 1024
"""What an answer says is of no interest; so much of it is read that the connection can be used again."""
LONGEST_WISH_S = 3600.0
"""So long a receiver may have itself be left alone (Retry-After)."""
KEY_PREFIX = "whsec_"
OF_THE_EVENT = frozenset({400, 406, 409, 410, 411, 413, 414, 415, 422, 431, 451})
"""Answers by which a receiver finds fault with what it was sent, and not with who sends, where to, or how often."""
MAX_WORDS = 200
"""Characters that are shown of what it says then."""
_TEXTS = ("text/plain", "application/json", "application/problem+json")


def signature(key: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`.

    Args:
        key: ``whsec_`` and base 64.
        message_id: the header `webhook-id`.
        timestamp: the header `webhook-timestamp`, in seconds since 1970.
        body: of the request.
    """
    secret = base64.b64decode(key.removeprefix(KEY_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


class WebhookChannel:
    """Requests to one URL, one after the other.

    Args:
        to: the destination.
        told: what it is told in confidence, by name.
        guard: says where may be sent to.
        clock: now.
    """

    def __init__(self, to: Webhook, told: Mapping[str, str], guard: Guard, clock: Clock) -> None:
        self.at_once = to.batch
        self._to = to
        self._told = told
        self._guard = guard
        self._clock = clock
        self._client: httpx2.AsyncClient | None = None

    async def open(self) -> None:
        """Make ready; the first request is what reaches it."""
        plain = urlsplit(self._to.url).scheme == "http"
        verify = False if plain else await asyncio.to_thread(trusting, self._to.authority or None)
        self._client = httpx2.AsyncClient(
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=1),
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def settled(self) -> int | None:
        """What was answered by 2xx is there."""
        return None

    async def send(self, events: Sequence[Outgoing]) -> None:
        """One request.

        Raises:
            AddressRefusedError: it would go where this server does not send to.
            UnreachableError: nobody answered in time.
            EventRefusedError: it finds fault with what it was sent.
            NotTakenError: the answer was anything else but 2xx.
        """
        if self._to.batch > 1:
            body, kind = batched(list(events)), BATCH
            message_id = str(derived_id("batch", *(event.id for event in events)))
        else:
            (event,) = events
            body, kind, message_id = event.body, SINGLE, event.id
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._post(body, self._headers(body, kind, message_id))
        except TimeoutError:
            raise UnreachableError(f"The webhook did not answer within {TIMEOUT_S:g} s.") from None

    def _headers(self, body: bytes, kind: str, message_id: str) -> dict[str, str]:
        timestamp = int(self._clock().timestamp())
        headers = {
            "Host": urlsplit(self._to.url).netloc,
            "Content-Type": f"{kind}; charset=utf-8",
            "User-Agent": "fleetlog",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
        }
        if key := self._told.get("signing_key"):
            headers["webhook-signature"] = signature(key, message_id, timestamp, body)
        if authorization := self._told.get("authorization"):
            headers["Authorization"] = authorization
        return headers

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> None:
        client = self._client
        if client is None:
            raise RuntimeError("It is not open.")
        parts = urlsplit(self._to.url)
        host, plain = parts.hostname or "", parts.scheme == "http"
        port = parts.port or (80 if plain else 443)
        query = f"?{self._told['query']}" if self._told.get("query") else ""
        failure: Exception | None = None
        for address in await self._guard.addresses(host, port, plain=plain):
            # The address in place of the name: nobody resolves it once more. The name is what is sent and what the
            # certificate is held against.
            where = f"[{address}]" if ":" in address else address
            url = f"{parts.scheme}://{where}:{port}{parts.path or '/'}{query}"
            try:
                async with client.stream(
                    "POST", url, content=body, headers=dict(headers), extensions={"sni_hostname": host}
                ) as answer:
                    await self._judge(answer)
                    return
            except httpx2.ConnectError as error:
                failure = error  # nothing was sent: another of its addresses may answer
            except httpx2.HTTPError as error:
                raise UnreachableError(f"The webhook cannot be reached: {_said(error)}") from error
        raise UnreachableError(f"The webhook cannot be reached: {_said(failure)}") from failure

    async def _judge(self, answer: httpx2.Response) -> None:
        read = b""
        async for piece in answer.aiter_raw():
            read += piece
            if len(read) > MAX_ANSWER_BYTES:
                break
        if answer.is_success:
            return
        detail = f"The webhook answered {answer.status_code}"
        if answer.status_code in OF_THE_EVENT:
            words = _words(answer.headers, read)
            raise EventRefusedError(f"{detail}: {words}" if words else f"{detail}.")
        if answer.is_redirect:
            detail += ", and redirects are not followed"
        raise NotTakenError(f"{detail}.", retry_after_s=_retry_after(answer.headers.get("Retry-After", "")))


def _words(headers: Mapping[str, str], body: bytes) -> str:
    """Why it refuses, as text that can be shown.

    Of no other answer anything is shown, for it may come from something that was not meant; what is worth having there
    comes by 2xx.
    """
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() not in _TEXTS or "Content-Encoding" in headers:
        return ""
    text = " ".join(body[: 4 * MAX_WORDS].decode("utf-8", "replace").split())
    return "".join(one for one in text if one.isprintable())[:MAX_WORDS]


def _retry_after(text: str) -> float | None:
    return min(float(text), LONGEST_WISH_S) if text.isascii() and text.isdecimal() else None


def _said(error: Exception | None) -> str:
    return f"{str(error) or type(error).__name__}".rstrip(".") + "."
