"""Moves what has ended out of the log's table and into the archive, as the owner of the database.

A segment's way, and what is there if the power goes at any point of it:

    pick  the events of streams that have ended, oldest first            table
    pack  them into blocks, and chain the manifest to the last one       table
    keep  the content in a file, flushed to the disk (or in the          table (and a file that nobody knows of)
          database, within the transaction below)
    read  it back from there, and compare it with what was picked        table
    move  in one transaction: segment, blocks and streams go in, the     table, or archive; never both, never neither
          events go out; as many as were picked, or nothing

One archiver at a time, by a lock that ends with its transaction. Appends go on meanwhile.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, LiteralString

import msgspec
import psycopg
import structlog

from command_bus.mapper import RECORDED_COLUMNS
from command_bus.noting import ACTOR, note
from command_bus.reader import topics_of
from domain.commands import ENDINGS, LateResultRecorded
from domain.host_acts import SegmentArchived
from domain.rollout_events import RolloutAborted, RolloutCompleted
from schema.archive import (
    NO_MANIFEST,
    ArchiveDamagedError,
    Block,
    Manifest,
    Row,
    check_content,
    encode_manifest,
    hash_of,
    make_segment,
    read_manifest,
)

SEGMENT_EVENTS = 50_000
"""What a run holds in memory, and what one transaction moves: some seconds of it."""
SEGMENT_STREAMS = SEGMENT_EVENTS // 4
LOCK_KEY = 7380948517104312210
CLOSING = (
    *(event_type.__name__ for event_type in ENDINGS),
    *(event_type.__name__ for event_type in (LateResultRecorded, RolloutCompleted, RolloutAborted)),
)
"""A stream that ends with one of these has ended. Should it go on after all (a late result, a rollout's retry), the
rest of it stays in the table, and follows when that has ended."""

_log = structlog.get_logger(__name__)

# The log's last event stays in the table: the next position is reckoned from it.
_BORDER: LiteralString = """
    SELECT least(
        fleetlog.position_before(clock_timestamp() - %s::interval),
        (SELECT coalesce(max(notification_id), 0) FROM fleetlog.events) - 1
    )
"""
_CANDIDATES: LiteralString = """
    SELECT p.notification_id, p.originator_id FROM unnest(%(topics)s::text[]) AS each (topic)
    CROSS JOIN LATERAL (
        SELECT notification_id, originator_id FROM fleetlog.events AS e
        WHERE e.topic = each.topic AND notification_id > %(after)s AND notification_id <= %(border)s
        ORDER BY notification_id LIMIT %(limit)s
    ) AS p ORDER BY p.notification_id LIMIT %(limit)s
"""
_ENDED: LiteralString = f"""
    SELECT {RECORDED_COLUMNS} FROM fleetlog.events WHERE originator_id IN (
        SELECT wanted.id FROM unnest(%(ids)s::uuid[]) AS wanted (id)
        CROSS JOIN LATERAL (
            SELECT notification_id, topic FROM fleetlog.events WHERE originator_id = wanted.id
            ORDER BY originator_version DESC LIMIT 1
        ) AS last
        WHERE last.notification_id <= %(border)s AND last.topic = ANY(%(topics)s::text[])
    )
"""  # noqa: S608 - column names of our own
_LAST: LiteralString = "SELECT number, manifest_sha256 FROM fleetlog.archive_segments ORDER BY number DESC LIMIT 1"
_ADD_SEGMENT: LiteralString = """
    INSERT INTO fleetlog.archive_segments (number, first_position, last_position, events, streams, raw_bytes,
        stored_bytes, manifest, manifest_sha256, file)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_ADD_BLOCK: LiteralString = """
    INSERT INTO fleetlog.archive_blocks (segment, block, first_position, last_position, sha256, start, size, data)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
_ADD_STREAMS: LiteralString = """
    INSERT INTO fleetlog.archive_streams (stream_id, last_version, agent_id, segment, first_position, last_position)
    SELECT stream_id, last_version, agent_id, %s, first_position, last_position
    FROM unnest(%s::uuid[], %s::bigint[], %s::uuid[], %s::bigint[], %s::bigint[])
        AS new (stream_id, last_version, agent_id, first_position, last_position)
"""
_REMOVE: LiteralString = """
    DELETE FROM fleetlog.events AS e USING fleetlog.archive_streams AS s
    WHERE s.segment = %s AND e.originator_id = s.stream_id AND e.originator_version <= s.last_version
"""
_DATA: LiteralString = "SELECT data FROM fleetlog.archive_blocks WHERE segment = %s ORDER BY block"
_SEGMENTS: LiteralString = (
    "SELECT number, manifest, encode(manifest_sha256, 'hex'), file FROM fleetlog.archive_segments ORDER BY number"
)

Connection = psycopg.Connection[Any]


class ArchiveBusyError(Exception):
    """Another run moves events into the archive just now."""

    code = "archive_busy"


class Archived(msgspec.Struct, frozen=True):
    """What a run did."""

    segments: int = 0
    events: int = 0
    streams: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0

    def and_(self, manifest: Manifest) -> "Archived":
        return Archived(
            self.segments + 1,
            self.events + manifest.events,
            self.streams + manifest.streams,
            self.raw_bytes + manifest.raw_bytes,
            self.stored_bytes + manifest.stored_bytes,
        )


def archive(
    owner_url: str,
    older_than: timedelta,
    folder: Path | None = None,
    *,
    segment_streams: int = SEGMENT_STREAMS,
    most_segments: int | None = None,
    actor: str = ACTOR,
    step: Callable[[str], None] = lambda _: None,
) -> Archived:
    """Move all streams that ended so long ago.

    Args:
        owner_url: the database as its owner; the application has no right to take anything out of the log.
        older_than: since their last event.
        folder: where segments' contents go; every process must see it under this path. None: the database.
        segment_streams: of one segment, at the most.
        most_segments: leave the rest for another run.
        actor: in whose name it is on record, segment by segment.
        step: told what was just done; for tests.

    Raises:
        ArchiveBusyError: another run is under way; nothing was done.
        ArchiveDamagedError: what was read back is not what was written; the events stay where they are.
    """
    done, after = Archived(), 0
    with psycopg.connect(owner_url, autocommit=True, application_name="fleetlog-archive") as connection:
        connection.execute("SET TimeZone TO 'UTC'")
        (border,) = _one(connection, _BORDER, [older_than])
        topics = topics_of(CLOSING)
        while most_segments is None or done.segments < most_segments:
            with connection.transaction():
                if _one(connection, "SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY]) != (True,):
                    raise ArchiveBusyError(ArchiveBusyError.__doc__)
                place = {"topics": topics, "after": after, "border": border, "limit": segment_streams}
                found = connection.execute(_CANDIDATES, place).fetchall()
                if not found:
                    return done
                after = found[-1][0]
                rows = _ended(connection, list({stream_id for _, stream_id in found}), border, topics)
                step("picked")
                if rows:
                    manifest = _move(connection, rows, folder, actor, step)
                    done = done.and_(manifest)
                    _log.info("archived", segment=manifest.segment, events=manifest.events, streams=manifest.streams)
            step("moved")
    return done


def _ended(connection: Connection, ids: Sequence[Any], border: int, topics: Sequence[str]) -> list[Row]:
    with connection.cursor(binary=True) as cursor:
        cursor.execute(_ENDED, {"ids": ids, "border": border, "topics": topics})
        return sorted(cursor.fetchall(), key=itemgetter(0))


def _move(
    connection: Connection, rows: Sequence[Row], folder: Path | None, actor: str, step: Callable[[str], None]
) -> Manifest:
    last = connection.execute(_LAST).fetchone()
    number, previous = (last[0] + 1, last[1].hex()) if last is not None else (1, NO_MANIFEST)
    manifest, parts = make_segment(number, previous, rows)
    text = encode_manifest(manifest)
    file = _write(folder, manifest, text, parts) if folder is not None else None
    step("written")
    _add(connection, manifest, text, parts, file)
    _add_streams(connection, number, rows)
    kept = itertools.chain.from_iterable(check_content(manifest, content_of(connection, number, file)))
    if list(kept) != [(*row[:4], bytes(row[4]), *row[5:]) for row in rows]:
        raise ArchiveDamagedError(f"Segment {number}, read back, is not what was written. Nothing was moved.")
    step("verified")
    removed = connection.execute(_REMOVE, [number]).rowcount
    if removed != len(rows):
        raise ArchiveDamagedError(f"{removed} events were to leave the log, and {len(rows)} are in the archive.")
    step("removed")
    # Last, since every other writer of the log waits from here to the commit.
    note(connection, _archived(manifest, text), actor=actor)
    return manifest


def _archived(manifest: Manifest, text: str) -> SegmentArchived:
    return SegmentArchived(
        segment=manifest.segment,
        first_position=manifest.first_position,
        last_position=manifest.last_position,
        events=manifest.events,
        streams=manifest.streams,
        manifest_sha256=hash_of(text),
    )


def _write(folder: Path, manifest: Manifest, text: str, parts: Sequence[bytes]) -> Path:
    """The content and its manifest as files, on disk when this returns. Names hold the hash: none replaces another."""
    folder.mkdir(parents=True, exist_ok=True)
    name = _name(manifest)
    for suffix, content in ((".segment", b"".join(parts)), (".json", text.encode())):
        beside = folder / f"{name}{suffix}.part"
        with beside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(folder / f"{name}{suffix}")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return (folder / f"{name}.segment").absolute()


def _name(manifest: Manifest) -> str:
    return f"{manifest.segment:08}-{manifest.sha256[:16]}"


def _add(connection: Connection, manifest: Manifest, text: str, parts: Sequence[bytes], file: Path | None) -> None:
    connection.execute(
        _ADD_SEGMENT,
        [
            manifest.segment,
            manifest.first_position,
            manifest.last_position,
            manifest.events,
            manifest.streams,
            manifest.raw_bytes,
            manifest.stored_bytes,
            text,
            bytes.fromhex(hash_of(text)),
            None if file is None else str(file),
        ],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            _ADD_BLOCK,
            [
                (
                    manifest.segment,
                    number,
                    block.first_position,
                    block.last_position,
                    bytes.fromhex(block.sha256),
                    block.start,
                    block.size,
                    data if file is None else None,
                )
                for number, (block, data) in enumerate(zip(manifest.blocks, parts, strict=True))
            ],
        )


def _add_streams(connection: Connection, number: int, rows: Sequence[Row]) -> None:
    ends: dict[Any, list[Any]] = {}
    for position, stream_id, version, *_, agent_id, _client_id in rows:
        known = ends.setdefault(stream_id, [version, agent_id, position, position])
        known[0], known[3] = version, position
    columns = [list(column) for column in zip(*ends.values(), strict=True)]
    connection.execute(_ADD_STREAMS, [number, list(ends), *columns])


def content_of(connection: Connection, number: int, file: Path | None) -> Callable[[Block], bytes]:
    """How to get at the blocks of a segment, one after the other."""
    if file is not None:
        return lambda block: read_piece(file, block)
    data = iter(connection.execute(_DATA, [number]).fetchall())

    def piece(block: Block) -> bytes:
        row = next(data, None)
        if row is None or row[0] is None:
            raise ArchiveDamagedError(
                f"Segment {number} lacks the block that begins at position {block.first_position}."
            )
        return bytes(row[0])

    return piece


def read_piece(file: Path, block: Block) -> bytes:
    """A block out of a segment's file.

    Raises:
        ArchiveDamagedError: it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            stream.seek(block.start)
            return stream.read(block.size)
    except OSError as error:
        raise ArchiveDamagedError(f"{file}: {error}") from error


def verify_folder(folder: Path) -> tuple[Archived, str]:
    """Read the segment files of a folder against each other, and against nothing else.

    Returns:
        What they hold, and the hash of the last manifest: whoever has noted it elsewhere can compare.

    Raises:
        ArchiveDamagedError: something is not as it was written, or a segment is missing.
    """
    manifests: dict[str, str] = {}
    followers: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.json")):
        text = file.read_text(encoding="utf-8")
        sha256 = hash_of(text)
        manifests[sha256] = text
        followers.setdefault(msgspec.json.decode(text, type=Manifest).previous, []).append(sha256)
    done, previous = Archived(), NO_MANIFEST
    while nexts := followers.get(previous):
        # A run that was cut leaves a segment that is not on record, and that nothing follows.
        sha256 = max(nexts, key=lambda one: one in followers)
        manifest = read_manifest(manifests[sha256], sha256, previous)
        content = folder / f"{_name(manifest)}.segment"
        for _ in check_content(manifest, partial(read_piece, content)):
            pass
        done, previous = done.and_(manifest), sha256
    if len(manifests) > done.segments + sum(len(nexts) - 1 for nexts in followers.values()):
        raise ArchiveDamagedError(f"{folder}: the segment after manifest {previous} is missing.")
    return done, previous


class Segment(msgspec.Struct, frozen=True):
    """A segment on record."""

    manifest: Manifest
    sha256: str
    """Of its manifest."""
    file: str | None


def segments(connection: Connection) -> Iterator[Segment]:
    """All of them, oldest first, each shown to follow the one before.

    Raises:
        ArchiveDamagedError: the chain is broken.
    """
    previous = NO_MANIFEST
    for number, text, sha256, file in connection.execute(_SEGMENTS).fetchall():
        manifest = read_manifest(text, sha256, previous)
        if manifest.segment != number:
            raise ArchiveDamagedError(f"Segment {number} has the manifest of {manifest.segment}.")
        previous = sha256
        yield Segment(manifest, sha256, file)


def verify(connection: Connection, tell: Callable[[Segment], None] = lambda _: None) -> Archived:
    """Read the whole archive against its manifests, and each stream's place against what is there.

    Args:
        connection: to the database, of any role that may read the log.
        tell: told of each segment that is as it was written.

    Raises:
        ArchiveDamagedError: something is not as it was written.
    """
    done = Archived()
    for segment in segments(connection):
        file = Path(segment.file) if segment.file is not None else None
        ends: dict[Any, int] = {}
        for rows in check_content(segment.manifest, content_of(connection, segment.manifest.segment, file)):
            ends |= {row[1]: row[2] for row in rows}
        if ends != dict(connection.execute(_PLACES, [segment.manifest.segment]).fetchall()):
            raise ArchiveDamagedError(f"Segment {segment.manifest.segment}: its streams are on record as others.")
        done = done.and_(segment.manifest)
        tell(segment)
    return done


_PLACES: LiteralString = "SELECT stream_id, last_version FROM fleetlog.archive_streams WHERE segment = %s"


def _one(connection: Connection, query: LiteralString, arguments: Sequence[Any]) -> tuple[Any, ...]:
    row = connection.execute(query, arguments).fetchone()
    if row is None:
        raise LookupError(query)
    return tuple(row)
