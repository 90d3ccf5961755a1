"""The event log in Postgres."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import tuple_row

from command_bus.committer import FIRST_WAIT_S, LONGEST_WAIT_S, Call, Committer
from command_bus.event_log import ALL, EventLogError, InlineFold, LogUnavailableError, Mark, Selection
from command_bus.group_commit import NOBODY, GroupCommit
from command_bus.mapper import RecordedRow, to_recorded
from command_bus.marks import marks_of
from command_bus.overlap import Packer
from command_bus.personal import PersonalData
from command_bus.postgres import BY_INDEX, AsyncPool, app_conninfo, open_pool
from command_bus.reader import HEAD, READ_HEADS, READ_MARKS, READ_STREAMS, matching, page_query
from command_bus.recorder import LogDatastore, LogRecorder
from command_bus.tail import Tail
from domain.codec import decode, decode_or_keep
from domain.event import Change, Metadata, Recorded
from domain.personal import SubjectKind
from domain.sealed import erased_by, to_seal
from schema import archived
from schema.archive import ArchiveDamagedError, Row
from schema.archived import Reading
from schema.arrays import uuids

T = TypeVar("T")
P = TypeVar("P", bound=Recorded | Mark)
_log = structlog.get_logger(__name__)

CHUNK_EVENTS = 3_000
"""Of a bulk append. Another writer waits for one chunk at most, tens of milliseconds; smaller ones cost throughput."""
READERS = 8
BULK_WRITERS = 2
IDLE_PAGE_S = 1.0


class PostgresEventLog:
    """An `EventLog` in Postgres.

    Args:
        url: the database; its schema must be migrated.
        inline: projections to fold inside of each appending transaction.
        name: in the names of its connections.
        timeout_s: how long a call waits for a database that is away before it raises `LogUnavailableError`.
    """

    def __init__(
        self, url: str, *, inline: Sequence[InlineFold] = (), name: str = "log", timeout_s: float = 30.0
    ) -> None:
        self._url = url
        self._name = f"fleetlog-{name}"
        self._timeout_s = timeout_s
        self._inline = tuple(inline)
        self._stopping = threading.Event()
        self._pool: AsyncPool | None = None
        self._datastore: LogDatastore | None = None
        self._groups: GroupCommit | None = None
        self._committer: Committer | None = None
        self._tail: Tail | None = None
        self._personal = PersonalData(self._fetch)
        self._bulk = ThreadPoolExecutor(BULK_WRITERS, thread_name_prefix="fleetlog-bulk")

    async def start(self) -> None:
        """Open connections; waits for the database with back-off."""
        await self._wait_for_database()
        self._pool = await open_pool(
            self._url, min_size=1, max_size=READERS, name=f"{self._name}-read", settings=BY_INDEX
        )
        self._datastore = LogDatastore(
            self._url,
            name=f"{self._name}-append",
            pool_size=1 + BULK_WRITERS,
            connect_timeout_s=min(5.0, max(self._timeout_s, 0.5)),
        )
        self._committer = Committer(LogRecorder(self._datastore), self._inline, self._stopping)
        self._groups = GroupCommit(self._committer, timeout_s=self._timeout_s)
        self._groups.start()
        self._tail = Tail(self._url, self.head, name=f"{self._name}-listen")

    async def stop(self) -> None:
        """Commit what is under way and close."""
        self._stopping.set()
        if self._tail is not None:
            await self._tail.stop()
        if self._groups is not None:
            await self._groups.stop()
        await asyncio.to_thread(self._bulk.shutdown)
        if self._pool is not None:
            await self._pool.close()
        if self._datastore is not None:
            await asyncio.to_thread(self._datastore.close)

    async def _wait_for_database(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                conninfo = app_conninfo(self._url, name=self._name)
                async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as conn:
                    await conn.execute(HEAD)
                    return
            except psycopg.Error as error:
                # Also a missing table or role: it is there as soon as the migrations have run.
                _log.warning("event_log_waits_for_database", error=str(error).strip())
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def append(self, changes: Sequence[Change], metadata: Metadata) -> list[int]:
        """See `EventLog.append`."""
        if not changes:
            return []
        erased: Sequence[UUID] = ()
        if to_seal(changes):
            changes, erased = await self._personal.sealed(changes), erased_by(changes)
        positions = await _started(self._groups).append(changes, metadata, erased)
        _started(self._tail).reached(positions[-1], marks_of(changes, positions))
        return positions

    async def append_each(self, items: Sequence[tuple[Sequence[Change], Metadata]]) -> list[list[int] | EventLogError]:
        """See `EventLog.append_each`."""
        if not items:
            return []
        erased = NOBODY
        if any(to_seal(asked) for asked, _ in items):
            items, erased = await self._personal.sealed_each(items)
        outcomes = await _started(self._groups).append_each(items, erased)
        changes: list[Change] = []
        positions: list[int] = []
        for (asked, _), outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, list):
                changes += asked
                positions += outcome
        if positions:
            _started(self._tail).reached(max(positions), marks_of(changes, positions))
        return outcomes

    async def append_bulk(self, changes: Iterable[Change], metadata: Metadata) -> int:
        """See `EventLog.append_bulk`. The changes are drawn in a thread, while the chunk before them is copied.

        Returns:
            The position of the last; the head if there were none.
        """
        committer = _started(self._committer)
        loop = asyncio.get_running_loop()
        drawn = self._personal.sealing(changes, loop)
        last = await loop.run_in_executor(self._bulk, self._append_chunks, committer, drawn, metadata)
        if last is None:
            return await self.head()
        _started(self._tail).reached(last)
        return last

    def _append_chunks(self, committer: Committer, changes: Iterator[Change], metadata: Metadata) -> int | None:
        """Commit chunk after chunk, each while the next is packed; runs in a thread."""
        packer = Packer(changes, metadata, CHUNK_EVENTS)
        last: int | None = None
        while True:
            drawn, rows = packer.finish()
            if not drawn:
                return last
            call = Call(drawn, metadata, time.monotonic() + self._timeout_s, rows)
            committer.commit([call], copy=True, meanwhile=packer.step)
            if isinstance(call.outcome, Exception):
                raise call.outcome
            if call.outcome is not None:
                last = call.outcome[-1]

    async def read_streams(
        self, stream_ids: Sequence[UUID], *, tolerant: bool = False, closed: bool = False
    ) -> dict[UUID, list[Recorded]]:
        """See `EventLog.read_streams`."""
        if not stream_ids:
            return {}
        read = decode_or_keep if tolerant else decode
        found: dict[UUID, list[Recorded]] = {}
        rows = await self._rows_of_streams(stream_ids)
        for row in rows if closed else await self._personal.opened(rows):
            found.setdefault(row[1], []).append(to_recorded(cast("RecordedRow", row), read))
        return found

    async def read_heads(self, stream_ids: Sequence[UUID], *, tolerant: bool = False) -> dict[UUID, Recorded]:
        """See `EventLog.read_heads`."""
        if not stream_ids:
            return {}
        ids = list(dict.fromkeys(stream_ids))
        rows, marks = archived.split(await self._fetch(archived.with_marks_of_streams(READ_HEADS), {"ids": uuids(ids)}))
        heads = {row[1]: row for row in rows}
        # What was archived of a stream lies before what was not.
        if gone := list({mark[1] for mark in marks}.difference(heads)):
            heads |= {row[1]: row for row in await self._archived(archived.streams(gone))}
        read = decode_or_keep if tolerant else decode
        opened = await self._personal.opened(list(heads.values()))
        return {row[1]: to_recorded(cast("RecordedRow", row), read) for row in opened}

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
        """See `EventLog.read`."""
        rows = await self.read_rows(selection, after=after, upto=upto, limit=limit, backwards=backwards)
        rows = await self._personal.opened(rows)
        read = decode_or_keep if tolerant else decode
        return [to_recorded(cast("RecordedRow", row), read) for row in rows]

    async def read_rows(
        self,
        selection: Selection = ALL,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1000,
        backwards: bool = False,
    ) -> list[Row]:
        """See `EventLog.read_rows`."""
        sql, values = page_query(selection, after=after, upto=upto, limit=limit, backwards=backwards)
        values |= {"archived_after": 0 if backwards else after}
        rows, marks = archived.split(await self._fetch(archived.with_mark(sql), values))
        if marks:
            low, high = _asked(rows, after, upto, limit, backwards=backwards)
            if low <= min(high, marks[0][2]):
                old = await self._archived_page(selection, low, high, limit, backwards=backwards)
                rows = archived.merged(rows, old, backwards=backwards)[:limit]
        return rows

    async def open_rows(self, rows: Sequence[Row]) -> list[Row]:
        """See `EventLog.open_rows`."""
        return await self._personal.opened(list(rows))

    async def withheld(self, rows: Sequence[Row]) -> frozenset[int]:
        """See `EventLog.withheld`."""
        return await self._personal.withheld(rows)

    async def in_clear(self, kind: SubjectKind, subject: UUID) -> int:
        """See `EventLog.in_clear`."""
        return await self._personal.in_clear(kind, subject)

    async def names_key(self) -> bytes:
        """See `EventLog.names_key`."""
        return await self._personal.names_key()

    async def head(self) -> int:
        """See `EventLog.head`."""
        return cast("int", (await self._fetch(HEAD, {}))[0][0])

    async def wait_beyond(self, position: int, timeout_s: float) -> int:
        """See `EventLog.wait_beyond`."""
        tail = _started(self._tail)
        await tail.wait_beyond(position, timeout_s)
        return max(position, tail.head)

    def follow(
        self, after: int, selection: Selection = ALL, *, page: int = 1000, tolerant: bool = False
    ) -> AsyncIterator[list[Recorded]]:
        """See `EventLog.follow`."""

        def read(low: int, high: int) -> Awaitable[list[Recorded]]:
            return self.read(selection, after=low, upto=high, limit=page, tolerant=tolerant)

        return self._follow(after, page, read)

    def follow_marks(self, after: int, types: Sequence[str], *, page: int = 1000) -> AsyncIterator[list[Mark]]:
        """See `EventLog.follow_marks`."""

        async def read(low: int, high: int) -> list[Mark]:
            known = _started(self._tail).between(low, high)
            if known is not None:
                return [mark for mark in known if mark.type in types][:page]
            values = {"after": low, "upto": high, "types": list(types), "limit": page}
            return [Mark(*row) for row in await self._fetch(READ_MARKS, values)]

        return self._follow(after, page, read)

    def follow_loosely(
        self, after: int, wanted: Callable[[Mark], bool], *, page: int = 1000
    ) -> AsyncIterator[Sequence[Recorded | Mark]]:
        """See `EventLog.follow_loosely`."""

        async def read(low: int, high: int) -> list[Recorded] | list[Mark]:
            known = _started(self._tail).between(low, high)
            if known is not None and len(known) <= page and not any(map(wanted, known)):
                return known
            return await self.read(after=low, upto=high, limit=page, tolerant=True)

        return self._follow(after, page, read)

    async def _follow(
        self, after: int, page: int, read: Callable[[int, int], Awaitable[Sequence[P]]]
    ) -> AsyncIterator[list[P]]:
        """Read whatever comes after a position, a page at a time, each up to a head that was seen.

        Whatever is recorded up to such a head is visible, since positions become visible in their order
        (0001_event_log.sql). So a page that ends below the head it was read up to is the whole of it, and the reader
        may go on from that head.
        """
        tail = _started(self._tail)
        while True:
            if not await tail.wait_beyond(after, IDLE_PAGE_S):
                yield []
                continue
            head = tail.head
            try:
                found = await read(after, head)
            except LogUnavailableError:
                yield []
                continue
            after = found[-1].position if len(found) == page else head
            if found:
                yield list(found)

    async def _rows_of_streams(self, stream_ids: Sequence[UUID]) -> list[Row]:
        asked = {"ids": uuids(stream_ids)}
        rows, marks = archived.split(await self._fetch(archived.with_marks_of_streams(READ_STREAMS), asked))
        if not marks:
            return rows
        return archived.merged(rows, await self._archived(archived.streams(list({mark[1] for mark in marks}))))

    async def _archived_page(
        self, selection: Selection, low: int, high: int, limit: int, *, backwards: bool
    ) -> list[Row]:
        wanted = matching(selection)
        if selection.stream_id is None:
            agent_id = selection.agent_id
            return await self._archived(
                archived.page(wanted, low=low, high=high, limit=limit, backwards=backwards, agent_id=agent_id)
            )
        rows = await self._archived(archived.streams([selection.stream_id]))
        found = [row for row in rows if low <= row[0] <= high and wanted(row)]
        return (found[::-1] if backwards else found)[:limit]

    async def _archived(self, reading: Reading) -> list[Row]:
        """Read from the archive; unpacking it is work for a thread."""
        answer: list[Row] | None = None
        while True:
            try:
                question, rows = await asyncio.to_thread(archived.answer, reading, answer)
            except ArchiveDamagedError as error:
                raise EventLogError(f"The archive cannot be read: {error}") from error
            if question is None:
                return rows
            answer = await self._fetch(*question)

    async def _fetch(self, sql: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a read; a lost connection is tried again, since reading twice is harmless."""
        pool = _started(self._pool)
        deadline = time.monotonic() + self._timeout_s
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with pool.connection(timeout=max(deadline - time.monotonic(), 0.1)) as conn:
                    cursor = conn.cursor(binary=True, row_factory=tuple_row)
                    await cursor.execute(sql.encode(), values)
                    return await cursor.fetchall()
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if time.monotonic() + wait_s >= deadline or self._stopping.is_set():
                    raise LogUnavailableError(f"The event log cannot be read: {str(error).strip()}") from error
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)


def _asked(rows: Sequence[Row], after: int, upto: int | None, limit: int, *, backwards: bool) -> tuple[int, int]:
    """The positions that a page covers, now that the table's part of it is known: a full one ends with its last."""
    low, high = (1, after - 1 if after else archived.END) if backwards else (after + 1, archived.END)
    if upto is not None:
        high = min(high, upto)
    if len(rows) == limit and rows:
        return (rows[-1][0], high) if backwards else (low, rows[-1][0])
    return low, high


def _started(part: T | None) -> T:
    if part is None:
        raise LogUnavailableError("The event log is not started.")
    return part
