"""Verifies a folder of the archive by itself, against checkpoints that were exported with the leaves of their events.

It holds the events of what has ended and no others, so a missing one cannot be told from one that is elsewhere; that
each that is there is the one that was recorded, can.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from schema.archive import ArchiveDamagedError, Block, Manifest, Row, check_content
from schema.audit import merkle
from schema.audit.canonical import leaf_of
from schema.audit.checkpoints import BadCheckpointError, Outside
from schema.audit.comparing import Finding, Kind

CACHED = 32


class ArchiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified of a folder."""

    finding: Finding | None
    events: int
    vouched_for: int
    """Of them, those that an exported checkpoint vouches for; the others are beyond or between them."""

    @property
    def ok(self) -> bool:
        return self.finding is None


def verify_archive(folder: Path, outside: Sequence[Outside], keys: Collection[str] = ()) -> ArchiveReport:
    """Hold each event of a folder against its leaf.

    Args:
        folder: with the segments' files, or a copy of them.
        outside: exported checkpoints; those without leaves are of no use here.
        keys: public keys that may sign for Fleetlog; none: any.

    Raises:
        BadCheckpointError: leaves are not those of their checkpoint, or its key is none that is trusted.
    """
    kept = sorted((one for one in outside if one.entries is not None), key=lambda one: one.statement.first_position)
    for one in kept:
        number = one.statement.number
        if keys and one.statement.key not in keys:
            raise BadCheckpointError(f"Checkpoint {number} is signed with a key that is none that you trust.")
        if merkle.root([leaf for _, leaf in one.entries or ()]).hex() != one.statement.root:
            raise BadCheckpointError(f"The leaves beside checkpoint {number} are not those that it was made over.")
    firsts = [one.statement.first_position for one in kept]

    @lru_cache(CACHED)
    def leaves(index: int) -> dict[int, bytes]:
        return dict(kept[index].entries or ())

    events = vouched = 0
    try:
        for row in _rows(folder):
            events += 1
            index = bisect_right(firsts, row[0]) - 1
            if index < 0 or row[0] > kept[index].statement.last_position:
                continue
            leaf = leaves(index).get(row[0])
            if leaf != leaf_of(row):
                kind = Kind.INSERTED if leaf is None else Kind.ALTERED
                what = f"the event at position {row[0]} ({row[3]}) is not one that checkpoint"
                detail = f"{what} {kept[index].statement.number} vouches for"
                return ArchiveReport(finding=Finding(kind, row[0], detail), events=events, vouched_for=vouched)
            vouched += 1
    except ArchiveDamagedError as error:
        return ArchiveReport(finding=Finding(Kind.ALTERED, None, str(error)), events=events, vouched_for=vouched)
    return ArchiveReport(finding=None, events=events, vouched_for=vouched)


def _rows(folder: Path) -> Iterator[Row]:
    """All events of all segments, each segment as its own manifest has it."""
    for file in sorted(folder.glob("*.json")):
        try:
            manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
        except msgspec.DecodeError as error:
            raise ArchiveDamagedError(f"{file}: {error}") from error
        with file.with_suffix(".segment").open("rb") as content:
            for rows in check_content(manifest, partial(_piece, content)):
                yield from rows


def _piece(content: BinaryIO, block: Block) -> bytes:
    content.seek(block.start)
    return content.read(block.size)
