"""How often somebody may be wrong about a password or code: by account and address, with waits that grow.

An attempt is counted before it is looked at, so that many at once do not slip through together, and is forgiven if it
was right. Three counts hold it back:

    account from that address   4 free, then 2 s, 4 s, ... to 15 min
    address                    20 free, then 1 s, 2 s, ... to 15 min
    account from anywhere      20 free, then 1 s, 2 s, ... to 30 s

Wrong API keys are held back likewise, by the id in front of each key: after they were wrong, since many requests with a
right one may come at once, and an address waits only from the hundredth on, for a minute at the most.

An address that has logged in to an account lately is held to the first alone. So whoever guesses at an account, from
however many addresses, does not lock its owner out of their usual place, nor one colleague the others of an office; and
a new place waits half a minute, not for ever.

The counts are in Valkey, where all API processes share them; while it is away each process counts for itself. An
account that does not exist is counted like any other. Of an IPv6 address the network counts: whoever has one has all of
it.
"""

import asyncio
import hashlib
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import redis.asyncio
import redis.exceptions
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from command_bus.handlers.login_checks import Wait

MAX_COUNTS = 20_000
"""In one process, while Valkey is away."""
PREFIX = "fleetlog:guesses"
KEYS_PREFIX = "fleetlog:key-guesses"
"""Of API keys, by the id that is in front of each."""
PATIENCE_S = 1.0
KNOWN_S = 30 * 86_400
"""So long an address is one that has logged in to the account."""
FORGOTTEN_S = 86_400
"""A count that nothing was added to for so long."""
_IPV6_NETWORK = 64
_log = structlog.get_logger("fleetlog.guesses")


class Hold(msgspec.Struct, frozen=True):
    """What one count comes to."""

    free: int
    first_s: float
    most_s: float

    def wait_s(self, count: int) -> float:
        """How long after so many attempts the next one has to wait."""
        return 0.0 if count < self.free else min(self.most_s, self.first_s * 2.0 ** min(count - self.free, 30))


PAIR = Hold(free=4, first_s=2, most_s=900)
ADDRESS = Hold(free=20, first_s=1, most_s=900)
ACCOUNT = Hold(free=20, first_s=1, most_s=30)
HOLDS = (PAIR, ADDRESS, ACCOUNT)
KEY_HOLDS = (PAIR, Hold(free=100, first_s=1, most_s=60), ACCOUNT)
"""Of API keys: behind one address there may be many programs, and one that is broken must not shut the others out."""

LOGOUTS_PREFIX = "fleetlog:logout-guesses"
LOGOUT_HOLDS = (Hold(free=20, first_s=1, most_s=60),) * 3
"""Of a provider's logout tokens, which are nobody's account: by address alone, and only after they were wrong."""

# KEYS: the three counts, and whether the address is known to the account. ARGV: free, first_s, most_s of each, how long
# a count is kept, and whether to count. A count is a hash: n attempts, the next not before `until`, and whether
# somebody was told so.
_ATTEMPT = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local last = 3
if redis.call('EXISTS', KEYS[4]) == 1 then last = 1 end
local wait, worst = 0, nil
for i = 1, last do
  local left = tonumber(redis.call('HGET', KEYS[i], 'until') or '0') - now
  if left > wait then wait, worst = left, KEYS[i] end
end
if worst then return {tostring(wait), redis.call('HSETNX', worst, 'told', '1')} end
if ARGV[11] == '0' then return {'0', 0} end
for i = 1, last do
  local n = redis.call('HINCRBY', KEYS[i], 'n', 1)
  local free, first, most = tonumber(ARGV[3*i-2]), tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i])
  if n >= free then
    local next = now + math.min(most, first * 2 ^ math.min(n - free, 30))
    redis.call('HSET', KEYS[i], 'until', string.format('%.6f', next))
    redis.call('HDEL', KEYS[i], 'told')
  end
  redis.call('EXPIRE', KEYS[i], ARGV[10])
end
return {'0', 0}
"""
# An address takes back its own attempt and no more: somebody's right password does not pay for guesses at others.
_SUCCESS = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[4], '1', 'EX', ARGV[1])
for i = 2, 3 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    if redis.call('HINCRBY', KEYS[i], 'n', -1) <= 0 then redis.call('DEL', KEYS[i])
    else redis.call('HDEL', KEYS[i], 'until', 'told') end
  end
end
return 0
"""


class _Count:
    def __init__(self) -> None:
        self.n = 0
        self.until = 0.0
        self.told = False


