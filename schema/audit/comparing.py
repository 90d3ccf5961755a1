"""Says what was done to events that do not give the leaves that were chained."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from schema.archive import Row
from schema.audit.canonical import leaf_of, moved


class Kind(StrEnum):
    """What was found."""

    ALTERED = "altered"
    MISSING = "missing"
    INSERTED = "inserted"
    REORDERED = "reordered"
    CHAIN = "chain"
    """The chain's own rows do not fit together."""
    CHECKPOINT = "checkpoint"
    """A checkpoint does not say what the chain gives, or its signature is not its own."""
    REWRITTEN = "rewritten"
    """Log and chain agree with each other, and not with a checkpoint that was kept outside."""


class Finding(msgspec.Struct, frozen=True):
    """The first thing that is not as it was recorded."""

    kind: Kind
    position: int | None
    """Of the event, or of the first of those among which it is."""
    detail: str


def first_difference(rows: Sequence[Row], entries: Sequence[tuple[int, bytes]]) -> Finding | None:
    """The first event that is not as it was chained.

    Args:
        rows: the events that are there, in the order of position.
        entries: positions and leaves, as they were chained.
    """
    at = 0
    for position, leaf in entries:
        if at == len(rows) or rows[at][0] > position:
            return _missing(rows[at:], position, leaf)
        if rows[at][0] < position:
            return _inserted(rows[at], entries)
        if leaf_of(rows[at]) != leaf:
            return _other(rows[at], entries)
        at += 1
    return _inserted(rows[at], entries) if at < len(rows) else None


def _missing(rest: Sequence[Row], position: int, leaf: bytes) -> Finding:
    for row in rest:
        if leaf_of(moved(row, position)) == leaf:
            return Finding(Kind.REORDERED, position, f"the event of position {position} stands at {row[0]}")
    return Finding(Kind.MISSING, position, f"there is no event at position {position}, and one was chained there")


def _place_of(row: Row, entries: Sequence[tuple[int, bytes]]) -> int | None:
    """Where an event was chained, if it was another place than where it is."""
    return next((position for position, leaf in entries if leaf_of(moved(row, position)) == leaf), None)


def _inserted(row: Row, entries: Sequence[tuple[int, bytes]]) -> Finding:
    if (place := _place_of(row, entries)) is not None:
        return Finding(Kind.REORDERED, row[0], f"the event of position {place} stands at {row[0]}")
    return Finding(
        Kind.INSERTED, row[0], f"the event at position {row[0]} ({row[3]}) was not there when it was chained"
    )


def _other(row: Row, entries: Sequence[tuple[int, bytes]]) -> Finding:
    if (place := _place_of(row, entries)) is not None:
        return Finding(Kind.REORDERED, row[0], f"at position {row[0]} stands the event of position {place}")
    return Finding(Kind.ALTERED, row[0], f"the event at position {row[0]} ({row[3]}) is not the one that was chained")
