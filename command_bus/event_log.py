"""The event log as the rest of Fleetlog sees it, whatever keeps it."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, LiteralString, Protocol
from uuid import UUID

import msgspec

from domain.event import Change, Metadata, Recorded
from domain.personal import SubjectKind
from schema.archive import Row

ATOMIC_EVENTS = 2_500
"""So many changes in one `append_bulk` are recorded all or none; more are recorded in several transactions."""


class EventLogError(Exception):
    """The event log could not do what was asked."""

    code = "event_log_error"


class ConflictError(EventLogError):
    """Somebody else appended to the stream first: load it again and decide again."""

    code = "stream_conflict"


class LogUnavailableError(EventLogError):
    """The event log cannot be reached; nothing was recorded."""

    code = "log_unavailable"


class OutcomeUnknownError(EventLogError):
    """The connection broke during the commit: it may or may not be recorded. Read the streams before trying again."""

    code = "outcome_unknown"


class Places(msgspec.Struct, frozen=True):
    """Parts of tenants: some whole, of others single sites."""

    whole_clients: frozenset[UUID]
    sites: frozenset[UUID]
    agents: frozenset[UUID]
    """Those that are at these sites."""

    def hold(self, stream_id: UUID, agent_id: UUID | None, client_id: UUID | None) -> bool:
        """Whether an event of one of the tenants is within."""
        return client_id in self.whole_clients or agent_id in self.agents or stream_id in self.sites


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to read. What is None does not restrict."""

    agent_id: UUID | None = None
    stream_id: UUID | None = None
    client_ids: tuple[UUID, ...] | None = None
    """Only events of these tenants; those of no tenant are then left out."""
    places: Places | None = None
    """Of the events of these tenants, only some."""
    types: tuple[str, ...] | None = None
    """Type names without version, as ``CommandQueued``."""
    actor: str | None = None
    correlation_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


ALL = Selection()


class Mark(msgspec.Struct, frozen=True):
    """That there is an event: what it is and whom it concerns, without what it says."""

    position: int
    originator_id: UUID
    topic: str
    agent_id: UUID | None
    client_id: UUID | None

    @property
    def type(self) -> str:
        """Its name without version."""
        return self.topic.partition("/")[0]


class Part(Protocol):
    """A statement with one placeholder."""

    @property
    def statement(self) -> LiteralString: ...
    @property
    def argument(self) -> Any: ...


class InlineFold(Protocol):
    """A projection that is current at commit: folded inside of the appending transaction."""

    @property
    def live_tables(self) -> Sequence[str]:
        """The tables that it writes, by their names on the application's search path."""

    def parts(self, numbered: Sequence[Recorded]) -> Sequence[Part] | None:
        """What `apply` would write, as parts of the statement that appends, so that all of it is one round trip.

        Args:
            numbered: what the transaction appends, in order; their positions count from 1, and their time is none yet.

        Returns:
            Statements that may stand in a WITH clause and that join a row named ``appended``: of its columns ``before``
            is to be added to each position, and ``recorded`` is the time. None where it has to be `apply`, afterwards.
        """

    def apply(self, cursor: Any, recorded: Sequence[Recorded]) -> None:
        """Write rows for these events.

        Args:
            cursor: a psycopg cursor inside of the appending transaction, after the events are inserted.
            recorded: what the transaction appends, in the order of position.
        """


