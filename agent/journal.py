"""The agent's memory on disk: each (command, attempt) from its acceptance to the server's acknowledgement.

    (unknown) --accept--> accepted --start--> running --end--> ended --acknowledge--> finished
                              |                                ^ ^ ^                     |
                              |--end (expired, rejected) ------' | '--accept, repeat, ---'
                              '--cancel--> tombstone -----held---'              held

The way back from finished is for a server that was restored from a backup, and has lost what it had acknowledged. What
the server holds as being here and this journal never heard of goes from unknown to ended: see `held`.

What must hold, whatever is killed when (invariants 3 and 6): a transition is on disk before anybody acts on it. So
`accept` returns before "accepted" is said, `start` before the process is spawned, `end` before the result is sent, and
only the server's word makes the result go away. Those commits are synced; where losing the last commit merely repeats
something harmless, the sync is saved (`_relaxed`).

The journal knows nothing of processes or messages' meaning, does no waiting, and belongs to one thread.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from uuid import UUID

import msgspec

from agent.endings import called_off, forgotten, shortened, unheard_of
from agent.errors import JournalFullError, StateDamagedError
from agent.kept_checks import KeptChecks
from agent.kept_refusals import KeptRefusals
from agent.seal import Seal
from schema.wire import Order, ResultReport

MEMORY = timedelta(days=400)
"""How long a finished or cancelled id is remembered: longer than any command may wait (366 days)."""
MAX_OPEN = 1000
"""Entries that have not ended; beyond, the server is asked to come back later."""

RESULTS_KEPT = timedelta(days=35)
"""How long what a finished attempt came to is kept: as old may a backup be that a server is restored from."""

_VERSION = 4
_REPEATED = "repeated"
_encode = msgspec.msgpack.Encoder().encode
_decode_order = msgspec.msgpack.Decoder(Order).decode
_decode_result = msgspec.msgpack.Decoder(ResultReport).decode


class Key(msgspec.Struct, frozen=True, order=True):
    """One attempt of one command."""

    command_id: UUID
    attempt: int

    def __str__(self) -> str:
        return f"{self.command_id}-{self.attempt}"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted attempt, as far as scheduling needs to know it."""

    key: Key
    lane: str
    priority: int
    position: int
    expires_at: datetime


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was running when the agent died."""

    key: Key
    boot_id: str
    pid: int | None
    pid_started: float | None
    started_at: datetime
    lane: str
    rebooting: bool
    """It was about to restart the machine, or did."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A result that the server does not have yet."""

    key: Key
    result: ResultReport
    stdout_spool: bool
    """True: the stream is in the spool file, to be sent in chunks."""
    stderr_spool: bool


