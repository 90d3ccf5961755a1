"""How much the API does at once, and for whom: beyond that requests wait their turn, and beyond that they are refused.

    body within its bytes -> key within its rate -> slot of its kind, by turns among keys -> handler

Kinds have slots of their own, so that exports do not keep commands waiting nor rollouts reads. In each, keys take
turns: one that sends a thousand requests waits for itself, and another's single one stands behind at most one of each
key's.
A refusal comes at once, says when to come again, and means that nothing was done.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client import Counter, Gauge

from gateways.rest.errors import OverloadedError, TooManyRequestsError
from gateways.rest.rates import Rates
from gateways.turns import Turns

ADMITTED = Gauge("fleetlog_http_admitted", "Requests that hold a slot of their kind.", ["kind"])
WAITING = Gauge("fleetlog_http_waiting", "Requests that wait for a slot of their kind.", ["kind"])
TURNED_AWAY = Counter("fleetlog_http_turned_away", "Requests refused so that others are served.", ["kind", "why"])
BODY_BYTES = Gauge(
    "fleetlog_http_body_bytes", "Bytes of the bodies of requests that are under way, or promised to them."
)
_LEAST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0


class Kind(StrEnum):
    """What a request costs."""

    READ = "read"
    WRITE = "write"
    BULK = "bulk"
    """One request, thousands of agents."""
    STREAM = "stream"
    """Goes on for long, and does little most of the time."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Of one kind of request in one process."""

    slots: int
    """At once."""
    per_key: int
    """Of these, for one key."""
    waiting: int = 0
    """So many more wait for a slot, and"""
    waiting_per_key: int = 0
    """so many of one key."""


