"""What the database holds of the audit chain, for those who ask: each question is a generator, as `schema.archived`.

A question yields a statement and its arguments, is sent the rows, and returns its answer; so the same question is asked
over an asynchronous pool and over a plain connection.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import msgspec
import psycopg

from command_bus.noting import ACTOR, note
from domain.host_acts import CheckpointCountersigned
from schema import archived
from schema.archive import Row
from schema.audit.canonical import unpack
from schema.audit.checkpoints import AuditError, BadCheckpointError, Checkpoint, verifies
from schema.audit.database import SIGNATURES, checkpoint_of
from schema.audit.extracts import Tree
from schema.audit.proofs import Proof, make_proof
from schema.reading import COLUMNS

T = TypeVar("T")
Question = tuple[LiteralString, Sequence[Any] | dict[str, Any]]
Asking = Generator[Question, list[Row], T]

_STATUS: LiteralString = """
    SELECT (SELECT coalesce(max(notification_id), 0) FROM fleetlog.events),
        p.last_position, p.head, p.chained_at, c.number, c.last_position, c.made_at, k.public_key,
        (SELECT recorded_at FROM fleetlog.events WHERE notification_id > coalesce(p.last_position, 0)
            ORDER BY notification_id LIMIT 1),
        clock_timestamp()
    FROM (SELECT 1) AS one
    LEFT JOIN (SELECT * FROM fleetlog.chain_pages ORDER BY number DESC LIMIT 1) AS p ON true
    LEFT JOIN (SELECT * FROM fleetlog.chain_checkpoints ORDER BY number DESC LIMIT 1) AS c ON true
    LEFT JOIN fleetlog.chain_signatures AS k ON k.checkpoint = c.number AND k.name = 'fleetlog'
"""
_EXPORTS: LiteralString = """
    SELECT DISTINCT ON (split_part(destination, ':', 1)) split_part(destination, ':', 1), checkpoint, exported_at
    FROM (SELECT destination, max(checkpoint) AS checkpoint, max(exported_at) AS exported_at
        FROM fleetlog.chain_exports GROUP BY destination) AS e
    ORDER BY 1, exported_at DESC
"""
_LIST: LiteralString = (
    f"SELECT c.statement, {SIGNATURES} FROM fleetlog.chain_checkpoints AS c WHERE c.number < %s"  # noqa: S608 - our own
    " ORDER BY c.number DESC LIMIT %s"
)
_ONE: LiteralString = f"SELECT c.statement, {SIGNATURES} FROM fleetlog.chain_checkpoints AS c WHERE c.number = %s"  # noqa: S608 - as above
_OVER: LiteralString = (
    f"SELECT c.statement, {SIGNATURES} FROM fleetlog.chain_checkpoints AS c WHERE c.last_position >= %s"  # noqa: S608 - as above
    " ORDER BY c.last_position LIMIT 1"
)
_ENTRIES: LiteralString = (
    "SELECT entries FROM fleetlog.chain_pages WHERE last_position > %s AND last_position <= %s ORDER BY last_position"
)
_EVENT: LiteralString = f"SELECT {COLUMNS} FROM fleetlog.events WHERE notification_id = %s"  # noqa: S608 - as above
_SIGN: LiteralString = (
    "INSERT INTO fleetlog.chain_signatures (checkpoint, public_key, signature, name) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)


class UnknownPositionError(AuditError):
    """The log has no event at that position."""

    code = "unknown_position"


class NotCheckpointedError(AuditError):
    """The event is in the log, and under no signed checkpoint yet; come again when the next one was made."""

    code = "not_checkpointed"


class UnknownCheckpointError(AuditError):
    """The fleet has no such checkpoint, or one of that number that says something else."""

    code = "unknown_checkpoint"


class Exported(msgspec.Struct, frozen=True):
    """How far one kind of destination is."""

    kind: str
    checkpoint: int
    exported_at: datetime


class ChainStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far the chain is."""

    log_position: int
    position: int
    lag: int
    """Positions that the log is ahead by."""
    head: str
    """The chain's hash."""
    chained_at: datetime | None
    waiting_since: datetime | None
    """When the first event was recorded that is not chained yet."""
    checkpoint: int
    """The last one's number; 0 if there is none."""
    checkpoint_position: int
    checkpointed_at: datetime | None
    key: str | None
    """That signed it."""
    exports: list[Exported]
    now: datetime


def chain_status() -> Asking[ChainStatus]:
    """How far the chain, its checkpoints and their exports are."""
    ((log, position, head, chained_at, number, signed, made_at, key, waiting_since, now),) = yield _STATUS, []
    exports = yield _EXPORTS, []
    return ChainStatus(
        log_position=log,
        position=position or 0,
        lag=max(0, log - (position or 0)),
        head=bytes(head or bytes(32)).hex(),
        chained_at=chained_at,
        waiting_since=waiting_since,
        checkpoint=number or 0,
        checkpoint_position=signed or 0,
        checkpointed_at=made_at,
        key=bytes(key).hex() if key is not None else None,
        exports=[Exported(*row) for row in exports],
        now=now,
    )


