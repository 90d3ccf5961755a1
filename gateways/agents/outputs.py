"""Full outputs of commands: kept once, compressed, under the SHA-256 of their raw bytes.

A small one comes inside of its result and is stored before the result's event. A large one comes in chunks first:
they gather per agent, and only when all are there and their hash is what was claimed do they become an output. So an
output that an event names is there, whole, and what its name says; a result whose output is missing is not recorded.
"""

import hashlib
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.errors import DomainError
from schema import wire
from schema.masking import Hidden, Mask

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_DIGEST_DIGITS = 64
NOTHING = Hidden(())


# One that is withheld for a secret need not be sent again.
_IS_HERE: LiteralString = (
    "SELECT 1 FROM fleetlog.outputs WHERE sha256 = %s AND (removed_at IS NULL OR removed_for = 'secret')"
)
# Gives back those whose data is to be kept: new ones, ones that had been removed, and, once a day, any.
_KEEP: LiteralString = """
    INSERT INTO fleetlog.outputs (sha256, size) SELECT * FROM unnest(%s::bytea[], %s::bigint[])
    ON CONFLICT (sha256) DO UPDATE SET named_at = now(), removed_at = NULL, removed_for = NULL
    WHERE outputs.removed_at IS NOT NULL OR outputs.named_at < now() - interval '1 day'
    RETURNING sha256
"""
_WHOLE: LiteralString = """
    SELECT encode(sha256, 'hex'), named_at < now() - interval '1 day' FROM fleetlog.outputs
    WHERE sha256 = ANY(%s::bytea[]) AND (removed_at IS NULL OR removed_for = 'secret')
"""
_WITHHOLD: LiteralString = """
    INSERT INTO fleetlog.outputs (sha256, size, removed_at, removed_for) VALUES (%s, %s, now(), 'secret')
    ON CONFLICT (sha256) DO UPDATE SET removed_at = now(), removed_for = 'secret' WHERE outputs.removed_at IS NOT NULL
"""
_NAMED_AGAIN: LiteralString = """
    UPDATE fleetlog.outputs SET named_at = now() WHERE sha256 IN (
        SELECT sha256 FROM fleetlog.outputs
        WHERE sha256 = ANY(%s::bytea[]) AND removed_at IS NULL AND named_at < now() - interval '1 day'
        ORDER BY sha256 FOR UPDATE
    )
"""


class BadOutputError(DomainError):
    """The output is not what it claims to be; nothing of it was kept."""

    code = "bad_output"
    status = 422


class OutputMissingError(DomainError):
    """The result names an output that has not arrived; send its chunks, then the result again."""

    code = "output_missing"
    status = 409


class OutputRemovedError(DomainError):
    """The output was removed by retention; its size, hash and end are in the command's result."""

    code = "output_removed"
    status = 410


