"""The chain as it grows: one page of events after the other, and checkpoints over them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, LiteralString

import msgspec
import psycopg

from schema.audit import merkle
from schema.audit.canonical import NO_HEAD, fold, leaves_of, pack, unpack
from schema.audit.checkpoints import NO_STATEMENT, Statement, encode_statement, hash_of, public_of, read_statement, sign
from schema.reading import read_page

PAGE = 4_000

_LAST: LiteralString = "SELECT number, last_position, head FROM fleetlog.chain_pages ORDER BY number DESC LIMIT 1"
_LAST_CHECKPOINT: LiteralString = "SELECT statement FROM fleetlog.chain_checkpoints ORDER BY number DESC LIMIT 1"
_OPEN: LiteralString = (
    "SELECT entries, chained_at FROM fleetlog.chain_pages WHERE last_position > %s ORDER BY last_position"
)
_ADD: LiteralString = "INSERT INTO fleetlog.chain_pages (number, last_position, entries, head) VALUES (%s, %s, %s, %s)"
_CHECKPOINT: LiteralString = """
    WITH checkpoint AS (
        INSERT INTO fleetlog.chain_checkpoints (number, last_position, statement)
        VALUES (%(number)s, %(last)s, %(text)s)
    ), signed AS (
        INSERT INTO fleetlog.chain_signatures (checkpoint, public_key, signature, name)
        VALUES (%(number)s, %(key)s, %(signature)s, %(name)s)
    )
    SELECT 1
"""

Connection = psycopg.Connection[Any]


class Interval(msgspec.Struct, frozen=True):
    """When a checkpoint is due: at so many events, or so long after the first one that none is over yet."""

    events: int = 16_384
    age: timedelta = timedelta(minutes=10)


class Chain:
    """The end of the chain, as its one writer knows it.

    Args:
        connection: to the database, as the application.
        seed: of the key that signs.
        interval: when a checkpoint is due.
        clock: now.
    """

    def __init__(self, connection: Connection, seed: bytes, interval: Interval, clock: Callable[[], datetime]) -> None:
        self._connection = connection
        self._seed = seed
        self._interval = interval
        self._clock = clock
        self._key = public_of(seed)
        self._open: list[tuple[int, bytes]] = []
        """Entries that are under no checkpoint yet."""
        self._open_since: datetime | None = None
        self.caught_up = False
        """There was nothing more to chain at the last look."""
        self.number, self.position, self.head = self._last_page()
        self.checkpoint, self.checkpointed, self._previous, self._total = self._last_checkpoint()
        for entries, chained_at in connection.execute(_OPEN, [self.checkpointed]).fetchall():
            self._open += unpack(bytes(entries))
            self._open_since = self._open_since or chained_at

    def _last_page(self) -> tuple[int, int, bytes]:
        row = self._connection.execute(_LAST).fetchone()
        return (0, 0, NO_HEAD) if row is None else (row[0], row[1], bytes(row[2]))

    def _last_checkpoint(self) -> tuple[int, int, str, int]:
        row = self._connection.execute(_LAST_CHECKPOINT).fetchone()
        if row is None:
            return 0, 0, NO_STATEMENT, 0
        said = read_statement(row[0])
        return said.number, said.last_position, hash_of(row[0]), said.total_events

    def extend(self) -> int:
        """Chain the next page of the log, if there is anything.

        Returns:
            How many events it has.
        """
        limit = min(PAGE, self._interval.events - len(self._open))
        with self._connection.cursor(binary=True) as cursor:
            rows = read_page(cursor, self.position, limit)
        self.caught_up = len(rows) < limit
        if not rows:
            return 0
        positions, leaves = [row[0] for row in rows], leaves_of(rows)
        head = fold(self.head, leaves)
        self._connection.execute(
            _ADD, [self.number + 1, positions[-1], pack(positions, leaves), head], prepare=True, binary=True
        )
        self.number, self.position, self.head = self.number + 1, positions[-1], head
        self._open += zip(positions, leaves, strict=True)
        self._open_since = self._open_since or self._clock()
        return len(rows)

    def due(self) -> bool:
        """Whether a checkpoint is due."""
        if not self._open or self._open_since is None:
            return False
        return len(self._open) >= self._interval.events or self._clock() - self._open_since >= self._interval.age

    def seal(self) -> Statement | None:
        """Put what is chained so far under a checkpoint.

        Returns:
            What it says; None: there was nothing.
        """
        if not self._open:
            return None
        statement = Statement(
            chain_head=self.head.hex(),
            events=len(self._open),
            first_position=self._open[0][0],
            key=self._key,
            last_position=self.position,
            made_at=self._clock(),
            number=self.checkpoint + 1,
            previous=self._previous,
            root=merkle.root([leaf for _, leaf in self._open]).hex(),
            total_events=self._total + len(self._open),
        )
        text = encode_statement(statement)
        signature = sign(self._seed, text)
        self._connection.execute(
            _CHECKPOINT,
            {
                "number": statement.number,
                "last": statement.last_position,
                "text": text,
                "key": bytes.fromhex(signature.key),
                "signature": bytes.fromhex(signature.signature),
                "name": signature.name,
            },
        )
        self.checkpoint, self.checkpointed = statement.number, statement.last_position
        self._previous, self._total = hash_of(text), statement.total_events
        self._open, self._open_since = [], None
        return statement
