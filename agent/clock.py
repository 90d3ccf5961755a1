"""The server's time, whatever this machine's own clock says.

An expiry is the server's word, so it is judged by the server's clock. What the agent knows of it: an estimate from the
latest hello, and a lower bound from each signed delivery. Both are carried forward by a counter that no one can set
(it includes sleep where the platform has such a counter), never by the wall clock, which may step at any moment.

The estimate is not signed. Whoever holds the broker could turn it back, to have an old order taken for a fresh one;
the lower bound is signed, and the time goes below it only by a signed word that is newer: one that brings an order of a
later position than any before. So a server whose clock was wrong for a while is believed again once it is right.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from agent.platforms import PLATFORM


class ServerClock:
    """Tells the server's time.

    Until the server has been heard, it is this machine's wall clock plus what they differed by when last heard.
    """

    def __init__(
        self,
        *,
        last_offset_s: float = 0.0,
        elapsed: Callable[[], float] = PLATFORM.elapsed_s,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._elapsed = elapsed
        self._wall = wall
        self._estimate = wall() + last_offset_s - elapsed()
        self._floor = float("-inf")
        self._newest = 0

    def now(self) -> datetime:
        return datetime.fromtimestamp(max(self._estimate, self._floor) + self._elapsed(), UTC)

    @property
    def latest_heard(self) -> datetime:
        """By the server's latest word alone, signed or not: to tell the server how late it is, not to judge by."""
        return datetime.fromtimestamp(self._estimate + self._elapsed(), UTC)

    def heard(self, server_time: datetime, round_trip_s: float) -> None:
        """Take the server's time from an answer that took ``round_trip_s`` to come."""
        self._estimate = server_time.timestamp() + round_trip_s / 2 - self._elapsed()

    def signed(self, sent_at: datetime, newest: int = 0) -> None:
        """The server has signed that it is at least this late.

        Args:
            sent_at: its word.
            newest: the largest position of what came with it; a word with a larger one than all before is not an old
                one said again.
        """
        floor = sent_at.timestamp() - self._elapsed()
        self._floor = floor if newest > self._newest else max(self._floor, floor)
        self._newest = max(self._newest, newest)

    @property
    def offset_s(self) -> float:
        """How far the server is ahead of this machine's wall clock, to be kept for the next start."""
        return (self.now() - datetime.fromtimestamp(self._wall(), UTC)) / timedelta(seconds=1)
