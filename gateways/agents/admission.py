"""Who of the agents is heard at once, and when the others are to come again (back-pressure from the log to the agents).

What is under way is bounded by number and by bytes. Beyond that an agent is told when to come again: each gets a moment
of its own, spread at the rate at which messages are being answered, so that those who were refused together do not come
back together. Small messages (check-ins, starts) are not kept out by large ones (outputs).

One agent alone can take only a part of it all, and speak only so often; one that goes on regardless is not answered at
all, which its own timeout makes slower still. Nothing is lost by a refusal: agents keep what was not acknowledged.
"""

from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

MESSAGES = 10_000
"""Under way at once. Twice what comes when a whole fleet of 5,000 reports in the same second."""
BYTES = 64 * 1024 * 1024
SMALL_BYTES = 4 * 1024
"""Messages up to this size are bounded by their number alone: all of them together stay below `BYTES`."""
AGENT_MESSAGES = 64
"""Of one agent. It sends eight results at once, and a check-in, its facts and its starts beside them."""
AGENT_BYTES = 8 * 1024 * 1024
AGENT_BURST = 2_000
AGENT_PER_S = 200.0
SILENT_BELOW = -200.0
"""An agent that was refused so often since it could have been heard gets no answer any more."""
LEAST_TOKENS = -400.0
"""However much it sent: some seconds of peace, and it is heard again."""
MAX_TRACKED = 100_000
LEAST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
LEAST_RATE_PER_S = 200.0
_RATE_EVERY_S = 0.5


class Refusal:
    """A message that is not heard now."""

    __slots__ = ("again_s", "code", "silent")

    def __init__(self, code: str, again_s: float, *, silent: bool = False) -> None:
        self.code = code
        self.again_s = again_s
        self.silent = silent


class _Share:
    """What one agent has under way, and how often it may speak yet."""

    __slots__ = ("at", "bytes", "messages", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.messages = 0
        self.bytes = 0
        self.tokens = tokens
        self.at = at


class Admission:
    """Of one gateway's messages.

    Args:
        seconds: a monotonic clock.
        messages: so many may be under way at once.
        size: so many bytes of them, small ones aside.
        burst: so many an agent may send at once, and then `per_s`.
        per_s: messages of one agent in the long run.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        *,
        messages: int = MESSAGES,
        size: int = BYTES,
        burst: int = AGENT_BURST,
        per_s: float = AGENT_PER_S,
    ) -> None:
        self._seconds = seconds
        self._messages = messages
        self._bytes = size
        self._burst = float(burst)
        self._per_s = per_s
        self._shares: OrderedDict[UUID, _Share] = OrderedDict()
        self._next = 0.0
        self._answered = 0
        self._measured_at = seconds()
        self._rate = LEAST_RATE_PER_S
        self.messages = 0
        """Under way now."""
        self.bytes = 0

    def enter(self, agent_id: UUID, size: int) -> Refusal | None:
        """Let a message in, or say when to come again. Each that was let in must `leave`."""
        now = self._seconds()
        share = self._share(agent_id, now)
        share.tokens = max(share.tokens - 1, LEAST_TOKENS)
        if share.tokens < 0:
            return Refusal(
                "too_many_messages", -share.tokens / self._per_s + LEAST_WAIT_S, silent=share.tokens < SILENT_BELOW
            )
        # A single message of any size may always come alone, or it could never come.
        if share.messages >= AGENT_MESSAGES or (share.bytes and share.bytes + size > AGENT_BYTES):
            return Refusal("too_many_messages", LEAST_WAIT_S)
        if self.messages >= self._messages or (size > SMALL_BYTES and self.bytes and self.bytes + size > self._bytes):
            return Refusal("overloaded", self._appointment(now))
        self.messages += 1
        self.bytes += size
        share.messages += 1
        share.bytes += size
        return None

    def leave(self, agent_id: UUID, size: int) -> None:
        """A message that was let in has been answered."""
        self.messages -= 1
        self.bytes -= size
        self._answered += 1
        share = self._shares[agent_id]
        share.messages -= 1
        share.bytes -= size
        now = self._seconds()
        if now - self._measured_at >= _RATE_EVERY_S:
            lately = self._answered / (now - self._measured_at)
            self._rate = max(LEAST_RATE_PER_S, (self._rate + lately) / 2)
            self._answered, self._measured_at = 0, now

    def _appointment(self, now: float) -> float:
        """The next free moment, as far off as answering everybody before takes, in seconds from now."""
        self._next = min(max(self._next, now + LEAST_WAIT_S) + 1 / self._rate, now + LONGEST_WAIT_S)
        return self._next - now

    def _share(self, agent_id: UUID, now: float) -> _Share:
        share = self._shares.get(agent_id)
        if share is None:
            share = self._shares[agent_id] = _Share(self._burst, now)
            self._forget()
        else:
            share.tokens = min(self._burst, share.tokens + (now - share.at) * self._per_s)
            share.at = now
            self._shares.move_to_end(agent_id)
        return share

    def _forget(self) -> None:
        """Those not heard of for longest; one with something under way is put behind the others."""
        for _ in range(8):
            if len(self._shares) <= MAX_TRACKED:
                return
            agent_id, share = self._shares.popitem(last=False)
            if share.messages:
                self._shares[agent_id] = share
