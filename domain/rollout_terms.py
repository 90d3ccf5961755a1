"""The terms of a rollout: whom it is for, what each gets, in which waves, how fast, and when to stop."""

import enum
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from domain.agents import MachineType, Platform
from domain.commands import DEFAULT_LANE, DEFAULT_PRIORITY, RetryPolicy, Spec
from domain.errors import InvalidValueError
from domain.facts_filter import parsed
from domain.hours import Hours
from domain.ids import AgentId, ClientId, SiteId
from domain.matching import Matching

MAX_WAVES = 50
MAX_PAUSE_S = 30 * 24 * 3600
MAX_PER_MINUTE = 1_000_000
MAX_IN_FLIGHT = 1_000_000
MAX_JOINS_S = 366 * 24 * 3600


class GuardAction(enum.StrEnum):
    PAUSE = "pause"
    ABORT = "abort"


class Selector(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Agents, by what they are. Named lists add to each other; all else narrows down."""

    everything: bool = False
    clients: tuple[ClientId, ...] = ()
    sites: tuple[SiteId, ...] = ()
    agents: tuple[AgentId, ...] = ()
    tags: tuple[str, ...] = ()
    """Those that have any of them."""
    platforms: tuple[Platform, ...] = ()
    online: bool | None = None
    machine_types: tuple[MachineType, ...] = ()
    filter: str = ""
    """Over facts: see `domain.facts_filter`."""
    matching: Matching | None = None
    """Those that the fleet's own question finds, when the list is made."""

    @property
    def names_somebody(self) -> bool:
        named = bool(self.clients or self.sites or self.agents or self.tags)
        return self.everything or named or self.matching is not None


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom a rollout is for: who is included and not excluded. In ``exclude`` any match is enough."""

    include: Selector
    exclude: Selector = Selector()

    def check(self) -> None:
        """Refuse a target that cannot be meant.

        Raises:
            InvalidValueError: nobody is named (all are only meant by those who say so).
            InvalidFilterError: a filter makes no sense.
        """
        if not self.include.names_somebody:
            raise InvalidValueError(
                "target.include: name clients, sites, agents, tags or what matches, or say everything."
            )
        if self.exclude.everything:
            raise InvalidValueError("target.exclude: excluding everything leaves nobody.")
        for selector in (self.include, self.exclude):
            if selector.filter:
                parsed(selector.filter)
            if selector.matching is not None:
                selector.matching.check()

    @property
    def by_the_log(self) -> bool:
        """Whether an agent's own events alone make it match: else nobody sees it join."""
        asked = (self.include.matching, self.exclude.matching)
        return all(matching is None or matching.by_the_log for matching in asked)


class Joins(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Agents that come to match the target later are taken in as well."""

    until: datetime
    after: int
    """The log position at which the list was made: what happened to an agent later may make it one of them."""
    clients: tuple[ClientId, ...] | None = None
    """Those that whoever asked sees: nobody of another is taken in (invariant 8). None: all."""


class Wave(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the agents, and what has to happen before the next part gets its commands.

    What the waves leave over is a last wave of its own.
    """

    percent: int | None = None
    """Of all; this or ``count``."""
    count: int | None = None
    manual: bool = False
    """The next wave waits until somebody releases it."""
    pause_s: int = 0
    """How long to wait before the next wave, once this one is finished."""
    finished_percent: int = 100
    """It counts as finished when so much of what was handed out has ended; an agent that is away may take weeks."""

    def check(self) -> None:
        """Raise InvalidValueError for an impossible wave."""
        if (self.percent is None) == (self.count is None):
            raise InvalidValueError("waves: each takes either percent or count.")
        if self.percent is not None and not 1 <= self.percent <= 100:  # noqa: PLR2004 - per cent
            raise InvalidValueError(f"waves.percent: 1 to 100, not {self.percent}.")
        if self.count is not None and self.count < 1:
            raise InvalidValueError(f"waves.count: at least 1, not {self.count}.")
        if not 0 <= self.pause_s <= MAX_PAUSE_S:
            raise InvalidValueError(f"waves.pause_s: 0 to {MAX_PAUSE_S} seconds, not {self.pause_s}.")
        if not 0 <= self.finished_percent <= 100:  # noqa: PLR2004 - per cent
            raise InvalidValueError(f"waves.finished_percent: 0 to 100, not {self.finished_percent}.")


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How fast. None does not limit."""

    in_flight: int | None = None
    """Commands that are queued and have not ended."""
    per_minute: int | None = None
    """Agents that get their command in any one minute."""

    def check(self) -> None:
        """Raise InvalidValueError for an impossible limit."""
        if self.in_flight is not None and not 1 <= self.in_flight <= MAX_IN_FLIGHT:
            raise InvalidValueError(f"limits.in_flight: 1 to {MAX_IN_FLIGHT}, not {self.in_flight}.")
        if self.per_minute is not None and not 1 <= self.per_minute <= MAX_PER_MINUTE:
            raise InvalidValueError(f"limits.per_minute: 1 to {MAX_PER_MINUTE}, not {self.per_minute}.")


class Guard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When too much goes wrong, stop by yourself. What is None is not judged."""

    max_failed_percent: int | None = None
    """Of those that ended; more than this trips it. Timed out is failed, too."""
    max_timed_out_percent: int | None = None
    """Of those that ended."""
    max_unanswered_percent: int | None = None
    """Of those that ended or did not answer (`answer_within_s`)."""
    answer_within_s: int | None = None
    """An agent does not answer if it has had its command for so long without an ending, or has been online for so long
    without taking it. One that is away, and was before it had its command, is waited for."""
    min_ended: int = 10
    """It judges nothing before so many have ended (or did not answer, where that counts)."""
    action: GuardAction = GuardAction.PAUSE

    @property
    def answer_within(self) -> timedelta | None:
        return None if self.answer_within_s is None else timedelta(seconds=self.answer_within_s)

    def check(self) -> None:
        """Raise InvalidValueError for an impossible guard."""
        limits = {
            "max_failed_percent": self.max_failed_percent,
            "max_timed_out_percent": self.max_timed_out_percent,
            "max_unanswered_percent": self.max_unanswered_percent,
        }
        if all(limit is None for limit in limits.values()):
            raise InvalidValueError(f"guard: give at least one of {', '.join(limits)}.")
        for name, limit in limits.items():
            if limit is not None and not 0 <= limit <= 100:  # noqa: PLR2004 - per cent
                raise InvalidValueError(f"guard.{name}: 0 to 100, not {limit}.")
        if (self.max_unanswered_percent is None) != (self.answer_within_s is None):
            raise InvalidValueError("guard: max_unanswered_percent and answer_within_s go together.")
        if self.answer_within_s is not None and not 1 <= self.answer_within_s <= MAX_PAUSE_S:
            raise InvalidValueError(f"guard.answer_within_s: 1 to {MAX_PAUSE_S} seconds, not {self.answer_within_s}.")
        if self.min_ended < 1:
            raise InvalidValueError(f"guard.min_ended: at least 1, not {self.min_ended}.")


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The command that each agent gets."""

    spec: Spec
    lane: str = DEFAULT_LANE
    priority: int = DEFAULT_PRIORITY
    not_before: datetime | None = None
    expires_in_s: int
    """After it is queued, or after ``not_before`` or its hours' opening if that is later."""
    retry: RetryPolicy = RetryPolicy()
    hours: Hours | None = None
    """Of each machine: it begins within these alone."""

    @property
    def needs_timezone(self) -> bool:
        """Whether a machine has to tell its time zone to get it."""
        return self.hours is not None and self.hours.timezone is None

    def hours_of(self, machine_timezone: str | None) -> Hours | None:
        """For one machine."""
        if self.hours is None or (self.needs_timezone and machine_timezone is None):
            return None
        return self.hours.of(machine_timezone or "")

    def times(self, at: datetime, hours: Hours | None) -> tuple[datetime | None, datetime]:
        """From when on a command that is queued now may begin, and when it expires."""
        not_before = self.not_before
        if hours is not None:
            earliest = max(at, not_before or at)
            opens_at = hours.opening(earliest)
            not_before = not_before if opens_at == earliest else opens_at
        return not_before, max(at, not_before or at) + timedelta(seconds=self.expires_in_s)


def sizes(total: int, waves: Sequence[Wave]) -> tuple[int, ...]:
    """How many agents each wave holds: a percentage is rounded up, and the rest is a last wave.

    A wave that those before it leave nothing to is left out.
    """
    found: list[int] = []
    left = total
    for wave in waves:
        wanted = wave.count if wave.count is not None else -(-total * (wave.percent or 0) // 100)
        size = min(left, wanted)
        if size:
            found.append(size)
            left -= size
    return (*found, left) if left else tuple(found)
