"""Log and chain as they lie in Postgres."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, LiteralString

from schema.archive import Row
from schema.audit.checkpoints import Checkpoint, Signature
from schema.audit.verifying import Page, Start
from schema.reading import END, Cursor, read_page

READ_EVENTS = 10_000
READ_PAGES = 64
SIGNATURES: LiteralString = (
    "ARRAY(SELECT ARRAY[s.name, encode(s.public_key, 'hex'), encode(s.signature, 'hex')]"
    " FROM fleetlog.chain_signatures AS s WHERE s.checkpoint = c.number ORDER BY s.signed_at, s.public_key)"
)
_START: LiteralString = (
    f"SELECT c.statement, {SIGNATURES}, p.number, p.head FROM fleetlog.chain_checkpoints AS c"  # noqa: S608 - our own
    " JOIN fleetlog.chain_pages AS p ON p.last_position = c.last_position"
    " WHERE c.last_position <= %s ORDER BY c.last_position DESC LIMIT 1"
)
_PAGES: LiteralString = (
    "SELECT number, last_position, entries, head FROM fleetlog.chain_pages WHERE number > %s ORDER BY number LIMIT %s"
)
_CHECKPOINTS: LiteralString = (
    f"SELECT c.statement, {SIGNATURES} FROM fleetlog.chain_checkpoints AS c WHERE c.number > %s ORDER BY c.number"  # noqa: S608 - as above
)
_BEYOND: LiteralString = "SELECT count(*) FROM fleetlog.events WHERE notification_id > %s"


def checkpoint_of(statement: str, signatures: Sequence[Sequence[str]]) -> Checkpoint:
    """From the columns that `SIGNATURES` stands behind."""
    return Checkpoint(statement, [Signature(*one) for one in signatures])


class DatabaseSource:
    """Reads by one cursor, whose transaction shows one moment.

    Args:
        cursor: of a transaction that is REPEATABLE READ.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._rows: list[Row] = []
        self._after = self._upto = 0
        """Between these positions, the rows are all that there are."""

    def start(self, since: int) -> tuple[Start, Checkpoint | None]:
        rows = self._ask(_START, [since])
        if not rows:
            return Start(), None
        ((statement, signatures, page, head),) = rows
        checkpoint = checkpoint_of(statement, signatures)
        said = checkpoint.read()
        return (
            Start(
                page=page,
                position=said.last_position,
                head=bytes(head),
                checkpoint=said.number,
                statement_sha256=checkpoint.sha256,
                total_events=said.total_events,
            ),
            checkpoint,
        )

    def pages(self, after: int) -> Iterator[Page]:
        while rows := self._ask(_PAGES, [after, READ_PAGES]):
            for number, last_position, entries, head in rows:
                yield Page(number, last_position, bytes(entries), bytes(head))
            after = rows[-1][0]

    def checkpoints(self, after: int) -> Sequence[Checkpoint]:
        return [checkpoint_of(*row) for row in self._ask(_CHECKPOINTS, [after])]

    def events(self, after: int, upto: int) -> list[Row]:
        """In the order that a verification goes, many pages are read at once."""
        if not self._after <= after <= self._upto:
            self._rows, self._after, self._upto = [], after, after
        self._rows = self._rows[bisect_right(self._rows, after, key=itemgetter(0)) :]
        self._after = after
        while self._upto < upto:
            more = read_page(self._cursor, self._upto, READ_EVENTS)
            self._rows += more
            self._upto = more[-1][0] if len(more) == READ_EVENTS else END
        return self._rows[: bisect_right(self._rows, upto, key=itemgetter(0))]

    def beyond(self, position: int) -> int:
        return int(self._ask(_BEYOND, [position])[0][0])

    def position_before(self, moment: datetime) -> int:
        """The last position that was recorded before a moment."""
        return int(self._ask("SELECT fleetlog.position_before(%s)", [moment])[0][0])

    def _ask(self, statement: LiteralString, arguments: Sequence[Any]) -> list[Any]:
        self._cursor.execute(statement, arguments)
        return list(self._cursor.fetchall())
