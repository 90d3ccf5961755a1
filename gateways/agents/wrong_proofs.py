"""How often an address may be wrong about who it is as it connects, before it is not looked at for a while.

What is counted is a name that nobody has, and a proof that is not its agent's. Somebody who is wrong too often costs a
read and three signatures no more: beyond the bound an address is turned away by its address alone. A key is not guessed
at whatever the rate; this keeps the door free for those who wait in front of it.

Many honest agents may be behind one address. What is right is never counted, the bound is high, and whoever was let in
from an address is held to a count of its own there, so that one liar does not shut a whole office out. Others there get
in whenever the address may try again, which it may at a steady pace, however many wrong proofs came in between.

Gateways count together, in Valkey, half a second late (`gateways.rest.rates`): more of them do not make the bound
wider. While it is away each counts for itself. Who was let in from where each of them knows by itself.
"""

from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

import msgspec

from gateways.rest.errors import TooManyFailuresError
from gateways.rest.guesses import place_of
from gateways.rest.rates import AGENT_PROOFS_FAILED, PROOFS_FAILED, FailureLimit, SharedRates

MAX_KNOWN = 200_000


class Bound(msgspec.Struct, frozen=True):
    """So many at once, and then one more each so many seconds."""

    burst: int
    every_s: float


PLACE = Bound(100, 0.5)
"""Of an address."""
AGENT = Bound(100, 0.1)
"""Of an agent at an address that it came in from; generous, since it is the agent itself that would be shut out."""


class WrongProofs:
    """Counts for one gateway.

    Args:
        seconds: a monotonic clock.
        place: what an address may do.
        agent: what whoever speaks for an agent may do, where that agent was let in from.
    """

    def __init__(self, seconds: Callable[[], float], place: Bound = PLACE, agent: Bound = AGENT) -> None:
        self._places = FailureLimit(place.burst, place.every_s, seconds)
        self._agents = FailureLimit(agent.burst, agent.every_s, seconds)
        self._known: OrderedDict[tuple[UUID, str], None] = OrderedDict()

    def shared(self, url: str) -> list[SharedRates]:
        """What has gateways count together.

        Args:
            url: of Valkey.
        """
        counts = ((self._places, PROOFS_FAILED), (self._agents, AGENT_PROOFS_FAILED))
        return [SharedRates(limit, url, namespace, from_start=True) for limit, namespace in counts]

    def must_have_room(self, agent_id: UUID | None, address: str) -> None:
        """Raise TooManyFailuresError if this is not to be looked at now.

        Args:
            agent_id: who it says it is; None if that is nobody's name.
            address: where it comes from.
        """
        place = place_of(address)
        if agent_id is not None and (agent_id, place) in self._known:
            wait_s = self._agents.wait_s(_pair(agent_id, place))
        else:
            wait_s = self._places.wait_s(place)
        if wait_s > 0:
            raise TooManyFailuresError("Too many refused attempts came from this address; wait before the next.")

    def failed(self, agent_id: UUID | None, address: str) -> None:
        """It was wrong.

        Of many that were let try at once no more are counted than there was room for: else a crowd of liars would shut
        an address for as long as they are many.
        """
        place = place_of(address)
        self._places.spend(place)
        if agent_id is not None and (agent_id, place) in self._known:
            self._agents.spend(_pair(agent_id, place))

    def proved(self, agent_id: UUID, address: str) -> None:
        """It was right: from there this agent is not taken for a stranger again."""
        known = agent_id, place_of(address)
        self._known[known] = None
        self._known.move_to_end(known)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


def _pair(agent_id: UUID, place: str) -> str:
    return f"{agent_id}\n{place}"
