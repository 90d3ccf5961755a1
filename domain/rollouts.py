"""Rollouts: one intent for many agents, which becomes a command for each of them.

    running <-> paused            (by hand, or by the guard)
       |  '------> aborted        (by hand, or by the guard; what is queued is cancelled, what runs is let finish)
       '-> completed              (every command has ended; retrying the failed makes it run again)

Who is meant is resolved once, when it starts, and recorded: the list is frozen, in the order in which the agents get
their commands. An open rollout goes on to take in those that come to match for a time: each is recorded in the same
stream, once, behind those before it. `RolloutAdvanced` says how far down the list the commands are queued, and is
recorded in the same transaction as they are: so the rollout's own stream is the truth about what is left to do, and
whoever takes over from a scheduler that was killed neither queues a command twice nor misses one. That the commands'
ids are derived keeps this so even for somebody who does not look at the stream.
"""

import enum
import hashlib
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from domain.commands import CommandState, check_retry
from domain.errors import (
    EmptyRolloutError,
    InvalidValueError,
    NothingToRetryError,
    NoWaveLeftError,
    RolloutEndedError,
    RolloutNotOpenError,
    RolloutNotPausedError,
    RolloutPausedError,
)
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, CommandId, SiteId, derived_id
from domain.names import clean_name
from domain.rollout_events import (
    Entry,
    RolloutAborted,
    RolloutAdvanced,
    RolloutClosed,
    RolloutCompleted,
    RolloutGrown,
    RolloutPaused,
    RolloutResumed,
    RolloutRetried,
    RolloutStarted,
    RolloutTargeted,
    RolloutWaveFinished,
    RolloutWaveReleased,
    Skip,
)
from domain.rollout_terms import MAX_WAVES, Guard, GuardAction, sizes
from domain.scopes import Scope

CHUNK_ENTRIES = 500
"""Agents per event of the list."""
MINUTE = timedelta(minutes=1)
SMOOTH = timedelta(seconds=5)
"""So much of the rate that was not used may be made up for at once."""
FAILURES = frozenset(
    {
        CommandState.FAILED,
        CommandState.TIMED_OUT,
        CommandState.INTERRUPTED,
        CommandState.REJECTED,
        CommandState.EXPIRED,
    }
)
"""The endings that a guard counts, and that `retry` takes up again. Who cancels a command means it."""