def list_checkpoints(before: int, limit: int) -> Asking[list[Checkpoint]]:
    """Checkpoints whose number is below one, newest first."""
    rows = yield _LIST, [before, limit]
    return [checkpoint_of(*row) for row in rows]


def one_checkpoint(number: int) -> Asking[Checkpoint | None]:
    rows = yield _ONE, [number]
    return checkpoint_of(*rows[0]) if rows else None


def event_at(position: int) -> Asking[Row]:
    """An event as it is stored, wherever it is.

    Raises:
        UnknownPositionError: there is none.
    """
    rows = yield _EVENT, [position]
    if not rows:
        rows = yield from archived.between(position - 1, position)
    if not rows:
        raise UnknownPositionError(f"The log has no event at position {position}.")
    return rows[0]


def prove(row: Row, *, with_body: bool = True) -> Asking[Proof]:
    """The proof of an event.

    Raises:
        NotCheckpointedError: it is under no checkpoint yet.
        BadCheckpointError: its checkpoint or the chain below is not what it was: `fleetlog audit verify` tells more.
    """
    position = row[0]
    found = yield _OVER, [position]
    if not found:
        raise NotCheckpointedError
    checkpoint = checkpoint_of(*found[0])
    statement = checkpoint.read()
    pages = yield _ENTRIES, [statement.first_position - 1, statement.last_position]
    entries = unpack(b"".join(bytes(page) for (page,) in pages))
    index = next((at for at, (place, _) in enumerate(entries) if place == position), None)
    if index is None:
        raise BadCheckpointError(f"The event at position {position} was not there when it was chained.")
    return make_proof(row, index, [leaf for _, leaf in entries], checkpoint, with_body=with_body)


def tree_over(position: int) -> Asking[Tree | None]:
    """The tree of the checkpoint that an event at a position is under, or would be; None: none reaches so far yet."""
    found = yield _OVER, [position]
    if not found:
        return None
    checkpoint = checkpoint_of(*found[0])
    statement = checkpoint.read()
    pages = yield _ENTRIES, [statement.first_position - 1, statement.last_position]
    return Tree(checkpoint, unpack(b"".join(bytes(page) for (page,) in pages)))


def accept(connection: psycopg.Connection[Any], checkpoint: Checkpoint, *, actor: str = ACTOR) -> int:
    """Keep the signatures that others have put under a checkpoint.

    Args:
        connection: to the database, as the application.
        checkpoint: as they gave it back.
        actor: in whose name it is on record.

    Returns:
        How many were new.

    Raises:
        UnknownCheckpointError: it is none of this fleet's.
        BadCheckpointError: a signature is not its signer's; none was kept.
    """
    statement = checkpoint.verify()
    known = answer(connection, one_checkpoint(statement.number))
    if known is None or known.statement != checkpoint.statement:
        raise UnknownCheckpointError(f"Checkpoint {statement.number}: {UnknownCheckpointError.__doc__}")
    with connection.transaction():
        new = [
            one
            for one in checkpoint.signatures
            if verifies(one.key, one.signature, checkpoint.statement)
            and connection.execute(
                _SIGN, [statement.number, bytes.fromhex(one.key), bytes.fromhex(one.signature), one.name]
            ).rowcount
        ]
        if new:
            signers, keys = tuple(one.name for one in new), tuple(one.key for one in new)
            note(connection, CheckpointCountersigned(number=statement.number, signers=signers, keys=keys), actor=actor)
    return len(new)


def answer(connection: psycopg.Connection[Any], asking: Asking[T]) -> T:
    """Ask over a connection."""
    rows: list[Row] | None = None
    while True:
        try:
            statement, arguments = next(asking) if rows is None else asking.send(rows)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        rows = connection.execute(statement, arguments).fetchall()


async def ask(
    connection: Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]], asking: Asking[T]
) -> T:
    """Ask over a pool.

    Args:
        connection: lends one.
        asking: the question; its own work (hashes, files of the archive) is done in a thread.
    """

    def go_on(rows: list[Row] | None) -> tuple[Question | None, Any]:
        try:
            return (next(asking) if rows is None else asking.send(rows)), None
        except StopIteration as end:
            return None, end.value

    question, result = await asyncio.to_thread(go_on, None)
    while question is not None:
        async with connection() as lent:
            rows = await (await lent.execute(*question)).fetchall()
        question, result = await asyncio.to_thread(go_on, rows)
    return result  # type: ignore[no-any-return]
