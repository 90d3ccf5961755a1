"""What is recorded of rollouts."""

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from domain.event import Event, Upcaster
from domain.ids import AgentId, ClientId, SiteId
from domain.rollout_terms import Guard, Joins, Limits, Order, Target, Wave


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One agent's place in the list. Where it belonged is what it was when the list was made."""

    agent_id: AgentId
    client_id: ClientId
    site_id: SiteId
    wave: int
    """From 0."""
    round: int = 1
    """Goes up with each retry."""


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that gets no command after all."""

    agent_id: AgentId
    round: int
    reason: str


def _as_it_was(body: dict[str, Any]) -> dict[str, Any]:
    """To a version that only added what may be left out."""
    return body


class RolloutTargeted(Event, frozen=True, kw_only=True):
    """A part of the list; recorded before `RolloutStarted`, in the same transaction."""

    entries: tuple[Entry, ...]


class RolloutStarted(Event, frozen=True, kw_only=True):
    """The intent for the whole."""

    schema_version: ClassVar[int] = 11
    upcasters: ClassVar[dict[int, Upcaster]] = dict.fromkeys(range(1, 11), _as_it_was)
    """Since 2 targets know kinds of machine and filters, and guards more than failures. Since 3 agents may join. Since
    4 a command may have hours, since 5 placeholders. Since 7 a target may be all that match the fleet's
    own question, since 9 by their checks. Since 10 a command may be about updates and restarts,
    since 11 some updates may be held."""

    name: str
    target: Target
    order: Order
    client_ids: tuple[ClientId, ...]
    """Of all who are targeted, sorted."""
    targeted: int
    excluded: dict[str, int] = msgspec.field(default_factory=dict)
    """By reason."""
    waves: tuple[Wave, ...] = ()
    wave_sizes: tuple[int, ...]
    """Of ``waves`` and, where they leave somebody over, of the last one."""
    limits: Limits = Limits()
    guard: Guard | None = None
    reason: str = ""
    joins: Joins | None = None


class RolloutGrown(Event, frozen=True, kw_only=True):
    """Agents that joined: they come last, with the last wave."""

    entries: tuple[Entry, ...]
    targeted: int
    """All together from now on, like those below."""
    wave_sizes: tuple[int, ...]
    client_ids: tuple[ClientId, ...]


class RolloutClosed(Event, frozen=True, kw_only=True):
    """Nobody joins any more."""

    reason: str = ""


class RolloutAdvanced(Event, frozen=True, kw_only=True):
    """The next agents of the list got their commands, in this very transaction."""

    count: int
    """How far down the list, the skipped included."""
    at: datetime
    skipped: tuple[Skip, ...] = ()


class RolloutWaveFinished(Event, frozen=True, kw_only=True):
    wave: int
    continues_at: datetime | None = None
    """When the next one begins by itself; None waits for somebody."""


class RolloutWaveReleased(Event, frozen=True, kw_only=True):
    wave: int
    reason: str = ""


class RolloutPaused(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was}

    reason: str = ""
    tripped: bool = False
    """By the guard."""
    ended: int = 0
    """As the guard saw it, like those below: after a resume it judges what comes then."""
    failed: int = 0
    timed_out: int = 0
    unanswered: int = 0


class RolloutResumed(Event, frozen=True, kw_only=True):
    reason: str = ""


class RolloutAborted(Event, frozen=True, kw_only=True):
    reason: str = ""
    tripped: bool = False


class RolloutCompleted(Event, frozen=True, kw_only=True):
    pass


class RolloutRetried(Event, frozen=True, kw_only=True):
    """These come next, once more."""

    entries: tuple[Entry, ...]
    reason: str = ""
