"""The way to the server: kept up for ever, over NATS where it can be had, else over HTTPS.

Reconnects are spread over time (full jitter): ten thousand agents that lost the same server must not come back in the
same second, and nats-py itself spreads nothing.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from agent.errors import LinkError
from schema import wire

log = logging.getLogger("fleetlog.agent.link")

OnRequest = Callable[[bytes], Awaitable[bytes]]
"""Answers what the server asks."""


class Session(Protocol):
    """One live connection."""

    transport: str
    """``nats | http``"""

    async def request(self, kind: str, data: bytes, timeout_s: float) -> bytes:
        """Send an uplink message and return its answer.

        Raises:
            LinkError: there was none.
        """

    async def live(self, command_id: UUID, data: bytes) -> None:
        """Send live output, which may be lost."""

    async def lost(self) -> str:
        """Wait until the connection is of no more use; return why."""

    async def close(self) -> None:
        """Let go of it."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One address at which the server may be reached."""

    url: str
    connect: Callable[[OnRequest, int], Awaitable[Session]]
    """Told how long to wait at each step; raises LinkError where it cannot be reached."""


class Backoff:
    """Waits that double, each a random part of its bound."""

    def __init__(self, *, first_s: float, most_s: float, uniform: Callable[[float, float], float]) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._uniform = uniform
        self._tries = 0

    def next_s(self) -> float:
        bound = min(self._most_s, self._first_s * 2 ** min(self._tries, 30))
        self._tries += 1
        # Not from zero: a refusal that comes at once must not be answered at once.
        return self._uniform(bound / 10, bound)

    def reset(self) -> None:
        self._tries = 0


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the link is."""

    first_wait_s: float = 3.0
    most_wait_s: float = 60.0
    http_after_s: float = 20.0
    """Without NATS for so long, fall back to HTTP."""
    nats_again_s: float = 120.0
    """While on HTTP, how often NATS is tried."""
    first_patience_s: int = 2
    """How long a server may take to let an agent in, at its first try: where nobody judges newcomers yet, as while a
    platform starts, it would hold them for much longer than that takes. It doubles."""
    most_patience_s: int = wire.LET_IN_S
    """The same for one that was in and lost its server: then a whole fleet may have, and a try given up early costs
    everybody's turn in letting it in."""


class Link:
    """Keeps a session up.

    Args:
        ways: NATS addresses; of one kind (``nats``, ``wss``, ...) they are as good as each other, and the kind that
            is named first is tried first.
        fallback: the HTTP check-in, if it may be used; with no ``ways``, it is the only way.
        on_request: answers what the server asks.
        on_up: told when a session came up.
        timing: how patient to be.
        uniform: randomness, as `random.uniform`.
    """

    def __init__(
        self,
        ways: Sequence[Way],
        fallback: Way | None,
        on_request: OnRequest,
        on_up: Callable[[str, str], None],
        *,
        timing: Timing | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._ways = list(ways)
        self._fallback = fallback
        self._on_request = on_request
        self._on_up = on_up
        self._timing = timing or Timing()
        self._uniform = uniform
        self._backoff = Backoff(first_s=self._timing.first_wait_s, most_s=self._timing.most_wait_s, uniform=uniform)
        self._patience_s = self._timing.first_patience_s
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._other_ways = asyncio.Event()
        self._renew = asyncio.Event()

    def use(self, ways: Sequence[Way]) -> None:
        """From now on NATS has these addresses; a session over HTTP looks there at once."""
        self._ways = list(ways)
        self._other_ways.set()

    def renew(self) -> None:
        """Give the session up, if there is one, for another: this agent has something else to show."""
        self._renew.set()

    async def run(self) -> None:
        """Keep a session up until cancelled."""
        while True:
            session, url = await self._connect()
            try:
                while session is not None:
                    self._use(session, url)
                    session, url = await self._until_lost(session)
            finally:
                self._session = None
                self._up.clear()
            await asyncio.sleep(self._backoff.next_s())

    def _use(self, session: Session, url: str) -> None:
        self._session = session
        self._backoff.reset()
        self._patience_s = self._timing.most_patience_s
        self._up.set()
        log.info("connected transport=%s url=%s", session.transport, url)
        self._on_up(session.transport, url)

    async def _until_lost(self, session: Session) -> tuple[Session | None, str]:
        """Wait until the session is lost, or until a better one replaces it, which is returned."""
        lost = asyncio.create_task(session.lost())
        better = asyncio.create_task(self._better(session))
        self._renew.clear()
        renewed = asyncio.create_task(self._renew.wait())
        used = False
        try:
            await asyncio.wait({lost, better, renewed}, return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                log.warning("disconnected transport=%s reason=%s", session.transport, lost.result())
                return None, ""
            if not better.done():
                log.info("connects anew transport=%s", session.transport)
                return None, ""
            used = True
            return better.result()
        finally:
            self._session = None
            for task in (lost, better, renewed):
                task.cancel()
            outcomes = await asyncio.gather(lost, better, renewed, return_exceptions=True)
            await session.close()
            if not used and isinstance(outcomes[1], tuple):
                await outcomes[1][0].close()

    async def _better(self, session: Session) -> tuple[Session, str]:
        """While on HTTP, look for NATS now and then; return once it is there."""
        while session.transport == "http":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._uniform(0.5, 1.0) * self._timing.nats_again_s):
                    await self._other_ways.wait()
            self._other_ways.clear()
            for way in self._shuffled():
                with contextlib.suppress(LinkError):
                    return await way.connect(self._on_request, self._timing.most_patience_s), way.url
        nothing: asyncio.Future[tuple[Session, str]] = asyncio.get_running_loop().create_future()
        return await nothing

    async def _connect(self) -> tuple[Session | None, str]:
        since = time.monotonic()
        while True:
            ways = self._shuffled()
            if self._fallback and (not ways or time.monotonic() - since >= self._timing.http_after_s):
                ways.append(self._fallback)
            for way in ways:
                try:
                    return await way.connect(self._on_request, self._patience_s), way.url
                except LinkError as error:
                    log.info("unreachable url=%s reason=%s", way.url, error)
            self._patience_s = min(self._patience_s * 2, self._timing.most_patience_s)
            await asyncio.sleep(self._backoff.next_s())

    def _shuffled(self) -> list[Way]:
        """The ways in the order in which to try them now: at random, so that a fleet spreads over a cluster."""
        kinds: dict[str, list[Way]] = {}
        for way in self._ways:
            kinds.setdefault(urlsplit(way.url).scheme, []).append(way)
        return [way for kind in kinds.values() for way in sorted(kind, key=lambda _: self._uniform(0, 1))]

    # -- for those who speak -------------------------------------------------------------------------------------

    async def wait_up(self) -> None:
        """Wait until there is a session."""
        await self._up.wait()

    @property
    def transport(self) -> str:
        """Of the session; empty while there is none."""
        return self._session.transport if self._session else ""

    async def request(self, kind: str, data: bytes, timeout_s: float = 10.0) -> bytes:
        """Ask the server.

        Raises:
            LinkError: there is no session, or no answer.
        """
        if self._session is None:
            raise LinkError("There is no connection to the server.")
        return await self._session.request(kind, data, timeout_s)

    async def live(self, command_id: UUID, data: bytes) -> None:
        """Send live output if there is a session; it may be lost."""
        if self._session is not None:
            with contextlib.suppress(LinkError):
                await self._session.live(command_id, data)
