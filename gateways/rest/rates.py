"""How often a key may come, and an address be wrong: a token bucket for each, in each process, which tell each other.

A request is judged by the process's own bucket, so it waits for nobody. Twice a second each process adds what its keys
spent to a counter for each in Valkey, and takes what others added out of its own buckets. So a key that spreads over
several processes gets what one would give it, half a second late; while Valkey is away each process counts for itself.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable

import redis.asyncio
import redis.exceptions
import structlog

SPENT = "fleetlog:spent"
FAILED = "fleetlog:failed"
"""Wrong API keys and session tokens."""
AGENTS_FAILED = "fleetlog:agents-failed"
"""Wrong enrollment tokens, and check-ins that prove nothing."""
PROOFS_FAILED = "fleetlog:proofs-failed"
"""Wrong proofs at NATS, by address."""
AGENT_PROOFS_FAILED = "fleetlog:agent-proofs-failed"
"""The same of one agent from where it was let in."""
AGENTS_SPENT = "fleetlog:agents-spent"
"""Check-ins of agents, and questions of machines that wait."""
TOKENS_SPENT = "fleetlog:tokens-spent"
"""Machines that came by enrollment tokens."""
SYNC_S = 0.5
KEPT_S = 60
"""Valkey forgets a key that did not come for so long."""
MAX_KEYS = 10_000
MOST_WAIT_S = 60.0
"""However many were wrong at once, an address may try again by then: many liars do not shut an office out for long."""
_log = structlog.get_logger("fleetlog.rates")


class Rates:
    """The buckets of one process.

    Args:
        per_s: requests of a key in the long run.
        burst: so many may come at once.
        seconds: a monotonic clock.
    """

    def __init__(self, per_s: float, burst: int, seconds: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._seconds = seconds
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._spent: Counter[str] = Counter()

    def spend(self, key: str) -> float:
        """Take one token; returns 0, or in how many seconds there will be one, and then takes none."""
        tokens = self._tokens(key)
        if tokens < 1:
            return (1 - tokens) / self._per_s
        self._set(key, tokens - 1)
        self._spent[key] += 1
        return 0.0

    def take_spent(self) -> Counter[str]:
        """What was spent here since the last call."""
        spent, self._spent = self._spent, Counter()
        return spent

    def spent_elsewhere(self, key: str, count: int) -> None:
        """Other processes let this key come so often; never below an empty bucket, for those were let in."""
        self._set(key, max(0.0, self._tokens(key) - count))

    def _tokens(self, key: str) -> float:
        tokens, at = self._buckets.get(key, (self._burst, self._seconds()))
        return min(self._burst, tokens + (self._seconds() - at) * self._per_s)

    def _set(self, key: str, tokens: float) -> None:
        self._buckets[key] = (tokens, self._seconds())
        self._buckets.move_to_end(key)
        while len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)


def per_minute(number: int, seconds: Callable[[], float]) -> Rates | None:
    """So many a minute of each key, and as many at once where it did not come for a minute; None where that is 0."""
    return Rates(number / 60, number, seconds) if number else None


class FailureLimit(Rates):
    """One bucket for each address, for wrong keys alone.

    Args:
        burst: how many may come at once.
        every_s: after so many seconds there is room for one more.
        seconds: a monotonic clock.
    """

    def __init__(self, burst: int, every_s: float, seconds: Callable[[], float]) -> None:
        super().__init__(1 / every_s, burst, seconds)
        self._least = min(0.0, 1 - MOST_WAIT_S / every_s)

    def wait_s(self, address: str) -> float:
        """How long this address must wait before it may fail again; 0 if it may."""
        tokens = self._tokens(address)
        return 0.0 if tokens >= 1 else (1 - tokens) / self._per_s

    def failed(self, address: str) -> None:
        """Count a wrong key, whether there was room for it or not, down to a bound."""
        self._set(address, max(self._least, self._tokens(address) - 1))
        self._spent[address] += 1


class SharedRates:
    """The service that has processes tell each other.

    Args:
        rates: this process's.
        url: of Valkey.
        namespace: of what is counted, there.
        from_start: take out what others had counted before this one's first, too. So it begins with an empty bucket of
            whoever comes often, which is right for failures alone.
    """

    def __init__(self, rates: Rates, url: str, namespace: str = SPENT, *, from_start: bool = False) -> None:
        self._rates = rates
        self._namespace = namespace
        self._unknown = 0 if from_start else None
        self._client = redis.asyncio.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)
        self._totals: OrderedDict[str, int] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._away = False

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="rates-share")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            try:
                await self.share()
            except (redis.exceptions.RedisError, OSError) as error:
                if not self._away:
                    _log.warning("rates_not_shared", error=str(error) or type(error).__name__)
                self._away = True
            else:
                self._away = False

    async def share(self) -> None:
        """Tell what was spent here, and learn what was elsewhere; what cannot be told is forgotten, not saved up."""
        spent = self._rates.take_spent()
        if not spent:
            return
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, count in spent.items():
                pipeline.incrby(f"{self._namespace}:{key}", count)
                pipeline.expire(f"{self._namespace}:{key}", KEPT_S)
            totals = (await pipeline.execute())[::2]
        for (key, count), total in zip(spent.items(), totals, strict=True):
            before = self._totals.pop(key, self._unknown)
            self._totals[key] = total
            # Without a total from before there is nothing to compare with; a smaller one means that Valkey forgot.
            if before is not None and total >= before + count:
                self._rates.spent_elsewhere(key, total - before - count)
        while len(self._totals) > MAX_KEYS:
            self._totals.popitem(last=False)
