"""The agents that somebody has touched lately, counted in Valkey, where all API processes share them.

A set for each caller: agents, each by when it was touched last. While Valkey is away each process counts for itself, as
with guesses: a cap that is a little too wide for a while keeps nobody from their work.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

import redis.asyncio
import redis.exceptions
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from command_bus.touches import WINDOW

PREFIX = "fleetlog:touched"
PATIENCE_S = 1.0
MAX_CALLERS = 1_000
"""In one process, while Valkey is away."""
WINDOW_S = WINDOW.total_seconds()
_log = structlog.get_logger("fleetlog.touches")

# KEYS: the caller's set. ARGV: the window in seconds, the agent. By the clock of Valkey, which all processes share.
_TOUCH = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]))
redis.call('ZADD', KEYS[1], now, ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.call('ZCARD', KEYS[1])
"""


class TouchCounts:
    """See `command_bus.touches.Touches`.

    Args:
        seconds: a monotonic clock.
        url: of Valkey; None where there is none, so that the process counts for itself.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic, url: str | None = None) -> None:
        self._seconds = seconds
        self._own: OrderedDict[str, OrderedDict[UUID, float]] = OrderedDict()
        self._away = False
        self._client: redis.asyncio.Redis | None = None
        if url is not None:
            self._client = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=PATIENCE_S,
                socket_connect_timeout=PATIENCE_S,
                # An agent that is counted twice is counted once.
                retry=Retry(NoBackoff(), 1),
            )

    async def start(self) -> None:
        """There is nothing to wait for: without Valkey it begins all the same."""

    async def stop(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def touched(self, who: str, agent_id: UUID) -> int:
        """See `Touches.touched`."""
        # Here, too: who has been counted in Valkey does not begin anew here when that goes away.
        own = self._touched_here(who, agent_id)
        if self._client is None:
            return own
        key = f"{PREFIX}:{hashlib.sha256(who.encode()).hexdigest()}"
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                answer = await self._client.eval(_TOUCH, 1, key, int(WINDOW_S), str(agent_id))
        except (redis.exceptions.RedisError, OSError) as error:
            if not self._away:
                _log.warning("touches_not_shared", error=str(error) or type(error).__name__)
            self._away = True
            return own
        self._away = False
        return int(answer)

    def _touched_here(self, who: str, agent_id: UUID) -> int:
        now, agents = self._seconds(), self._own.setdefault(who, OrderedDict())
        self._own.move_to_end(who)
        agents[agent_id] = now
        agents.move_to_end(agent_id)
        while next(iter(agents.values())) <= now - WINDOW_S:
            agents.popitem(last=False)
        while len(self._own) > MAX_CALLERS:
            self._own.popitem(last=False)
        return len(agents)
