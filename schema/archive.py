"""The archive's format: events packed into blocks, blocks into segments, and each segment chained to the one before.

A block is the MessagePack of `Packed`, column by column, compressed by zlib: columns of alike values shrink best, and
an id or a name that comes again is a number. A segment's content is its blocks, one after the other. Its manifest,
JSON, holds the hash of the content and of each block, and the hash of the manifest before: so whoever knows the last
manifest's hash can tell whether any byte of the archive is another than it was.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec

FORMAT = 1
BLOCK_EVENTS = 1_000
LEVEL = 6
NO_MANIFEST = "0" * 64
"""What the first manifest names as the one before it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ID_BYTES = 16
T = TypeVar("T")

Row = tuple[Any, ...]
"""Position, stream, version, topic, body, time, actor, correlation, causation, agent, client: as the log is read."""


class ArchiveDamagedError(Exception):
    """A part of the archive is not what was written."""

    code = "archive_damaged"


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """Events of one block, in the order of position. Ids and names are numbers, counted from 1; 0 is none."""

    positions: list[int]
    ids: bytes
    """16 bytes each."""
    names: list[str]
    streams: list[int]
    versions: list[int]
    topics: list[int]
    bodies: list[bytes]
    times_us: list[int]
    """Since 1970, UTC."""
    actors: list[int]
    correlations: list[int]
    causations: list[int]
    agents: list[int]
    clients: list[int]


class Block(msgspec.Struct, frozen=True):
    """One block, as the manifest tells of it."""

    first_position: int
    last_position: int
    events: int
    start: int
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment is."""

    format: int = FORMAT
    segment: int
    previous: str
    """SHA-256 of the manifest before."""
    events: int
    streams: int
    raw_bytes: int
    sha256: str
    """Of the content."""
    blocks: list[Block]

    @property
    def first_position(self) -> int:
        return self.blocks[0].first_position

    @property
    def last_position(self) -> int:
        return self.blocks[-1].last_position

    @property
    def stored_bytes(self) -> int:
        return self.blocks[-1].start + self.blocks[-1].size


class _Numbers:
    """Numbers things in the order in which they are first met."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def __call__(self, thing: object) -> int:
        return 0 if thing is None else self.known.setdefault(thing, len(self.known) + 1)


def pack(rows: Sequence[Row]) -> bytes:
    """One block's bytes."""
    ids, names = _Numbers(), _Numbers()
    columns = list(zip(*rows, strict=True))
    positions, streams, versions, topics, bodies, times, actors, correlations, causations, agents, clients = columns
    of_ids = [[ids(one) for one in column] for column in (streams, correlations, causations, agents, clients)]
    of_names = [[names(one) for one in column] for column in (topics, actors)]
    packed = Packed(
        positions=list(positions),
        ids=b"".join(one.bytes for one in ids.known),
        names=list(names.known),
        streams=of_ids[0],
        versions=list(versions),
        topics=of_names[0],
        bodies=[bytes(body) for body in bodies],
        times_us=[(at - _EPOCH) // _MICROSECOND for at in times],
        actors=of_names[1],
        correlations=of_ids[1],
        causations=of_ids[2],
        agents=of_ids[3],
        clients=of_ids[4],
    )
    return zlib.compress(msgspec.msgpack.encode(packed), LEVEL)


def unpack(data: bytes, sha256: str) -> list[Row]:
    """The events of a block.

    Raises:
        ArchiveDamagedError: it is not what its hash says.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ArchiveDamagedError(f"Block {sha256}: its bytes have another hash.")
    try:
        packed = msgspec.msgpack.decode(zlib.decompress(data), type=Packed)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ArchiveDamagedError(f"Block {sha256}: {error}") from error
    count = len(packed.ids) // _ID_BYTES
    ids = [None, *(UUID(bytes=packed.ids[at * _ID_BYTES : (at + 1) * _ID_BYTES]) for at in range(count))]
    names = [None, *packed.names]
    return list(
        zip(
            packed.positions,
            _named(ids, packed.streams),
            packed.versions,
            _named(names, packed.topics),
            packed.bodies,
            [_EPOCH + timedelta(microseconds=us) for us in packed.times_us],
            _named(names, packed.actors),
            _named(ids, packed.correlations),
            _named(ids, packed.causations),
            _named(ids, packed.agents),
            _named(ids, packed.clients),
            strict=True,
        )
    )


def _named(known: Sequence[T], numbers: Iterable[int]) -> list[T]:
    return [known[number] for number in numbers]


def make_segment(number: int, previous: str, rows: Sequence[Row]) -> tuple[Manifest, list[bytes]]:
    """A segment of events in the order of position: its manifest, and its blocks' bytes."""
    blocks: list[Block] = []
    parts: list[bytes] = []
    start, content = 0, hashlib.sha256()
    for at in range(0, len(rows), BLOCK_EVENTS):
        these = rows[at : at + BLOCK_EVENTS]
        data = pack(these)
        content.update(data)
        digest = hashlib.sha256(data).hexdigest()
        blocks.append(Block(these[0][0], these[-1][0], len(these), start, len(data), digest))
        parts.append(data)
        start += len(data)
    manifest = Manifest(
        segment=number,
        previous=previous,
        events=len(rows),
        streams=len({row[1] for row in rows}),
        raw_bytes=sum(len(row[4]) for row in rows),
        sha256=content.hexdigest(),
        blocks=blocks,
    )
    return manifest, parts


def encode_manifest(manifest: Manifest) -> str:
    """As it is stored and hashed."""
    return msgspec.json.encode(manifest).decode()


def hash_of(manifest: str) -> str:
    return hashlib.sha256(manifest.encode()).hexdigest()


def read_manifest(text: str, sha256: str, previous: str) -> Manifest:
    """A manifest whose place in the chain is known.

    Raises:
        ArchiveDamagedError: it is another, or follows another.
    """
    if hash_of(text) != sha256:
        raise ArchiveDamagedError(f"A manifest has the hash {hash_of(text)}, and not {sha256}.")
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise ArchiveDamagedError(f"A manifest cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise ArchiveDamagedError(f"Segment {manifest.segment} is of format {manifest.format}; this reads {FORMAT}.")
    if manifest.previous != previous:
        raise ArchiveDamagedError(f"Segment {manifest.segment} does not follow the one that is before it.")
    return manifest


def check_content(manifest: Manifest, part: Callable[[Block], bytes]) -> Iterator[list[Row]]:
    """Read a whole segment, block by block, against its manifest.

    Raises:
        ArchiveDamagedError: something is not as the manifest says.
    """
    content, events = hashlib.sha256(), 0
    streams: set[UUID] = set()
    for block in manifest.blocks:
        data = part(block)
        content.update(data)
        rows = unpack(data, block.sha256)
        if (len(rows), rows[0][0], rows[-1][0]) != (block.events, block.first_position, block.last_position):
            raise ArchiveDamagedError(f"Segment {manifest.segment}: a block does not hold what its manifest says.")
        events += len(rows)
        streams.update(row[1] for row in rows)
        yield rows
    if (content.hexdigest(), events, len(streams)) != (manifest.sha256, manifest.events, manifest.streams):
        raise ArchiveDamagedError(f"Segment {manifest.segment} does not hold what its manifest says.")
