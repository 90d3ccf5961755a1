"""Whom to trust, for an agent that was away while the server's certificate authority was replaced.

It trusts nobody whom the server shows by now, so it cannot say hello and be told. It asks over a connection that proves
nothing, says nothing on it, and believes the answer by its signature alone: the delivery key's, or one that follows
from it. Whoever stands in between can keep the answer back, and repeat one that is newer than what is known here; they
cannot make one.
"""

import asyncio
import contextlib
import http.client
import logging
import random
import ssl
import time
import urllib.request
from collections.abc import Callable

import msgspec

from agent.threads import in_thread
from schema import trust

log = logging.getLogger("fleetlog.agent.regain")
AGAIN_S = 60.0
_TIMEOUT_S = 15.0
_MOST_BYTES = 1024 * 1024
_decode = msgspec.msgpack.Decoder(trust.WhomToTrust).decode


def is_untrusted(error: BaseException | None) -> bool:
    """Whether a connection failed since the server's certificate is nobody's who is trusted; looks at its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # urllib has it as a reason, aiohttp as a certificate_error.
        inner = [error, getattr(error, "reason", None), getattr(error, "certificate_error", None)]
        if any(isinstance(one, ssl.SSLCertVerificationError) for one in inner):
            return True
        error = error.__cause__ or error.__context__
    return False


class Regain:
    """Finds whom to trust.

    Args:
        server_url: of the API.
        on_answer: told what the server says; it is to believe nothing that is not signed.
        uniform: randomness, as `random.uniform`.
    """

    def __init__(
        self,
        server_url: Callable[[], str],
        on_answer: Callable[[trust.WhomToTrust], None],
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._server_url = server_url
        self._on_answer = on_answer
        self._uniform = uniform
        self._not_before = -AGAIN_S
        self._wanted = asyncio.Event()

    def failed(self, error: BaseException) -> None:
        """A connection failed: it may be time to ask."""
        if is_untrusted(error):
            self._wanted.set()

    async def run(self) -> None:
        """Ask whenever a connection failed for that, and not too often, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            self._not_before = time.monotonic() + AGAIN_S * self._uniform(0.5, 1.5)
            url = self._server_url()
            try:
                answer = _decode(await in_thread(lambda url=url: _ask(url)))  # type: ignore[misc]  # mypy loses the default's type
            except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
                log.warning("nobody whom this agent trusts is there, and the server does not say why: %s", error)
                continue
            self._on_answer(answer)


def _ask(url: str) -> bytes:
    blind: ssl.SSLContext | None = None
    if url.startswith("https://"):
        blind = ssl.create_default_context()
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
    address = url.rstrip("/") + trust.WHOM_TO_TRUST_PATH
    with contextlib.closing(
        urllib.request.urlopen(address, timeout=_TIMEOUT_S, context=blind)  # noqa: S310 - enrollment accepts http and https alone
    ) as answer:
        return bytes(answer.read(_MOST_BYTES))
