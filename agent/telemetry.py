"""How busy the machine is: a sample a minute, kept until a hello has brought it to the server."""

from collections import deque
from collections.abc import Callable
from datetime import datetime

import psutil

from agent.facts import mounted
from schema import wire

SAMPLE_EVERY_S = 60.0


class Telemetry:
    """Samples of one machine.

    Args:
        now: the server's clock, as far as it is known here.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        # As many as a hello brings: about an hour for a server that is away.
        self._waiting: deque[wire.Sample] = deque(maxlen=wire.MAX_SAMPLES)
        # Load is what happened since it was asked for before: the first answer says nothing.
        psutil.cpu_percent()

    def look(self) -> None:
        """Take a sample; blocks, on a disk that does not answer for as long as that."""
        sample = wire.Sample(
            at=self._now(),
            cpu_percent=psutil.cpu_percent(),
            memory_percent=psutil.virtual_memory().percent,
            disk_percent=max((usage.percent for _, usage in mounted()), default=None),
        )
        self._waiting.append(sample)

    def waiting(self) -> list[wire.Sample]:
        """What the server has not heard of, oldest first."""
        return list(self._waiting)

    def heard(self, samples: list[wire.Sample]) -> None:
        """The server has these."""
        for one in samples:
            # Older ones may have made room for newer ones meanwhile.
            if self._waiting and self._waiting[0] is one:
                self._waiting.popleft()
