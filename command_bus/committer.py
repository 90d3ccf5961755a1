"""Commits groups of append calls, and decides what to do when one fails. Synchronous; runs in a writer's thread.

Why trying again is safe. A lost connection leaves open whether the commit happened, and the lost transaction may even
still be running on the server. Each event has one place in one stream and the table lets one row have it, so whatever
became of the first try, at most one of the tries is recorded. When the later try finds its places taken, it
compares what is there with what it meant to write: stream, version, type, body, actor, correlation and causation. All
the same means that the first try had succeeded.
"""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg_pool import PoolTimeout

from command_bus.event_log import (
    ConflictError,
    EventLogError,
    InlineFold,
    LogUnavailableError,
    OutcomeUnknownError,
    Part,
)
from command_bus.mapper import RecordedRow, recorded_as
from command_bus.recorder import Appended, Fold, LogRecorder, NotCommittedError
from command_bus.rows import copy_block
from domain.codec import TOPICS, encode
from domain.event import Change, Metadata, Recorded
from schema import personal_keys
from schema.arrays import uuids

_log = structlog.get_logger(__name__)

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0
# A server that is shutting down, starting or out of slots, or a lock that did not come in time: it will pass.
_PASSING = (psycopg.OperationalError, psycopg.InterfaceError)
_SHUTDOWN = "57P"
MAX_UNEXPLAINED = 3
NOT_YET = datetime.min.replace(tzinfo=UTC)
"""The time of events that are not recorded yet."""


class Call:
    """One append: what to record, and what came of it."""

    __slots__ = ("changes", "deadline", "erased", "keys", "metadata", "outcome", "rows", "uncertain")

    def __init__(
        self,
        changes: Sequence[Change],
        metadata: Metadata,
        deadline: float,
        rows: list[bytes],
    ) -> None:
        self.changes = changes
        self.erased: Sequence[UUID] = ()
        """Whose keys are destroyed in the same transaction."""
        self.metadata = metadata
        self.deadline = deadline
        self.rows = rows
        self.keys = [(change.originator_id, change.originator_version) for change in changes]
        self.uncertain = False
        """A try was lost during its commit, so it may be recorded already."""
        self.outcome: list[int] | Exception | None = None

    def already_there(self, taken: dict[tuple[UUID, int], RecordedRow | None]) -> list[int] | None:
        """Its positions if exactly this is recorded, else None."""
        positions = []
        meta = self.metadata
        for key, change in zip(self.keys, self.changes, strict=True):
            row = taken.get(key)
            if row is None:
                return None
            position, _, _, topic, state, _, actor, correlation_id, causation_id, _, _ = row
            ours = (
                TOPICS[type(change.event)],
                encode(change.event),
                meta.actor,
                meta.correlation_id,
                meta.causation_id,
            )
            if (topic, bytes(state), actor, correlation_id, causation_id) != ours:
                return None
            positions.append(position)
        return positions


class _Erasing(msgspec.Struct, frozen=True):
    """Destroys keys by the statement that appends: no reader sees the erasure and a key (see `Part`)."""

    argument: str
    statement: LiteralString = personal_keys.ERASE_WITH_APPEND