class EventLog(Protocol):
    """Append-only. All methods are safe to call from many tasks at once."""

    async def append(self, changes: Sequence[Change], metadata: Metadata) -> list[int]:
        """Record changes, all or none, durably.

        Concurrent calls of a process share one transaction (group commit); one's conflict does not fail the others.

        Args:
            changes: one to a few hundred, of one or more streams, in order.
            metadata: the same for all of them.

        Returns:
            Their positions, in the order given. When it returns, they are on disk.

        Raises:
            ConflictError: a stream has moved on.
            LogUnavailableError: nothing was recorded.
            OutcomeUnknownError: see there.
        """

    async def append_each(self, items: Sequence[tuple[Sequence[Change], Metadata]]) -> list[list[int] | EventLogError]:
        """As many calls of `append` at once, at less cost than a task for each.

        Returns:
            What each of them came to, in the order given: its positions, or what `append` would have raised. Where one
            fails, the others are recorded all the same.
        """

    async def append_bulk(self, changes: Iterable[Change], metadata: Metadata) -> int:
        """Record many changes by COPY, in transactions of a few thousand; encoding and copying overlap.

        Up to `ATOMIC_EVENTS` changes are one transaction, like those of `append`.

        Returns:
            The position of the last.

        Raises:
            ConflictError: as above; chunks before the conflicting one stay recorded.
        """

    async def read_streams(
        self, stream_ids: Sequence[UUID], *, tolerant: bool = False, closed: bool = False
    ) -> dict[UUID, list[Recorded]]:
        """All events of some streams, oldest first; a stream without events is absent.

        Args:
            stream_ids: which.
            tolerant: as for `read`: for those who read several at once, and let none suffer for another.
            closed: leave what is personal as the log holds it: for those who look at nothing of it, which is faster.
        """

    async def read_heads(self, stream_ids: Sequence[UUID], *, tolerant: bool = False) -> dict[UUID, Recorded]:
        """The last event of each of some streams; a stream without events is absent. ``tolerant`` is as above."""

    async def read(
        self,
        selection: Selection = ALL,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1000,
        backwards: bool = False,
        tolerant: bool = False,
    ) -> list[Recorded]:
        """One page of the log.

        Args:
            selection: which events.
            after: only positions above it (when reading backwards: only positions below it, 0 meaning from the end).
            upto: only positions up to it.
            limit: at most so many.
            backwards: newest first.
            tolerant: an event that cannot be decoded comes as `Undecodable`: for readers who show, and decide nothing.

        Raises:
            UndecodableEventError: one cannot be decoded.
        """

    async def read_rows(
        self,
        selection: Selection = ALL,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1000,
        backwards: bool = False,
    ) -> list[Row]:
        """As `read`, as the events are stored: for those who hash them."""

    async def open_rows(self, rows: Sequence[Row]) -> list[Row]:
        """Rows as people may see them: what is sealed is opened, and what was erased shown as that."""

    async def withheld(self, rows: Sequence[Row]) -> frozenset[int]:
        """Which rows, by their index, hold in the clear what was erased: they are from before there was sealing."""

    async def in_clear(self, kind: SubjectKind, subject: UUID) -> int:
        """How many events hold something of an agent or a user unsealed, from before there was sealing."""

    async def names_key(self) -> bytes:
        """What the names of people are hashed with, so that nobody tells from a stream's id whose name it is of."""

    async def head(self) -> int:
        """The last position, 0 for an empty log."""

    async def wait_beyond(self, position: int, timeout_s: float) -> int:
        """Wait until the log has gone on beyond a position, or for a time.

        Returns:
            A position, no smaller than the one given, up to which everything can be read.
        """

    def follow(
        self, after: int, selection: Selection = ALL, *, page: int = 1000, tolerant: bool = False
    ) -> AsyncIterator[list[Recorded]]:
        """Pages of the log as it grows, for ever; NOTIFY is a hint, a poll each second the guarantee.

        Yields an empty page now and then when nothing comes, so that a caller can look at its own clock.
        ``tolerant`` is as for `read`.
        """

    def follow_loosely(
        self, after: int, wanted: Callable[[Mark], bool], *, page: int = 1000
    ) -> AsyncIterator[Sequence[Recorded | Mark]]:
        """As `follow`, of all events and tolerantly, for who knows by its mark that an event is of no use.

        Args:
            after: a position.
            wanted: whether an event is to be read, and not only told of.
            page: at most so many at a time.

        Yields:
            Pages of events, or of marks where none of a page is wanted and that is known without reading it.
        """

    def follow_marks(self, after: int, types: Sequence[str], *, page: int = 1000) -> AsyncIterator[list[Mark]]:
        """As `follow`, at a fraction of its cost: for those who watch the end of the log and act on that alone.

        Args:
            after: only positions above it.
            types: names without version.
            page: at most so many at once.

        Yields:
            Pages as `follow` does; an event that was archived before its turn came is passed over.
        """

    async def start(self) -> None:
        """Open connections; waits for the database with back-off."""

    async def stop(self) -> None:
        """Commit what is under way and close."""