class OwnCounts:
    """The same in one process.

    Args:
        seconds: a monotonic clock.
        holds: what pair, address and account come to.
    """

    def __init__(self, seconds: Callable[[], float], holds: Sequence[Hold] = HOLDS) -> None:
        self._seconds = seconds
        self._holds = holds
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def attempt(self, keys: Sequence[str], *, count: bool) -> Wait | None:
        now = self._seconds()
        *names, known = keys
        if known in self._known:
            names = names[:1]
        counts = [self._count(name) for name in names]
        worst = max(counts, key=lambda count: count.until)
        if worst.until > now:
            first, worst.told = not worst.told, True
            return Wait(worst.until - now, first)
        for one, hold in zip(counts, self._holds, strict=False) if count else ():
            one.n += 1
            if wait_s := hold.wait_s(one.n):
                one.until, one.told = now + wait_s, False
        return None

    def succeeded(self, keys: Sequence[str]) -> None:
        pair, *others, known = keys
        self._counts.pop(pair, None)
        self._known[known] = None
        for name in others:
            if (count := self._counts.get(name)) is not None:
                count.n, count.until, count.told = count.n - 1, 0.0, False
        while len(self._known) > MAX_COUNTS:
            self._known.popitem(last=False)

    def _count(self, name: str) -> _Count:
        count = self._counts.setdefault(name, _Count())
        self._counts.move_to_end(name)
        while len(self._counts) > MAX_COUNTS:
            self._counts.popitem(last=False)
        return count


class Guesses:
    """Holds guesses back.

    Args:
        seconds: a monotonic clock.
        url: of Valkey; None where there is none, so that the process counts for itself.
        prefix: of the names there: what is guessed at.
        holds: what pair, address and account come to.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        url: str | None = None,
        prefix: str = PREFIX,
        holds: Sequence[Hold] = HOLDS,
    ) -> None:
        self._prefix = prefix
        self._holds = holds
        self._own = OwnCounts(seconds, holds)
        self._client: redis.asyncio.Redis | None = None
        if url is not None:
            self._client = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=PATIENCE_S,
                socket_connect_timeout=PATIENCE_S,
                # Who waits here waits to log in; and an attempt that is sent twice is counted twice.
                retry=Retry(NoBackoff(), 0),
            )
        self._away = False

    async def start(self) -> None:
        """There is nothing to wait for: without Valkey it begins all the same."""

    async def stop(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def attempt(self, account: str, address: str) -> Wait | None:
        """Count an attempt, if it may be made now.

        Args:
            account: the user's id, or what stands for a name that nobody has.
            address: where it comes from.

        Returns:
            None if it may; otherwise for how long not, and then it is not counted.
        """
        return await self._attempt(account, address, count=True)

    async def wait(self, account: str, address: str) -> Wait | None:
        """The same without counting: for what is counted once it was wrong, since many that are right come at once."""
        return await self._attempt(account, address, count=False)

    async def _attempt(self, account: str, address: str, *, count: bool) -> Wait | None:
        keys = _keys(self._prefix, account, address)
        terms = [number for hold in self._holds for number in (hold.free, hold.first_s, hold.most_s)]
        answer = await self._ask(_ATTEMPT, keys, [*terms, FORGOTTEN_S, int(count)])
        if answer is None:
            return self._own.attempt(keys, count=count)
        wait_s, first = float(answer[0]), bool(answer[1])
        return Wait(wait_s, first) if wait_s > 0 else None

    async def succeeded(self, account: str, address: str) -> None:
        """It was no guess: what was counted for the account from there is forgotten."""
        keys = _keys(self._prefix, account, address)
        await self._ask(_SUCCESS, keys, [KNOWN_S])
        # Here, too: it may have been counted here while Valkey was away.
        self._own.succeeded(keys)

    async def _ask(self, script: str, keys: Sequence[str], arguments: Sequence[float]) -> Any:
        """What Valkey answers; None while it is away."""
        if self._client is None:
            return None
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                answer = await self._client.eval(script, len(keys), *keys, *arguments)
        except (redis.exceptions.RedisError, OSError) as error:
            if not self._away:
                _log.warning("guesses_not_shared", error=str(error) or type(error).__name__)
            self._away = True
            return None
        self._away = False
        return answer


def _keys(prefix: str, account: str, address: str) -> tuple[str, str, str, str]:
    """Names of the counts. Nothing in Valkey tells who logs in from where."""
    place = place_of(address)
    named = (f"{account}\n{place}", place, account, f"{account}\n{place}")
    kinds = ("pair", "address", "account", "known")
    one, two, three, four = (
        f"{prefix}:{kind}:{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
        for kind, name in zip(kinds, named, strict=True)
    )
    return one, two, three, four


def place_of(address: str) -> str:
    """What counts as one address: of IPv6 the network, for whoever has one of its addresses has them all."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:  # noqa: PLR2004 -- of the protocol
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK), strict=False))
    return address
