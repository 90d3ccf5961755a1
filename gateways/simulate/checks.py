"""What must hold, seen from the agents' side alone: each order is held against all that came before it.

No clock, no connection, no log: it knows only what agents were sent and what they did, so it cannot share a mistake
with the server that it judges. What it checks is in docs/invariants.md.
"""

from collections import Counter
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from schema import wire

KEPT = 1_000
"""Breaches kept word for word; beyond that they are only counted."""
ON_ITS_WAY = timedelta(seconds=2)
"""A gateway reads its queue, then signs: what expires in between is still sent, and the agent refuses it."""
CROSSING = timedelta(seconds=5)
"""A delivery under way and the agent's answer to a cancel request may cross."""


class Rule(StrEnum):
    """What a breach breaks."""

    ONCE = "once"
    """A command runs once per attempt, on one agent, and again only after an attempt that may be repeated."""
    ORDER = "order"
    """Commands of one lane and priority come in the order in which they were queued, and run one at a time."""
    LATE = "late"
    """Nothing is delivered after it expired, or after the agent's word that it is cancelled."""
    KEPT = "kept"
    """What was queued here reaches its agent, and what its agent said of it is what the platform says."""

    READABLE = "readable"
    """What an agent is sent is work that it knows, and what is sealed opens for it, as this command's, alone."""


class Breach(msgspec.Struct, frozen=True):
    """One thing that should not have been."""

    rule: Rule
    agent_id: UUID
    command_id: UUID
    detail: str


class OutOfOrder(msgspec.Struct, frozen=True):
    """A command that came after one that was queued later; right if it was not to be delivered before a time."""

    agent_id: UUID
    command_id: UUID
    detail: str


REPEATABLE = frozenset({"failed", "timed_out", "interrupted"})


class Checks:
    """Holds what agents meet against what must hold."""

    def __init__(self) -> None:
        self.breaches: list[Breach] = []
        self.broken: Counter[Rule] = Counter()
        self.out_of_order: list[OutOfOrder] = []
        self.outcomes: dict[UUID, str] = {}
        """Of the last attempt of each command that an agent has ended."""
        self._attempts: dict[UUID, tuple[UUID, int]] = {}
        self._last: dict[tuple[UUID, str, int], int] = {}
        self._running: dict[tuple[UUID, str], UUID] = {}
        self._run: set[tuple[UUID, int]] = set()
        self._cancelled: dict[UUID, datetime] = {}

    def breach(self, rule: Rule, agent_id: UUID, command_id: UUID, detail: str) -> None:
        self.broken[rule] += 1
        if len(self.breaches) < KEPT:
            self.breaches.append(Breach(rule, agent_id, command_id, detail))

    def sent(self, agent_id: UUID, order: wire.Order, sent_at: datetime) -> None:
        """An agent was sent an order, whatever it makes of it."""
        if order.expires_at + ON_ITS_WAY <= sent_at:
            self.breach(Rule.LATE, agent_id, order.command_id, f"expired at {order.expires_at}, sent at {sent_at}")
        cancelled_at = self._cancelled.get(order.command_id)
        if cancelled_at is not None and cancelled_at + CROSSING <= sent_at:
            self.breach(Rule.LATE, agent_id, order.command_id, f"cancelled at {cancelled_at}, sent at {sent_at}")

    def accepted(self, agent_id: UUID, order: wire.Order) -> None:
        """An agent took an attempt that it did not have."""
        command_id, attempt = order.command_id, order.attempt
        owner, before = self._attempts.get(command_id, (agent_id, 0))
        if owner != agent_id:
            self.breach(Rule.ONCE, agent_id, command_id, f"it went to {owner} before")
        elif attempt <= before:
            self.breach(Rule.ONCE, agent_id, command_id, f"attempt {attempt} came after attempt {before}")
        elif before and self.outcomes.get(command_id) not in REPEATABLE:
            ended = self.outcomes.get(command_id, "under way")
            self.breach(Rule.ONCE, agent_id, command_id, f"attempt {attempt} came while attempt {before} was {ended}")
        self._attempts[command_id] = (agent_id, max(attempt, before))
        self.outcomes.pop(command_id, None)
        if attempt == 1:  # another attempt stands where its command was queued, and others have passed it since
            self._in_order(agent_id, order)

    def _in_order(self, agent_id: UUID, order: wire.Order) -> None:
        place = (agent_id, order.lane, order.priority)
        last = self._last.get(place, 0)
        if order.position < last:
            detail = f"position {order.position} of lane {order.lane} came after {last}"
            self.out_of_order.append(OutOfOrder(agent_id, order.command_id, detail))
        self._last[place] = max(last, order.position)

    def began(self, agent_id: UUID, order: wire.Order, at: datetime) -> None:
        """An agent begins to run an attempt."""
        command_id = order.command_id
        if (command_id, order.attempt) in self._run:
            self.breach(Rule.ONCE, agent_id, command_id, f"attempt {order.attempt} ran twice")
        self._run.add((command_id, order.attempt))
        other = self._running.get((agent_id, order.lane))
        if other is not None:
            self.breach(Rule.ORDER, agent_id, command_id, f"it began while {other} ran in lane {order.lane}")
        self._running[agent_id, order.lane] = command_id
        if order.expires_at <= at:
            self.breach(Rule.LATE, agent_id, command_id, f"expired at {order.expires_at}, began at {at}")

    def ended(self, agent_id: UUID, order: wire.Order, outcome: str) -> None:
        """An agent has done with an attempt, whether it ran or not."""
        if self._running.get((agent_id, order.lane)) == order.command_id:
            del self._running[agent_id, order.lane]
        self.outcomes[order.command_id] = outcome

    def cancelled(self, command_id: UUID, at: datetime) -> None:
        """An agent gave its word that it will never run a command."""
        self._cancelled[command_id] = at

    @property
    def runs(self) -> int:
        return len(self._run)