BOUNDS = {
    Kind.READ: Bound(slots=64, per_key=48, waiting=2_000, waiting_per_key=500),
    Kind.WRITE: Bound(slots=256, per_key=192, waiting=4_000, waiting_per_key=1_000),
    Kind.BULK: Bound(slots=2, per_key=1, waiting=64, waiting_per_key=16),
    Kind.STREAM: Bound(slots=2_000, per_key=1_000),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one API process."""

    bounds: dict[Kind, Bound] = field(default_factory=lambda: dict(BOUNDS))
    wait_s: float = 10.0
    """How long a request waits for a slot."""
    body_bytes: int = 64 * 1024 * 1024
    """Of the bodies of all requests that are under way."""
    body_s: float = 30.0
    """How long one may take to come."""


class Slots:
    """The slots of one kind, lent by turns among keys.

    Args:
        kind: for the metrics.
        bound: how many.
        wait_s: how long one waits.
    """

    def __init__(self, kind: Kind, bound: Bound, wait_s: float) -> None:
        self._kind = kind
        self._bound = bound
        self._wait_s = wait_s
        self._held: Tally[str] = Tally()
        self._total = 0
        self._waiting: Turns[str, asyncio.Future[None]] = Turns()
        self._keys: dict[asyncio.Future[None], str] = {}
        self._waiting_of: Tally[str] = Tally()
        self._served_s = 0.01
        """How long a request of this kind holds its slot, lately."""

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Have a slot while the context is open.

        Raises:
            TooManyRequestsError: this key has too many waiting already.
            OverloadedError: too many wait, or none came free in time.
        """
        await self._acquire(key)
        began = time.monotonic()
        try:
            yield
        finally:
            self._served_s += (time.monotonic() - began - self._served_s) / 50
            self._release(key)

    async def _acquire(self, key: str) -> None:
        if self._may(key) and not len(self._waiting):
            self._take(key)
            return
        at_its_end = self._waiting_of[key] >= self._bound.waiting_per_key
        if at_its_end and (self._bound.waiting_per_key or self._held[key] >= self._bound.per_key):
            raise self._refused(TooManyRequestsError, "key")
        if at_its_end or len(self._waiting) >= self._bound.waiting:
            raise self._refused(OverloadedError, "full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(key, turn)
        self._keys[turn] = key
        self._waiting_of[key] += 1
        WAITING.labels(self._kind).set(len(self._keys))
        self._lend()
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except TimeoutError:
            if not turn.done() or turn.cancelled():
                raise self._refused(OverloadedError, "late") from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(key)
            raise
        finally:
            self._leave_queue(turn, key)

    def _leave_queue(self, turn: asyncio.Future[None], key: str) -> None:
        self._waiting.discard(turn)
        del self._keys[turn]
        self._waiting_of[key] -= 1
        if not self._waiting_of[key]:
            del self._waiting_of[key]
        WAITING.labels(self._kind).set(len(self._keys))

    def _may(self, key: str) -> bool:
        return self._total < self._bound.slots and self._held[key] < self._bound.per_key

    def _take(self, key: str) -> None:
        self._total += 1
        self._held[key] += 1
        ADMITTED.labels(self._kind).set(self._total)

    def _release(self, key: str) -> None:
        self._total -= 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        ADMITTED.labels(self._kind).set(self._total)
        self._lend()

    def _lend(self) -> None:
        """Give what is free to those whose turn it is; a key that has its share already is passed over."""
        while self._total < self._bound.slots:
            turn = self._waiting.next(self._may)
            if turn is None:
                return
            if not turn.done():
                self._take(self._keys[turn])
                turn.set_result(None)

    def _refused(
        self, error: type[OverloadedError] | type[TooManyRequestsError], why: str
    ) -> OverloadedError | TooManyRequestsError:
        TURNED_AWAY.labels(self._kind, why).inc()
        ahead_s = (len(self._waiting) + 1) * self._served_s / self._bound.slots
        return error(headers=retry_after(ahead_s))


def retry_after(least_s: float) -> dict[str, str]:
    """When to come again, a little different for each, so that those refused together do not come back together."""
    least_s = min(max(least_s, _LEAST_WAIT_S), _LONGEST_WAIT_S)
    return {"Retry-After": str(round(least_s * random.uniform(1.0, 2.0)))}  # noqa: S311 -- spreads load, hides nothing


class BodyBudget:
    """Bytes of the bodies of requests that are under way, or promised to them.

    Args:
        size: of all together.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._promised = 0

    @contextlib.contextmanager
    def promise(self, size: int, *, sure: bool = False) -> Iterator[None]:
        """Reserve room while the context is open.

        Args:
            size: in bytes.
            sure: there is room for it for certain: it is a part of what was promised before.

        Raises:
            OverloadedError: there is none.
        """
        if not sure and self._promised and self._promised + size > self._size:
            TURNED_AWAY.labels("body", "full").inc()
            raise OverloadedError(headers=retry_after(_LEAST_WAIT_S))
        self._promised += size
        BODY_BYTES.set(self._promised)
        try:
            yield
        finally:
            self._promised -= size
            BODY_BYTES.set(self._promised)


class ApiAdmission:
    """All bounds of one process.

    Args:
        limits: see there.
        rates: how often a key may come; None means as often as it likes.
    """

    def __init__(self, limits: Limits, rates: Rates | None) -> None:
        self.limits = limits
        self.bodies = BodyBudget(limits.body_bytes)
        self._rates = rates
        self._slots = {kind: Slots(kind, bound, limits.wait_s) for kind, bound in limits.bounds.items()}

    def count(self, key: str) -> None:
        """Let a key come once more.

        Raises:
            TooManyRequestsError: not now.
        """
        wait_s = self._rates.spend(key) if self._rates is not None else 0.0
        if wait_s > 0:
            TURNED_AWAY.labels("any", "rate").inc()
            raise TooManyRequestsError(headers=retry_after(wait_s))

    def hold(self, kind: Kind, key: str) -> contextlib.AbstractAsyncContextManager[None]:
        """A slot for a request of this kind; see `Slots.hold`."""
        return self._slots[kind].hold(key)