class RolloutState(enum.StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the commands so far, those that were retried included. It may lag: numbers only ever grow."""

    ended: int = 0
    failed: int = 0
    """Timed out included."""
    timed_out: int = 0
    unanswered: int = 0
    """Agents that do not answer just now: this number alone may shrink."""

    def beyond(self, other: "Tally") -> "Tally":
        """What came after another."""
        return Tally(
            ended=self.ended - other.ended,
            failed=self.failed - other.failed,
            timed_out=self.timed_out - other.timed_out,
            unanswered=max(0, self.unanswered - other.unanswered),
        )


def command_id(rollout_id: UUID, agent_id: UUID, round_: int) -> CommandId:
    """The id of an agent's command: the same whoever queues it, and however often."""
    return CommandId(derived_id("rollout", rollout_id, agent_id, str(round_)))


def drawn(
    rollout_id: UUID, agents: Iterable[tuple[AgentId, ClientId, SiteId]]
) -> list[tuple[AgentId, ClientId, SiteId]]:
    """Shuffle agents, so that each wave is a fair sample; the same rollout shuffles in the same way."""
    return sorted(agents, key=lambda agent: hashlib.sha256(rollout_id.bytes + agent[0].bytes).digest())


class Rollout(Aggregate):
    started: RolloutStarted
    state: RolloutState = RolloutState.RUNNING

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(stream_id)
        self.entries: list[Entry] = []
        self.targeted = 0
        self.wave_sizes: tuple[int, ...] = ()
        self.client_ids: tuple[ClientId, ...] = ()
        """Of all who are targeted or, where only some clients' agents may join, of all these."""
        self.open_until: datetime | None = None
        """Agents may join; None where nobody does, or does any more."""
        self.cursor = 0
        """So many entries have their command, or were skipped."""
        self.skipped = 0
        self.retried = 0
        """Entries that retries added; all of them stand before the waves that are still to be released."""
        self.wave = 0
        """The last one released."""
        self.wave_finished = False
        self.continues_at: datetime | None = None
        self.excused = Tally()
        """What the guard has had its say on."""
        self._rounds: dict[UUID, int] = {}
        self._paced_from: datetime | None = None
        self._recent: deque[tuple[datetime, int]] = deque()

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return None, self.client_ids[0] if len(self.client_ids) == 1 else None

    @property
    def queued(self) -> int:
        """Commands that it queued so far, retries included."""
        return self.cursor - self.skipped

    @property
    def last_wave(self) -> int:
        return len(self.wave_sizes) - 1

    @property
    def border(self) -> int:
        """The list up to here may be given commands."""
        return sum(self.wave_sizes[: self.wave + 1]) + self.retried

    def lies_within(self, scope: Scope) -> bool:
        """Whether all that it is for lies within a scope."""
        if scope.everything or (self.client_ids and scope.clients.issuperset(self.client_ids)):
            return True
        if not scope.sites or not self.entries or self.open_until is not None:
            return False
        return all(scope.holds(entry.client_id, entry.site_id) for entry in self.entries)

    # -- what people ask -----------------------------------------------------------------------------------------

    def start(self, started: RolloutStarted, agents: Sequence[tuple[AgentId, ClientId, SiteId]]) -> list[Change]:
        """Freeze the list and begin.

        Args:
            started: the intent; ``targeted``, ``client_ids`` and ``wave_sizes`` are filled in here.
            agents: whom it is for.

        Raises:
            EmptyRolloutError: that is nobody.
            InvalidValueError: see its text.
        """
        check(started)
        if not agents and started.joins is None:
            raise EmptyRolloutError
        wave_sizes = sizes(len(agents), started.waves) or (0,)
        wave_of = (wave for wave, size in enumerate(wave_sizes) for _ in range(size))
        order = drawn(self.stream_id, agents)
        entries = [Entry(*agent, wave) for agent, wave in zip(order, wave_of, strict=True)]
        may_join = started.joins.clients if started.joins is not None else None
        clients = tuple(sorted({*(entry.client_id for entry in entries), *(may_join or ())}))
        sole = clients[0] if len(clients) == 1 else None
        events: list[Event] = [
            RolloutTargeted(entries=tuple(entries[i : i + CHUNK_ENTRIES]))
            for i in range(0, len(entries), CHUNK_ENTRIES)
        ]
        events.append(
            msgspec.structs.replace(
                started,
                name=clean_name(started.name, what="rollout"),
                client_ids=clients,
                targeted=len(entries),
                wave_sizes=wave_sizes,
            )
        )
        # The parts of the list come before the aggregate knows whose they are: each is marked as the whole is.
        return [msgspec.structs.replace(self.decide(event), client_id=sole) for event in events]

    def close(self, reason: str) -> Change:
        """Take in nobody any more.

        Raises:
            RolloutEndedError, RolloutNotOpenError: see their texts.
        """
        self._must_be_open()
        if self.open_until is None:
            raise RolloutNotOpenError
        return self.decide(RolloutClosed(reason=reason))

    def pause(self, reason: str) -> Change:
        """Queue no more; what is queued goes on.

        Raises:
            RolloutEndedError, RolloutPausedError: see their texts.
        """
        self._must_be_open()
        if self.state is RolloutState.PAUSED:
            raise RolloutPausedError
        return self.decide(RolloutPaused(reason=reason))

    def resume(self, reason: str) -> Change:
        """Go on.

        Raises:
            RolloutEndedError, RolloutNotPausedError: see their texts.
        """
        self._must_be_open()
        if self.state is not RolloutState.PAUSED:
            raise RolloutNotPausedError
        return self.decide(RolloutResumed(reason=reason))

    def release(self, reason: str) -> Change:
        """Begin the next wave, whatever it waits for.

        Raises:
            RolloutEndedError, NoWaveLeftError: see their texts.
        """
        self._must_be_open()
        if self.wave >= self.last_wave:
            raise NoWaveLeftError
        return self.decide(RolloutWaveReleased(wave=self.wave + 1, reason=reason))

    def abort(self, reason: str) -> Change:
        """Queue no more, and take back what is queued.

        Raises:
            RolloutEndedError: there is nothing left to stop.
        """
        self._must_be_open()
        return self.decide(RolloutAborted(reason=reason))

    def retry(self, failed: Collection[tuple[AgentId, int]], reason: str) -> list[Change]:
        """Give those that failed a new command, before anybody else is next.

        Args:
            failed: agents, and the round in which they failed.
            reason: shown in the story.

        Raises:
            RolloutEndedError: it was aborted.
            NothingToRetryError: none of them failed in its last round.
        """
        if self.state is RolloutState.ABORTED:
            raise RolloutEndedError("The rollout was aborted; start a new one.")
        again = {agent_id for agent_id, round_ in failed if self._rounds.get(agent_id) == round_}
        entries = [
            msgspec.structs.replace(entry, round=entry.round + 1)
            for entry in self.entries[: self.cursor]
            if entry.agent_id in again and self._rounds[entry.agent_id] == entry.round
        ]
        if not entries:
            raise NothingToRetryError
        # Each part goes in at the cursor: the last recorded would come first, so they are recorded from the end.
        starts = reversed(range(0, len(entries), CHUNK_ENTRIES))
        return [
            self.decide(RolloutRetried(entries=tuple(entries[i : i + CHUNK_ENTRIES]), reason=reason)) for i in starts
        ]

    def _must_be_open(self) -> None:
        if self.state in (RolloutState.COMPLETED, RolloutState.ABORTED):
            raise RolloutEndedError(f"The rollout is {self.state} already.")

    # -- what follows by itself ----------------------------------------------------------------------------------

    def grow(self, agents: Iterable[tuple[AgentId, ClientId, SiteId]]) -> list[Change]:
        """Take in those of some agents that are not in the list yet, once each, behind everybody else."""
        if self.open_until is None or self.state not in (RolloutState.RUNNING, RolloutState.PAUSED):
            return []
        new = {agent[0]: agent for agent in agents if agent[0] not in self._rounds}
        entries = [Entry(*agent, self.last_wave) for agent in new.values()]
        return [self._grown(tuple(entries[i : i + CHUNK_ENTRIES])) for i in range(0, len(entries), CHUNK_ENTRIES)]

    def _grown(self, entries: tuple[Entry, ...]) -> Change:
        *before, last = self.wave_sizes
        return self.decide(
            RolloutGrown(
                entries=entries,
                targeted=self.targeted + len(entries),
                wave_sizes=(*before, last + len(entries)),
                client_ids=tuple(sorted({*self.client_ids, *(entry.client_id for entry in entries)})),
            )
        )

    def judge(self, at: datetime, tally: Tally) -> list[Change]:
        """What time and results call for: the guard, the end of a wave, the next one, the end of all."""
        if self.state is not RolloutState.RUNNING:
            return []
        if (tripped := self._guarded(tally)) is not None:
            return [tripped]
        changes: list[Change] = []
        if self.cursor == self.border and self.wave < self.last_wave:
            changes = self._turn(at, tally)
        if self.open_until is None and self.cursor == len(self.entries) and tally.ended >= self.queued:
            changes.append(self.decide(RolloutCompleted()))
        return changes

    def _guarded(self, tally: Tally) -> Change | None:
        guard = self.started.guard
        why = _why_tripped(guard, tally.beyond(self.excused)) if guard is not None else None
        if guard is None or why is None:
            return None
        if guard.action is GuardAction.ABORT:
            return self.decide(RolloutAborted(reason=why, tripped=True))
        return self.decide(
            RolloutPaused(
                reason=why,
                tripped=True,
                ended=tally.ended,
                failed=tally.failed,
                timed_out=tally.timed_out,
                unanswered=tally.unanswered,
            )
        )

    def _turn(self, at: datetime, tally: Tally) -> list[Change]:
        """From one wave to the next."""
        changes: list[Change] = []
        wave = self.started.waves[self.wave]
        if not self.wave_finished:
            if tally.ended * 100 < wave.finished_percent * self.queued:
                return []
            continues_at = None if wave.manual else at + timedelta(seconds=wave.pause_s)
            changes.append(self.decide(RolloutWaveFinished(wave=self.wave, continues_at=continues_at)))
        if self.continues_at is not None and at >= self.continues_at:
            changes.append(self.decide(RolloutWaveReleased(wave=self.wave + 1)))
        return changes

    def room(self, at: datetime, tally: Tally) -> int:
        """How many more of the list may get their command now."""
        if self.state is not RolloutState.RUNNING:
            return 0
        room = self.border - self.cursor
        limits = self.started.limits
        if limits.in_flight is not None:
            room = min(room, limits.in_flight - (self.queued - tally.ended))
        if limits.per_minute is not None:
            room = min(room, self._paced(at, limits.per_minute))
        return max(0, room)

    def _paced(self, at: datetime, per_minute: int) -> int:
        """Evenly over the minute, and never more than so many in any one."""
        spent = sum(count for when, count in self._recent if when > at - MINUTE)
        return min(per_minute - spent, int((at - self._credit_from(at, per_minute)) * per_minute / MINUTE))

    def _credit_from(self, at: datetime, per_minute: int) -> datetime:
        """The time since then was not used yet; what is longer ago than `SMOOTH` is lost."""
        # A little more than the share of one agent, so that rounding never keeps the only one back.
        earliest = at - max(SMOOTH, MINUTE / per_minute + timedelta(milliseconds=1))
        return earliest if self._paced_from is None else max(earliest, self._paced_from)

    def next_entries(self, count: int) -> list[Entry]:
        return self.entries[self.cursor : self.cursor + count]

    def advance(self, count: int, skipped: Sequence[Skip], at: datetime) -> Change:
        """The next ``count`` of the list are served; record it together with their commands."""
        if not 0 < count <= self.border - self.cursor or self.state is not RolloutState.RUNNING:
            raise InvalidValueError(f"A rollout that is {self.state} cannot go {count} further.")
        return self.decide(RolloutAdvanced(count=count, at=at, skipped=tuple(skipped)))

    # -- state ---------------------------------------------------------------------------------------------------

    def when(self, event: Event) -> None:  # noqa: C901, PLR0912 - a table of cases
        match event:
            case RolloutTargeted():
                self.entries.extend(event.entries)
                self._rounds.update((entry.agent_id, entry.round) for entry in event.entries)
            case RolloutStarted():
                self.started = event
                self._is(event)
                self.open_until = event.joins.until if event.joins is not None else None
            case RolloutGrown():
                self.entries.extend(event.entries)
                self._rounds.update((entry.agent_id, entry.round) for entry in event.entries)
                self._is(event)
            case RolloutClosed():
                self.open_until = None
            case RolloutAdvanced():
                self._advanced(event)
            case RolloutWaveFinished():
                self.wave_finished, self.continues_at = True, event.continues_at
            case RolloutWaveReleased():
                self.wave, self.wave_finished, self.continues_at = event.wave, False, None
            case RolloutPaused():
                self.state = RolloutState.PAUSED
                if event.tripped:
                    self.excused = Tally(
                        ended=event.ended,
                        failed=event.failed,
                        timed_out=event.timed_out,
                        unanswered=event.unanswered,
                    )
            case RolloutResumed():
                self.state = RolloutState.RUNNING
            case RolloutAborted():
                self.state = RolloutState.ABORTED
            case RolloutCompleted():
                self.state = RolloutState.COMPLETED
            case RolloutRetried():
                self.entries[self.cursor : self.cursor] = event.entries
                self._rounds.update((entry.agent_id, entry.round) for entry in event.entries)
                self.retried += len(event.entries)
                if self.state is RolloutState.COMPLETED:
                    self.state = RolloutState.RUNNING
            case _:
                super().when(event)

    def _is(self, event: RolloutStarted | RolloutGrown) -> None:
        self.targeted, self.wave_sizes, self.client_ids = event.targeted, event.wave_sizes, event.client_ids

    def _advanced(self, event: RolloutAdvanced) -> None:
        self.cursor += event.count
        self.skipped += len(event.skipped)
        per_minute = self.started.limits.per_minute
        if per_minute is not None:
            self._paced_from = self._credit_from(event.at, per_minute) + event.count * MINUTE / per_minute
            self._recent.append((event.at, event.count))
            while self._recent[0][0] <= event.at - MINUTE:
                self._recent.popleft()


def _why_tripped(guard: Guard, tally: Tally) -> str | None:
    """Which limit of a guard is exceeded, in words."""
    asked = tally.ended + tally.unanswered
    judged = (
        (guard.max_failed_percent, tally.failed, tally.ended, "failed"),
        (guard.max_timed_out_percent, tally.timed_out, tally.ended, "timed out"),
        (guard.max_unanswered_percent, tally.unanswered, asked, f"did not answer within {guard.answer_within_s} s"),
    )
    for limit, count, of, what in judged:
        if limit is not None and of >= guard.min_ended and count * 100 > limit * of:
            return f"{count} of {of} {what}: more than {limit} %"
    return None


def check(started: RolloutStarted) -> None:
    """Raise InvalidValueError where a rollout asks for what cannot be."""
    started.target.check()
    check_retry(started.order.spec, started.order.retry)
    if started.order.hours is not None:
        started.order.hours.check()
    if len(started.waves) > MAX_WAVES:
        raise InvalidValueError(f"waves: at most {MAX_WAVES}, not {len(started.waves)}.")
    for wave in started.waves:
        wave.check()
    started.limits.check()
    if started.guard is not None:
        started.guard.check()
