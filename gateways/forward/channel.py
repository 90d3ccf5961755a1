"""A way to one destination, open for as long as it works."""

from collections.abc import Sequence
from typing import Protocol

from gateways.forward.envelope import Outgoing


class Channel(Protocol):
    """Takes events in order. Whatever goes wrong raises ForwardError, and then it is of no more use."""

    at_once: int
    """So many events at most in one `send`."""

    async def open(self) -> None:
        """Reach the destination."""

    async def send(self, events: Sequence[Outgoing]) -> None:
        """Hand over the next events."""

    async def settled(self) -> int | None:
        """The position up to which what was handed over is safe there; None: all of it."""

    async def close(self) -> None:
        """Leave; raises nothing."""
