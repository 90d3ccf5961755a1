"""Outputs go in as they are and come out the same, or not at all."""

import hashlib
import random
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.ids import new_id
from command_bus.postgres import AsyncPool, open_pool
from gateways.agents.outputs import (
    BadOutputError,
    OutputMissingError,
    OutputStore,
    named_outputs,
    purge_uploads,
    read_output,
    scrub_output,
    some_outputs,
)
from schema import wire

AGENT = UUID(int=7)


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[AsyncPool]:
    pool = await open_pool(postgres_url, name="test")
    yield pool
    await pool.close()


@pytest.fixture
def store(pool: AsyncPool) -> OutputStore:
    return OutputStore(pool)


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def inline(raw: bytes) -> wire.StreamReport:
    return wire.StreamReport(size=len(raw), sha256=digest(raw), inline=zlib.compress(raw, 1))


def chunks(raw: bytes, sha256: str | None = None) -> list[wire.OutputChunk]:
    return [
        wire.OutputChunk(
            command_id=new_id(),
            attempt=1,
            sha256=sha256 or digest(raw),
            size=len(raw),
            index=index,
            data=zlib.compress(raw[index * wire.CHUNK_BYTES : (index + 1) * wire.CHUNK_BYTES], 1),
        )
        for index in range(-(-len(raw) // wire.CHUNK_BYTES))
    ]


async def content(pool: AsyncPool, sha256: str) -> bytes:
    return b"".join([piece async for piece in read_output(pool, sha256)])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raws=st.lists(st.binary(max_size=300), max_size=5))
async def test_small_outputs_of_any_bytes_come_back(raws: list[bytes], store: OutputStore, pool: AsyncPool) -> None:
    """Whatever a script printed, the same bytes are read back; equal outputs are kept once."""
    await store.put_inline([inline(raw) for raw in [*raws, *raws]])
    for raw in raws:
        assert await content(pool, digest(raw)) == raw
    assert await store.missing([digest(raw) for raw in raws if raw]) == set()


async def test_a_large_output_comes_back_whatever_the_order_of_its_chunks(store: OutputStore, pool: AsyncPool) -> None:
    """Chunks may come in any order and more than once; the output is there when all are, and not before."""
    raw = random.Random(1).randbytes(3 * wire.CHUNK_BYTES + 17)
    pieces = chunks(raw)
    offer = wire.OutputOffer(sha256=digest(raw), size=len(raw))
    assert await store.wanted(AGENT, offer) == 0
    for piece in (pieces[0], pieces[3], pieces[0], pieces[2]):
        assert not await store.put_chunk(AGENT, piece)
    assert await store.wanted(AGENT, offer) == 1
    assert await store.missing([digest(raw)]) == {digest(raw)}
    with pytest.raises(OutputMissingError):
        await content(pool, digest(raw))
    assert await store.put_chunk(AGENT, pieces[1])
    assert await store.wanted(AGENT, offer) == -1
    assert await store.put_chunk(AGENT, pieces[1])
    assert await content(pool, digest(raw)) == raw
    assert await scrub_output(pool, digest(raw))
    assert await some_outputs(pool, "", 10) == [digest(raw)]


async def test_one_agents_lies_do_not_spoil_anothers_upload(store: OutputStore, pool: AsyncPool) -> None:
    """Chunks under a hash that they do not have are dropped; the true owner of that hash is not touched."""
    raw = random.Random(2).randbytes(wire.CHUNK_BYTES + 5)
    lie = bytes(len(raw))
    true = chunks(raw)
    await store.put_chunk(AGENT, true[0])
    liar = UUID(int=8)
    false = chunks(lie, digest(raw))
    await store.put_chunk(liar, false[0])
    with pytest.raises(BadOutputError):
        await store.put_chunk(liar, false[1])
    assert await store.wanted(liar, wire.OutputOffer(sha256=digest(raw), size=len(raw))) == 0
    assert await store.put_chunk(AGENT, true[1])
    assert await content(pool, digest(raw)) == raw


@pytest.mark.parametrize(
    "stream",
    [
        wire.StreamReport(size=3, sha256=digest(b"abc"), inline=zlib.compress(b"abd")),
        wire.StreamReport(size=4, sha256=digest(b"abc"), inline=zlib.compress(b"abc")),
        wire.StreamReport(size=3, sha256=digest(b"abc"), inline=b"not zlib"),
        wire.StreamReport(size=3, sha256=digest(b"abc"), inline=zlib.compress(b"abc")[:-3]),
        wire.StreamReport(size=3, sha256="zz", inline=zlib.compress(b"abc")),
        wire.StreamReport(size=10**6, sha256=digest(bytes(10**6)), inline=zlib.compress(bytes(10**6))),
    ],
)
async def test_an_inline_output_that_lies_is_refused(stream: wire.StreamReport, store: OutputStore) -> None:
    """Wrong hash, size or data, or more than may come inline: nothing of the batch is kept."""
    good = inline(b"good")
    with pytest.raises(BadOutputError):
        await store.put_inline([good, stream])
    assert await store.missing([good.sha256]) == {good.sha256}


@pytest.mark.parametrize("change", [{"index": 5}, {"index": -1}, {"data": b"x"}, {"size": 10**12}, {"sha256": "ab"}])
async def test_a_chunk_that_does_not_fit_is_refused(change: dict[str, object], store: OutputStore) -> None:
    """A chunk outside of its output, of the wrong length or of an impossible output changes nothing."""
    raw = bytes(wire.CHUNK_BYTES + 1)
    fields = {name: getattr(chunks(raw)[0], name) for name in wire.OutputChunk.__struct_fields__} | change
    with pytest.raises(BadOutputError):
        await store.put_chunk(AGENT, wire.OutputChunk(**fields))
    assert await store.wanted(AGENT, wire.OutputOffer(sha256=digest(raw), size=len(raw))) == 0


async def test_unfinished_uploads_are_dropped_in_time(store: OutputStore, pool: AsyncPool) -> None:
    """What nobody finished goes after a while; what is whole stays."""
    raw = bytes(wire.CHUNK_BYTES + 1)
    await store.put_chunk(AGENT, chunks(raw)[0])
    await store.put_inline([inline(b"kept")])
    assert await purge_uploads(pool, timedelta(hours=1)) == 0
    assert await purge_uploads(pool, timedelta(0)) == 1
    assert await content(pool, digest(b"kept")) == b"kept"


def test_a_result_names_what_it_does_not_bring() -> None:
    """Only streams with bytes that are not inline have to be there before their result."""
    large = wire.StreamReport(size=10**6, sha256=digest(b"x"))
    report = wire.ResultReport(command_id=AGENT, attempt=1, outcome="failed", stdout=large, stderr=inline(b"e"))
    assert named_outputs(report) == [digest(b"x")]