class Committer:
    """Records groups of calls; each call gets its outcome, and none is left without one.

    Args:
        recorder: where.
        inline: projections to fold in the same transaction.
        stopping: set when nobody wants to wait any longer for a database that is away.
    """

    def __init__(self, recorder: LogRecorder, inline: Sequence[InlineFold], stopping: threading.Event) -> None:
        self._recorder = recorder
        self._inline = tuple(inline)
        self._stopping = stopping

    def commit(self, calls: Sequence[Call], *, copy: bool = False, meanwhile: Callable[[], bool] | None = None) -> None:
        """Record calls, together if possible.

        Args:
            calls: no two of them have a place in a stream in common.
            copy: by COPY; otherwise their `rows` are composite values.
            meanwhile: with COPY, what to do while the server works.
        """
        waiting = list(calls)
        wait_s = FIRST_WAIT_S
        unexplained = 0
        while waiting:
            try:
                appended = self._record(waiting, copy=copy, meanwhile=meanwhile)
            except psycopg.errors.UniqueViolation as error:
                left = self._without_conflicting(waiting)
                # What stood in the way is gone again, or not yet committed: try again, but not for ever.
                unexplained = unexplained + 1 if len(left) == len(waiting) else 0
                waiting = left
                if unexplained > MAX_UNEXPLAINED:
                    _fail(waiting, ConflictError(str(error)))
                    return
            except _PASSING as error:
                waiting = self._with_time_left(waiting, error)
                self._stopping.wait(wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            except Exception as error:  # noqa: BLE001 - the call is told; a writer that died would leave all waiting
                self._one_by_one(waiting, error, copy=copy)
                return
            else:
                position = appended.first_position
                for call in waiting:
                    call.outcome = list(range(position, position + len(call.rows)))
                    position += len(call.rows)
                return

    def _record(self, calls: Sequence[Call], *, copy: bool, meanwhile: Callable[[], bool] | None) -> Appended:
        erased = [subject for call in calls if call.erased for subject in call.erased]
        fold = self._fold_of(calls, erased) if self._inline else None
        rows = calls[0].rows if len(calls) == 1 else [row for call in calls for row in call.rows]
        try:
            if copy:
                tables = [name for projection in self._inline for name in projection.live_tables]
                return self._recorder.copy_rows(copy_block(rows), len(rows), fold, meanwhile, tables)
            parts = self._parts_of(calls)
            if parts is not None and erased:
                parts = [*parts, _Erasing(uuids(erased))]
            return self._recorder.append_rows(rows, fold if parts is None else None, parts or ())
        except NotCommittedError as error:
            if isinstance(error.__cause__, Exception):
                raise error.__cause__ from None
            raise
        except PoolTimeout:
            raise
        except _PASSING as error:
            if error.sqlstate is None or error.sqlstate.startswith(_SHUTDOWN):
                for call in calls:
                    call.uncertain = True
            raise

    def _fold_of(self, calls: Sequence[Call], erased: Sequence[UUID]) -> Fold:
        def fold(cursor: psycopg.Cursor[Any], first: int, recorded_at: datetime) -> None:
            recorded = _recorded(calls, first, recorded_at)
            for projection in self._inline:
                projection.apply(cursor, recorded)
            if erased:
                cursor.execute(personal_keys.ERASE, [uuids(erased)])

        return fold

    def _parts_of(self, calls: Sequence[Call]) -> list[Part] | None:
        """What the inline projections write, as parts of the appending statement; None where one of them cannot say."""
        numbered = _recorded(calls, 1, NOT_YET) if self._inline else []
        parts: list[Part] = []
        for projection in self._inline:
            found = projection.parts(numbered)
            if found is None:
                return None
            parts += found
        return parts

    def _without_conflicting(self, calls: Sequence[Call]) -> list[Call]:
        """Tell those calls whose places are taken; returns the others."""
        try:
            taken = self._recorder.taken([key for call in calls for key in call.keys])
        except _PASSING:
            return list(calls)  # the next try will meet the same fault and wait for it to pass
        left = []
        for call in calls:
            met = next((key for key in call.keys if key in taken), None)
            if met is None:
                left.append(call)
                continue
            positions = call.already_there(taken) if call.uncertain else None
            conflict = f"Stream {met[0]} already has an event {met[1]}; {ConflictError.__doc__}"
            call.outcome = ConflictError(conflict) if positions is None else positions
        return left

    def _with_time_left(self, calls: Sequence[Call], error: Exception) -> list[Call]:
        """Tell those calls whose time is up; returns the others."""
        now = time.monotonic()
        left = []
        for call in calls:
            if now < call.deadline and not self._stopping.is_set():
                left.append(call)
            elif call.uncertain:
                call.outcome = OutcomeUnknownError(f"{OutcomeUnknownError.__doc__} ({error})")
            else:
                call.outcome = LogUnavailableError(f"{LogUnavailableError.__doc__} ({error})")
        _log.warning("event_log_waits", error=str(error).strip(), calls=len(left), given_up=len(calls) - len(left))
        return left

    def _one_by_one(self, calls: Sequence[Call], error: Exception, *, copy: bool) -> None:
        """One of the calls cannot be recorded, whatever the reason: it shall not take the others with it."""
        if len(calls) > 1:
            for call in calls:
                self.commit([call], copy=copy)
            return
        wrapped = EventLogError(f"The events could not be recorded: {error}")
        wrapped.__cause__ = error
        _fail(calls, wrapped)


def _recorded(calls: Sequence[Call], first: int, recorded_at: datetime) -> list[Recorded]:
    positions = itertools.count(first)
    return [
        recorded_as(change, call.metadata, next(positions), recorded_at) for call in calls for change in call.changes
    ]


def _fail(calls: Sequence[Call], error: Exception) -> None:
    for call in calls:
        call.outcome = error