class OutputStore:
    """Takes outputs in, verifies them, and gives them back.

    Args:
        pool: connections of the application.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def wanted(self, agent_id: UUID, offer: wire.OutputOffer) -> int:
        """The first chunk to send, or -1 if the output is here already.

        Raises:
            BadOutputError: no output has such a hash or size.
        """
        digest = _digest(offer.sha256, offer.size)
        async with self._pool.connection() as connection:
            known = await connection.execute(_IS_HERE, [digest])
            if await known.fetchone() is not None:
                return -1
            here = await connection.execute(
                "SELECT index FROM fleetlog.output_uploads WHERE agent_id = %s AND sha256 = %s ORDER BY index",
                [agent_id, digest],
            )
            first_missing = 0
            for (index,) in await here.fetchall():
                if index != first_missing:
                    break
                first_missing += 1
            return first_missing

    async def put_chunk(self, agent_id: UUID, chunk: wire.OutputChunk, hidden: Hidden = NOTHING) -> bool:
        """Keep a chunk; returns whether the output is whole now. When this returns, the chunk is on disk.

        A whole that holds something hidden in the clear is withheld: nothing of it is kept, and whoever asks for it
        is told.

        Raises:
            BadOutputError: the chunk does not fit what it belongs to, or the whole is not what was claimed; then all
                of this agent's chunks of it are dropped.
        """
        digest = _digest(chunk.sha256, chunk.size)
        count = _chunk_count(chunk.size)
        if not 0 <= chunk.index < count:
            raise BadOutputError(f"An output of {chunk.size} bytes has chunks 0 to {count - 1}, not {chunk.index}.")
        start = chunk.index * wire.CHUNK_BYTES
        if len(_inflate(chunk.data, wire.CHUNK_BYTES)) != min(wire.CHUNK_BYTES, chunk.size - start):
            raise BadOutputError(f"Chunk {chunk.index} is not as long as its place in the output.")
        async with self._pool.connection() as connection:
            known = await connection.execute(_IS_HERE, [digest])
            if await known.fetchone() is not None:
                return True
            await connection.execute(
                "INSERT INTO fleetlog.output_uploads (agent_id, sha256, index, data) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (agent_id, sha256, index) DO NOTHING",
                [agent_id, digest, chunk.index, chunk.data],
            )
            here = await connection.execute(
                "SELECT count(*) FROM fleetlog.output_uploads WHERE agent_id = %s AND sha256 = %s", [agent_id, digest]
            )
            row = await here.fetchone()
        if row is None or row[0] < count:
            return False
        await self._complete(agent_id, digest, chunk.size, count, hidden)
        return True

    async def _complete(self, agent_id: UUID, digest: bytes, size: int, count: int, hidden: Hidden) -> None:
        mask, shown = Mask(hidden), hashlib.sha256()
        async with self._pool.connection() as connection:
            hasher, raw_size = hashlib.sha256(), 0
            for index in range(count):
                found = await connection.execute(
                    "SELECT data FROM fleetlog.output_uploads WHERE agent_id = %s AND sha256 = %s AND index = %s",
                    [agent_id, digest, index],
                )
                row = await found.fetchone()
                if row is None:
                    # The same chunk came twice at once, and the other one completed the output.
                    return
                raw = _inflate(row[0], wire.CHUNK_BYTES)
                hasher.update(raw)
                if hidden:
                    shown.update(mask.feed(raw))
                raw_size += len(raw)
            shown.update(mask.finish())
            true = hasher.digest() == digest and raw_size == size
            withheld = bool(hidden) and shown.digest() != digest
            async with connection.transaction():
                if true and withheld:
                    await connection.execute(_WITHHOLD, [digest, size])
                elif true:
                    await connection.execute(_KEEP, [[digest], [size]])
                    await connection.execute(
                        "INSERT INTO fleetlog.output_chunks (sha256, index, data) "
                        "SELECT sha256, index, data FROM fleetlog.output_uploads WHERE agent_id = %s AND sha256 = %s "
                        "ON CONFLICT (sha256, index) DO NOTHING",
                        [agent_id, digest],
                    )
                await connection.execute(
                    "DELETE FROM fleetlog.output_uploads WHERE agent_id = %s AND sha256 = %s", [agent_id, digest]
                )
        if not true:
            raise BadOutputError("The chunks do not add up to the output that was claimed; all of them were dropped.")

    async def put_inline(self, streams: Iterable[wire.StreamReport]) -> None:
        """Keep the outputs that came inside of results.

        Raises:
            BadOutputError: one is not what it claims to be (see `check_inline`); none was kept.
        """
        rows = {digest: (size, data) for digest, size, data in map(check_inline, streams) if size}
        if not rows:
            return
        async with self._pool.connection() as connection, connection.transaction():
            # In the order of their hashes, so that two gateways that store the same ones cannot wait for each other.
            digests = sorted(rows)
            added = await connection.execute(_KEEP, [digests, [rows[digest][0] for digest in digests]])
            new = [bytes(row[0]) for row in await added.fetchall()]
            if new:
                await connection.execute(
                    "INSERT INTO fleetlog.output_chunks (sha256, index, data) "
                    "SELECT sha256, 0, data FROM unnest(%s::bytea[], %s::bytea[]) AS new (sha256, data) "
                    "ON CONFLICT (sha256, index) DO NOTHING",
                    [new, [rows[digest][1] for digest in new]],
                )

    async def missing(self, digests: Sequence[str]) -> set[str]:
        """Which of these hashes (hex) name no whole output."""
        if not digests:
            return set()
        wanted = [bytes.fromhex(digest) for digest in set(digests)]
        async with self._pool.connection() as connection:
            found = await connection.execute(_WHOLE, [wanted])
            here = await found.fetchall()
            if any(is_due for _, is_due in here):
                await connection.execute(_NAMED_AGAIN, [wanted])
        return set(digests) - {digest for digest, _ in here}


async def read_output(pool: AsyncConnectionPool, sha256: str) -> AsyncIterator[bytes]:
    """The raw bytes of an output, piece by piece, in constant memory; nothing for the empty output.

    Raises:
        OutputMissingError: there is no such output.
        OutputRemovedError: there was one.
    """
    if sha256 in {"", EMPTY_SHA256}:
        return
    digest = bytes.fromhex(sha256)
    async with pool.connection() as connection:
        found = await connection.execute(
            "SELECT size, removed_at, removed_for FROM fleetlog.outputs WHERE sha256 = %s", [digest]
        )
        row = await found.fetchone()
        if row is None:
            raise OutputMissingError(f"There is no output {sha256}.")
        if row[2] == "secret":
            raise OutputRemovedError("This output was not kept: it held a secret in the clear.")
        if row[2] == "erasure":
            raise OutputRemovedError("This output was erased with what was personal about its machine.")
        if row[1] is not None:
            raise OutputRemovedError(
                f"This output was removed by retention on {row[1]:%Y-%m-%d} (for its {row[2]}); its size, hash and end"
                " are in the command's result."
            )
    for index in range(_chunk_count(row[0])):
        async with pool.connection() as connection:
            found = await connection.execute(
                "SELECT data FROM fleetlog.output_chunks WHERE sha256 = %s AND index = %s", [digest, index]
            )
            piece = await found.fetchone()
        if piece is None:
            raise OutputMissingError(f"Chunk {index} of output {sha256} is gone.")
        yield _inflate(piece[0], wire.CHUNK_BYTES)


async def purge_uploads(pool: AsyncConnectionPool, older_than: timedelta) -> int:
    """Drop chunks of uploads that nobody finished; returns how many."""
    async with pool.connection() as connection:
        done = await connection.execute(
            "DELETE FROM fleetlog.output_uploads WHERE received_at < now() - %s", [older_than]
        )
        return done.rowcount


async def scrub_output(pool: AsyncConnectionPool, sha256: str) -> bool:
    """Whether a stored output still is what its name says."""
    hasher = hashlib.sha256()
    try:
        async for piece in read_output(pool, sha256):
            hasher.update(piece)
    except OutputRemovedError:
        return True  # just now
    except (BadOutputError, OutputMissingError):
        return False
    return hasher.hexdigest() == sha256


async def some_outputs(pool: AsyncConnectionPool, after: str, limit: int) -> list[str]:
    """Hashes of stored outputs in order, from after one on; for going through all of them page by page."""
    async with pool.connection() as connection:
        found = await connection.execute(
            "SELECT encode(sha256, 'hex') FROM fleetlog.outputs WHERE sha256 > %s AND removed_at IS NULL "
            "ORDER BY sha256 LIMIT %s",
            [bytes.fromhex(after), limit],
        )
        return [row[0] for row in await found.fetchall()]


def check_inline(stream: wire.StreamReport) -> tuple[bytes, int, bytes]:
    """Verify a stream that brings its own bytes: (digest, size, compressed bytes); size 0 if there is nothing to keep.

    Raises:
        BadOutputError: it is larger than may come inline, or not what its hash and size say.
    """
    if stream.inline is None:
        return b"", 0, b""
    digest = _digest(stream.sha256 or EMPTY_SHA256, stream.size)
    raw = _inflate(stream.inline, wire.INLINE_OUTPUT_BYTES)
    if len(raw) != stream.size or hashlib.sha256(raw).digest() != digest:
        raise BadOutputError
    return digest, stream.size, stream.inline


def named_outputs(report: wire.ResultReport) -> list[str]:
    """The hashes of the outputs that a result names without bringing them.

    Raises:
        BadOutputError: one of them is no hash, or no output can have its size.
    """
    named = [stream for stream in (report.stdout, report.stderr) if stream.size and stream.inline is None]
    for stream in named:
        _digest(stream.sha256, stream.size)
    return [stream.sha256 for stream in named]


def _chunk_count(size: int) -> int:
    return -(-size // wire.CHUNK_BYTES)


def _digest(sha256: str, size: int) -> bytes:
    try:
        digest = bytes.fromhex(sha256) if len(sha256) == _DIGEST_DIGITS else b""
    except ValueError:
        digest = b""
    if not digest or not 0 <= size <= wire.MAX_OUTPUT_BYTES:
        raise BadOutputError(f"An output has a SHA-256 in hex and 0 to {wire.MAX_OUTPUT_BYTES} bytes.")
    return digest


def _inflate(data: bytes, limit: int) -> bytes:
    """Decompress, but never to more than may be there: a small bomb must not fill the memory."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise BadOutputError(f"The output is not zlib data: {error}.") from error
    if len(raw) > limit or not inflater.eof:
        raise BadOutputError(f"The output's data is cut short or holds more than {limit} bytes.")
    return raw
