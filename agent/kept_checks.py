"""The part of the journal that keeps checks: the list that the server gave, how each stands, and what is to be told."""

import sqlite3
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from datetime import datetime
from uuid import UUID

import msgspec

from agent.judging import Standing
from schema.checks import CheckReport

MAX_REPORTS = 1000
"""Beyond, a check's newest report takes the place of its own before it, or of the oldest of all."""

_encode = msgspec.msgpack.Encoder().encode
_decode_report = msgspec.msgpack.Decoder(CheckReport).decode
_decode_standing = msgspec.msgpack.Decoder(Standing).decode


class KeptList(msgspec.Struct, frozen=True):
    """The list that the server gave last."""

    body: bytes
    made_at: datetime


_decode_list = msgspec.msgpack.Decoder(KeptList).decode


class KeptChecks:
    """It belongs to the journal's thread.

    Args:
        db: the journal's.
        synced: a transaction that is on disk when it has been left.
        relaxed: one that may be lost.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        synced: Callable[[], AbstractContextManager[None]],
        relaxed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._db = db
        self._synced = synced
        self._relaxed = relaxed

    def given(self) -> KeptList | None:
        """The list."""
        row = self._db.execute("SELECT list FROM check_list").fetchone()
        return _decode_list(row[0]) if row is not None else None

    def take(self, given: KeptList, check_ids: Collection[UUID]) -> None:
        """Another list counts, synced; what is not in it is forgotten, and is not told of any more.

        Raises:
            JournalFullError: nothing was written, since the disk is full.
        """
        kept = {one.bytes for one in check_ids}
        with self._synced():
            self._db.execute("INSERT OR REPLACE INTO check_list (one, list) VALUES (1, ?)", (_encode(given),))
            for table in ("check_standings", "check_reports"):
                for (check_id,) in self._db.execute(f"SELECT DISTINCT check_id FROM {table}").fetchall():  # noqa: S608 - two fixed names
                    if check_id not in kept:
                        self._db.execute(f"DELETE FROM {table} WHERE check_id = ?", (check_id,))  # noqa: S608 - as above

    def standings(self) -> dict[UUID, Standing]:
        """How each check stands."""
        rows = self._db.execute("SELECT check_id, standing FROM check_standings")
        return {UUID(bytes=check_id): _decode_standing(standing) for check_id, standing in rows}

    def stand(self, check_id: UUID, standing: Standing) -> None:
        """A measurement speaks for or against a state: not synced, for the next one says it again.

        Raises:
            JournalFullError: the disk is full.
        """
        with self._relaxed():
            self._put(check_id, standing)

    def change(self, standing: Standing, report: CheckReport) -> None:
        """A state is another: how it stands and the report of that, under a number of its own, in one, synced.

        Raises:
            JournalFullError: nothing was written, since the disk is full.
        """
        with self._synced():
            self._put(report.check_id, standing)
            (kept,) = self._db.execute("SELECT count(*) FROM check_reports").fetchone()
            if kept >= MAX_REPORTS:
                self._db.execute(
                    "DELETE FROM check_reports WHERE number = coalesce("
                    "(SELECT max(number) FROM check_reports WHERE check_id = ?),"
                    " (SELECT min(number) FROM check_reports))",
                    (report.check_id.bytes,),
                )
            (number,) = self._db.execute(
                "INSERT INTO check_reports (check_id, report) VALUES (?, ?) RETURNING number",
                (report.check_id.bytes, b""),
            ).fetchone()
            numbered = _encode(msgspec.structs.replace(report, number=number))
            self._db.execute("UPDATE check_reports SET report = ? WHERE number = ?", (numbered, number))

    def _put(self, check_id: UUID, standing: Standing) -> None:
        self._db.execute("INSERT OR REPLACE INTO check_standings VALUES (?, ?)", (check_id.bytes, _encode(standing)))

    def oldest(self) -> CheckReport | None:
        """The report that is to be sent next."""
        row = self._db.execute("SELECT report FROM check_reports ORDER BY number LIMIT 1").fetchone()
        return _decode_report(row[0]) if row is not None else None

    def begin_anew(self) -> None:
        """Within a transaction: nothing counts any more, so that each check's state is told once it is found again."""
        self._db.execute("DELETE FROM check_standings")

    def forget(self, report: CheckReport) -> None:
        """The server has it; not synced, for said again it is the same one.

        Raises:
            JournalFullError: the disk is full.
        """
        with self._relaxed():
            self._db.execute("DELETE FROM check_reports WHERE number = ?", (report.number,))
