"""The part of the journal that keeps reports of what was refused, until the server has them."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec

from schema.wire import RefusalReport

MAX_KEPT = 200
"""Reports; what comes beyond is counted in memory until there is room for the count."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RefusalReport).decode


class KeptRefusals:
    """Reports in the order in which they were made. It belongs to the journal's thread.

    Args:
        db: the journal's.
        synced: a transaction that is on disk when it has been left.
    """

    def __init__(self, db: sqlite3.Connection, synced: Callable[[], AbstractContextManager[None]]) -> None:
        self._db = db
        self._synced = synced

    def keep(self, report: RefusalReport) -> bool:
        """Write a report down, synced, under a number of its own; returns whether there was room for it.

        Raises:
            JournalFullError: the disk is full.
        """
        with self._synced():
            (kept,) = self._db.execute("SELECT count(*) FROM refusals").fetchone()
            if kept >= MAX_KEPT:
                return False
            row = self._db.execute("INSERT INTO refusals (report) VALUES (?) RETURNING number", (b"",)).fetchone()
            numbered = _encode(msgspec.structs.replace(report, number=row[0]))
            self._db.execute("UPDATE refusals SET report = ? WHERE number = ?", (numbered, row[0]))
        return True

    def oldest(self) -> RefusalReport | None:
        """The report that is to be sent next."""
        row = self._db.execute("SELECT report FROM refusals ORDER BY number LIMIT 1").fetchone()
        return _decode(row[0]) if row is not None else None

    def forget(self, report: RefusalReport) -> None:
        """The server has it.

        Raises:
            JournalFullError: the disk is full.
        """
        with self._synced():
            self._db.execute("DELETE FROM refusals WHERE number = ?", (report.number,))