class Journal:
    """Opens or creates the journal in a state directory.

    Args:
        state_dir: where it lies.
        max_pages: bound of the database's size, in pages of 4 KiB; unbounded if None.

    Raises:
        StateDamagedError: the file is not a journal, or was written by a newer agent.
        JournalFullError: there is no room for the seal's key, which the first start makes.
    """

    def __init__(self, state_dir: Path, *, max_pages: int | None = None) -> None:
        self._seal = Seal(state_dir)
        path = state_dir / "journal.db"
        # The state directory is reachable by others (it is 0711 where scripts lie under it), so the file is private.
        path.touch(mode=0o600)
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=10, cached_statements=64
        )
        try:
            version = self._prepare(max_pages)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StateDamagedError(f"{path} cannot be opened: {error}") from error
        if version > _VERSION:
            self._db.close()
            raise StateDamagedError(f"{path} was written by a newer agent (version {version}).")
        self._ended_order = self._one("SELECT coalesce(max(ended_order), 0) FROM entries")
        self.refusals = KeptRefusals(self._db, self._synced)
        self.checks = KeptChecks(self._db, self._synced, self._relaxed)

    def _prepare(self, max_pages: int | None) -> int:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.execute("PRAGMA cache_size = -512")
        if max_pages is not None:
            self._db.execute(f"PRAGMA max_page_count = {max_pages:d}")
        version = self._one("PRAGMA user_version")
        if version == 1:
            # Whole or not at all: killed in between, the next start does it.
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("ALTER TABLE finished ADD COLUMN result BLOB")
            self._db.execute("PRAGMA user_version = 2")
            self._db.execute("COMMIT")
        if 0 < version < 4 and not self._has_rebooting():  # noqa: PLR2004 - the version that has it
            self._db.execute("ALTER TABLE entries ADD COLUMN rebooting INTEGER NOT NULL DEFAULT 0")
        if version < _VERSION:  # else there is nothing to write: an agent starts on a full disk as well
            self._db.executescript(resources.files("agent").joinpath("journal.sql").read_text())
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
        return version

    def _has_rebooting(self) -> bool:
        """Whether a start before this one was killed between that step and the next."""
        return bool(self._one("SELECT count(*) FROM pragma_table_info('entries') WHERE name = 'rebooting'"))

    def close(self) -> None:
        self._db.close()

    # -- acceptance -----------------------------------------------------------------------------------------------

    def accept(self, orders: Sequence[Order], now: datetime) -> dict[Key, str]:
        """Write orders down, all in one synced transaction, and say what each is now.

        Returns:
            ``accepted`` (on disk, now or before; also if it has run already), ``expired`` or ``cancelled``, per key.

        Raises:
            JournalFullError: nothing was written, since the disk or the journal is full.
        """
        answers: dict[Key, str] = {}
        again = []
        with self._synced():
            room = MAX_OPEN - self._one("SELECT count(*) FROM entries WHERE state <> 'ended'")
            for order in orders:
                key = Key(order.command_id, order.attempt)
                answers[key] = answer = self._answer(key, order, now)
                if answer == "new":
                    room -= 1
                    if room < 0:
                        raise JournalFullError(f"{MAX_OPEN} commands wait here already.")
                    self._insert(key, order)
                    answers[key] = "accepted"
                elif answer == "finished":
                    # Whoever hands it over does not know how it ended, although the server once said that it did.
                    again.append(key)
                    answers[key] = "accepted"
            self._reopen(again)
        return answers

    def _answer(self, key: Key, order: Order, now: datetime) -> str:
        known = self._known(key)
        if known != "unknown":
            return known
        return "expired" if order.expires_at <= now else "new"

    def knows(self, keys: Sequence[Key]) -> bool:
        """Whether it has heard of any of these attempts."""
        return any(self._known(key) != "unknown" for key in keys)

    def _known(self, key: Key) -> str:
        pair = _pair(key)
        known = "SELECT EXISTS (SELECT 1 FROM {} WHERE command_id = ? AND attempt = ?)"
        if self._one(known.format("entries"), pair):
            return "accepted"
        if self._one(known.format("finished"), pair):
            return "finished"
        if self._one("SELECT EXISTS (SELECT 1 FROM tombstones WHERE command_id = ?)", pair[:1]):
            return "cancelled"
        return "unknown"

    def _insert(self, key: Key, order: Order) -> None:
        name = str(key).encode()
        self._db.execute(
            "INSERT INTO entries (command_id, attempt, state, lane, priority, position, expires_at, sealed)"
            " VALUES (?, ?, 'accepted', ?, ?, ?, ?, ?)",
            (
                key.command_id.bytes,
                key.attempt,
                order.lane,
                order.priority,
                order.position,
                order.expires_at.timestamp(),
                self._seal.close_up(_encode(order), name),
            ),
        )

    def waiting(self) -> list[Waiting]:
        """What has been accepted and has not begun."""
        rows = self._db.execute(
            "SELECT command_id, attempt, lane, priority, position, expires_at FROM entries WHERE state = 'accepted'"
        )
        return [
            Waiting(
                key=Key(UUID(bytes=command_id), attempt),
                lane=lane,
                priority=priority,
                position=position,
                expires_at=datetime.fromtimestamp(expires_at, UTC),
            )
            for command_id, attempt, lane, priority, position, expires_at in rows
        ]

    def order(self, key: Key) -> Order | None:
        """The order as it was accepted; None if it does not wait any more.

        Raises:
            StateDamagedError: it cannot be read.
        """
        row = self._db.execute(
            "SELECT sealed FROM entries WHERE command_id = ? AND attempt = ? AND state = 'accepted'", _pair(key)
        ).fetchone()
        if row is None:
            return None
        plain = self._seal.open_up(row[0], str(key).encode())
        try:
            return _decode_order(plain)
        except msgspec.MsgspecError as error:
            raise StateDamagedError(f"An order in the journal cannot be read: {error}") from error

    # -- running --------------------------------------------------------------------------------------------------

    def start(self, key: Key, boot_id: str, now: datetime) -> bool:
        """Mark an attempt as running, synced, and forget what it was told to do.

        Returns:
            False if it does not wait any more (cancelled, or started before): it must not be run.
        """
        with self._synced():
            done = self._db.execute(
                "UPDATE entries SET state = 'running', sealed = NULL, boot_id = ?, started_at = ?"
                " WHERE command_id = ? AND attempt = ? AND state = 'accepted'",
                (boot_id, now.timestamp(), *_pair(key)),
            )
        return done.rowcount == 1

    def spawned(self, key: Key, pid: int, pid_started: float | None) -> None:
        """Note the process of a running attempt, to find what is left of it after a crash of the agent.

        Not synced: if the machine goes down with it, so does the process.
        """
        with self._relaxed():
            self._db.execute(
                "UPDATE entries SET pid = ?, pid_started = ? WHERE command_id = ? AND attempt = ?",
                (pid, pid_started, *_pair(key)),
            )

    def rebooting(self, key: Key) -> None:
        """Note that the machine is told to restart now, synced: whatever becomes of that, it is never told again."""
        with self._synced():
            self._db.execute(
                "UPDATE entries SET rebooting = 1 WHERE command_id = ? AND attempt = ? AND state = 'running'",
                _pair(key),
            )

    def leftovers(self) -> list[Leftover]:
        """What was running when the agent stopped without a word."""
        rows = self._db.execute(
            "SELECT command_id, attempt, boot_id, pid, pid_started, started_at, lane, rebooting FROM entries"
            " WHERE state = 'running'"
        )
        return [
            Leftover(
                key=Key(UUID(bytes=command_id), attempt),
                boot_id=boot_id,
                pid=pid,
                pid_started=pid_started,
                started_at=datetime.fromtimestamp(started_at, UTC),
                lane=lane,
                rebooting=bool(rebooting),
            )
            for command_id, attempt, boot_id, pid, pid_started, started_at, lane, rebooting in rows
        ]

    # -- results --------------------------------------------------------------------------------------------------

    def end(self, result: ResultReport, *, stdout_spool: bool = False, stderr_spool: bool = False) -> bool:
        """Write down what an attempt came to, synced, unless it has ended before (the first ending stands)."""
        key = Key(result.command_id, result.attempt)
        with self._synced():
            done = self._db.execute(
                "UPDATE entries SET state = 'ended', sealed = NULL, result = ?, stdout_spool = ?, stderr_spool = ?,"
                " ended_order = ? WHERE command_id = ? AND attempt = ? AND state <> 'ended'",
                (_encode(result), stdout_spool, stderr_spool, self._ended_order + 1, *_pair(key)),
            )
        self._ended_order += done.rowcount
        return done.rowcount == 1

    def ended(self) -> list[Key]:
        """Attempts whose result the server does not have, in the order in which they ended."""
        rows = self._db.execute("SELECT command_id, attempt FROM entries WHERE state = 'ended' ORDER BY ended_order")
        return [Key(UUID(bytes=command_id), attempt) for command_id, attempt in rows]

    def result(self, key: Key) -> Ended | None:
        """The result of an attempt that has ended and is not acknowledged."""
        row = self._db.execute(
            "SELECT result, stdout_spool, stderr_spool FROM entries"
            " WHERE command_id = ? AND attempt = ? AND state = 'ended'",
            _pair(key),
        ).fetchone()
        if row is None:
            return None
        return Ended(key=key, result=_decode_result(row[0]), stdout_spool=bool(row[1]), stderr_spool=bool(row[2]))

    def acknowledge(self, key: Key, now: datetime) -> None:
        """The server has the result: only the key is kept. Not synced: losing it repeats a report, no more."""
        with self._relaxed():
            row = self._db.execute(
                "DELETE FROM entries WHERE command_id = ? AND attempt = ? AND state = 'ended' RETURNING result",
                _pair(key),
            ).fetchone()
            if row is not None:
                kept = _encode(shortened(_decode_result(row[0])))
                self._db.execute(
                    "INSERT OR IGNORE INTO finished VALUES (?, ?, ?, ?)", (*_pair(key), now.timestamp(), kept)
                )

    def repeat(self, occasion: str, since: datetime, forget: Sequence[str] = ()) -> list[Key]:
        """Let results wait once more that were acknowledged at or after a moment, for a server that has lost them.

        Args:
            occasion: one that was heard of before changes nothing.
            since: the moment, by the server's clock.
            forget: names of notes on what else was acknowledged.

        Returns:
            What waits now, in the order in which it was acknowledged.
        """
        with self._synced():
            if self.notes().get(_REPEATED) == occasion:
                return []
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (_REPEATED, occasion))
            self._db.executemany("DELETE FROM notes WHERE name = ?", [(name,) for name in forget])
            self.checks.begin_anew()
            rows = self._db.execute(
                "SELECT command_id, attempt FROM finished WHERE at >= ? ORDER BY at", (since.timestamp(),)
            )
            keys = [Key(UUID(bytes=command_id), attempt) for command_id, attempt in rows.fetchall()]
            self._reopen(keys)
        return keys

    def held(self, keys: Sequence[Key], now: datetime) -> list[Key]:
        """Answer for attempts that the server takes to be here, synced: each will have an ending.

        An attempt was on this disk before the server heard of it (invariant 3). So one that is unknown here was lost
        with a part of this disk's history: the machine was set back to a snapshot, or has another journal. In that
        history it may have run, so it is not run now, nor when it comes again: it has ended as ``interrupted``.

        Args:
            keys: what the server named.
            now: the server's time.

        Returns:
            What waits to be reported now and did not before.
        """
        waiting: dict[Key, ResultReport | None] = {}
        for key in keys:
            answer = self._known(key)
            if answer in ("unknown", "cancelled"):
                waiting[key] = unheard_of(*_named(key), now) if answer == "unknown" else called_off(*_named(key), now)
            elif answer == "finished":
                waiting[key] = None
        if waiting:
            with self._synced():
                self._reopen([key for key, result in waiting.items() if result is None])
                for key, result in waiting.items():
                    if result is not None:
                        self._insert_ended(key, _encode(result))
        return list(waiting)

    def _reopen(self, keys: Sequence[Key]) -> None:
        """Within a transaction: let the results of finished attempts wait again."""
        for key in keys:
            (result,) = self._db.execute(
                "DELETE FROM finished WHERE command_id = ? AND attempt = ? RETURNING result", _pair(key)
            ).fetchone()
            self._insert_ended(key, result if result is not None else _encode(forgotten(*_named(key))))

    def _insert_ended(self, key: Key, result: bytes) -> None:
        self._ended_order += 1
        self._db.execute(
            "INSERT INTO entries (command_id, attempt, state, lane, priority, position, expires_at, result,"
            " ended_order) VALUES (?, ?, 'ended', '', 0, 0, 0, ?, ?)",
            (*_pair(key), result, self._ended_order),
        )

    # -- cancelling -----------------------------------------------------------------------------------------------

    def cancel(self, command_ids: Sequence[UUID], now: datetime) -> dict[UUID, tuple[str, int]]:
        """Cancel commands, in one synced transaction.

        Returns:
            Per id ``dropped`` (it did not begin and never will), ``running`` (the caller must end it) or ``ended``, and
            the newest attempt that has ended here, or 0.

        Raises:
            JournalFullError: nothing was written, since the disk is full.
        """
        answers: dict[UUID, tuple[str, int]] = {}
        with self._synced():
            for command_id in command_ids:
                attempts = self._db.execute(
                    "SELECT state, attempt FROM entries WHERE command_id = ? UNION ALL"
                    " SELECT 'ended', attempt FROM finished WHERE command_id = ?",
                    (command_id.bytes, command_id.bytes),
                ).fetchall()
                states = {state for state, _ in attempts}
                # The tombstone is there in every case: no later attempt of a cancelled command may begin.
                self._db.execute("INSERT OR IGNORE INTO tombstones VALUES (?, ?)", (command_id.bytes, now.timestamp()))
                self._db.execute("DELETE FROM entries WHERE command_id = ? AND state = 'accepted'", (command_id.bytes,))
                answer = (
                    "running" if "running" in states
                    else "ended" if "ended" in states and "accepted" not in states
                    else "dropped"
                )  # fmt: skip
                ended = max((attempt for state, attempt in attempts if state == "ended"), default=0)
                answers[command_id] = answer, ended
        return answers

    # -- housekeeping ---------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many entries there are in each state."""
        counted = dict.fromkeys(("accepted", "running", "ended"), 0)
        return counted | dict(self._db.execute("SELECT state, count(*) FROM entries GROUP BY state"))

    def compact(self, now: datetime) -> None:
        """Forget what is too old to come back, and renew the seal's key while nothing sealed waits.

        Raises:
            JournalFullError: there is no room for it; what was not done is done the next time.
        """
        before = (now - MEMORY).timestamp()
        with self._relaxed():
            self._db.execute(
                "UPDATE finished SET result = NULL WHERE at < ? AND result IS NOT NULL",
                ((now - RESULTS_KEPT).timestamp(),),
            )
            self._db.execute("DELETE FROM finished WHERE at < ?", (before,))
            self._db.execute("DELETE FROM tombstones WHERE at < ?", (before,))
        try:
            if not self._one("SELECT EXISTS (SELECT 1 FROM entries WHERE sealed IS NOT NULL)"):
                self._seal.renew()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            raise JournalFullError(f"The journal cannot be compacted: {error}") from error

    def note(self, name: str, value: str) -> None:
        """Keep a small fact between starts; not synced."""
        with self._relaxed():
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def notes(self) -> Mapping[str, str]:
        return dict(self._db.execute("SELECT name, value FROM notes"))

    # -- SQLite ---------------------------------------------------------------------------------------------------

    def _one(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return int(self._db.execute(sql, parameters).fetchone()[0])

    @contextmanager
    def _synced(self) -> Iterator[None]:
        """A transaction that is on disk when the block has been left without an exception."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
                raise JournalFullError(f"The journal cannot be written: {error}") from error
            raise
        except BaseException:
            self._roll_back()
            raise

    @contextmanager
    def _relaxed(self) -> Iterator[None]:
        self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._synced():
                yield
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _named(key: Key) -> tuple[UUID, int]:
    return key.command_id, key.attempt


def _pair(key: Key) -> tuple[bytes, int]:
    return key.command_id.bytes, key.attempt
