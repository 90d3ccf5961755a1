"""What an agent fails to mask is masked as it arrives, live output too, by the values that its command was handed."""

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_bus.handlers.secrets import sweep_values
from command_bus.ids import new_id, utc_now
from command_bus.intents.secrets import RemoveSecret
from command_bus.keystore import Keystore
from domain.commands import CommandFailed
from gateways.agents.live import LiveOutput
from gateways.agents.masking import LiveMask, MaskedPieces, masked
from gateways.agents.secrets import handed_out
from gateways.bench.simulated import SimulatedAgent
from gateways.cli.watching import Shown
from schema import wire
from schema.masking import MASK, Hidden, mask_all, patterns
from tests.gateway.harness import Fleet
from tests.gateway.test_secrets import enrolled, place, put, received, run

PATIENCE_S = 60
OLD, NEW = "Tr0ub4dor-%-'s", "c0rrect-h0rse"
# Few letters, so that secrets overlap with themselves, with each other and with the text.
texts = st.text("ab/ü\n", max_size=60)
some_secrets = st.lists(st.text("ab/ü\n", min_size=4, max_size=12), min_size=1, max_size=3)


def piece_of(data: bytes, start: int, end: int, attempt: int = 1) -> wire.OutputLive:
    return wire.OutputLive(command_id=UUID(int=1), attempt=attempt, stream="stdout", offset=start, data=data[start:end])


@given(
    hidden=some_secrets,
    text=texts,
    put_in=st.lists(st.integers(0, 60), max_size=3),
    cuts=st.lists(st.integers(0, 10**6)),
    back=st.lists(st.integers(0, 8), max_size=8),
)
def test_pieces_come_to_the_output_itself_however_they_are_cut(
    hidden: list[str], text: str, put_in: list[int], cuts: list[int], back: list[int]
) -> None:
    """Cut anywhere, told twice or overlapping: a reader sees the masked output, but for what its end may yet become."""
    for at in put_in:
        text = text[:at] + hidden[at % len(hidden)] + text[at:]
    data = text.encode()
    ends = sorted(cut % (len(data) + 1) for cut in cuts)
    pieces, seen = MaskedPieces(Hidden(hidden)), b""

    def write(_: str, more: bytes) -> None:
        nonlocal seen
        seen += more

    shown = Shown(write)
    for number, (start, end) in enumerate(zip([0, *ends], [*ends, len(data)], strict=True)):
        again = max(0, start - (back[number % len(back)] if back else 0))
        told = pieces.shown(piece_of(data, again, end))
        if told is not None:
            shown.live(told.attempt, told.stream, told.offset, told.data)
    whole = mask_all(Hidden(hidden), data)
    assert whole.startswith(seen)
    assert len(whole) - len(seen) < max(map(len, patterns(hidden))) + len(MASK)


@given(hidden=some_secrets, text=texts, put_in=st.lists(st.integers(0, 60), max_size=3), kept=st.lists(st.booleans()))
def test_of_a_secret_of_which_a_part_is_lost_the_rest_does_not_show(
    hidden: list[str], text: str, put_in: list[int], kept: list[bool]
) -> None:
    """None of it before a gap, and at the most three of its bytes after it."""
    for at in put_in:
        text = text[:at] + hidden[at % len(hidden)] + text[at:]
    data = text.encode()
    pieces, runs, told_of, upto = MaskedPieces(Hidden(hidden)), [b""], [b""], 0
    for at in range(0, len(data), 7):
        if kept and not kept[at // 7 % len(kept)]:
            continue
        if at != upto:
            runs.append(b"")
            told_of.append(b"")
        told_of[-1] += data[at : at + 7]
        told = pieces.shown(piece_of(data, at, at + 7))
        runs[-1] += told.data if told is not None else b""
        upto = at + 7
    for number, seen in enumerate(runs):
        clear, last = len(seen.replace(MASK, b"")), number == len(runs) - 1
        assert clear <= len(told_of[number])
        for one in patterns(hidden):
            assert one not in seen
            if number:
                assert not any(seen.startswith(one[cut:]) for cut in range(1, len(one) - 3))
            begun = max(cut for cut in range(len(one)) if told_of[number].endswith(one[:cut]))
            assert last or clear <= len(told_of[number]) - begun


def test_an_attempt_begins_anew_and_what_is_no_stream_is_nobodys() -> None:
    """Pieces of an attempt before, or of a stream that there is not, are not shown."""
    pieces = MaskedPieces(Hidden([OLD]))
    data = f"a {OLD} b".encode()
    for attempt in (1, 2):
        told = pieces.shown(piece_of(data, 0, len(data), attempt))
        assert told is not None
        assert (told.attempt, told.offset, told.data) == (attempt, 0, b"a ******** b")
    more = data + b"more"
    assert pieces.shown(piece_of(more, 0, len(more), 1)) is None
    assert pieces.shown(wire.OutputLive(command_id=new_id(), attempt=2, stream="x", offset=0, data=b"x")) is None


class Leaking(SimulatedAgent):
    """One that masks nothing."""

    watched = 0
    """So often it was told that somebody watches."""

    def take(self, data: bytes) -> bytes:
        if isinstance(wire.decode_downlink(data), wire.OutputWatch):
            self.watched += 1
        return super().take(data)

    async def prints(self, command_id: UUID, offset: int, data: bytes, attempt: int = 1) -> None:
        piece = wire.OutputLive(command_id=command_id, attempt=attempt, stream="stdout", offset=offset, data=data)
        await self.client.publish(wire.live_subject(self.agent_id, command_id), wire.encode(piece))


@asynccontextmanager
async def watching(fleet: Fleet, command_id: UUID) -> AsyncIterator[AsyncIterator[wire.OutputLive]]:
    live = LiveOutput(fleet.log, fleet.masks, fleet.url, fleet.nats.urls, f"watcher-{new_id()}")
    await live.start()
    try:
        async with asyncio.timeout(PATIENCE_S), live.follow(command_id) as pieces:
            yield pieces
    finally:
        await live.stop()


async def until_shown(pieces: AsyncIterator[wire.OutputLive], end: bytes) -> bytes:
    seen = b""
    while not seen.endswith(end):
        seen += (await anext(pieces)).data
    return seen


async def leaking(fleet: Fleet) -> Leaking:
    """One that is away yet."""
    agent = await enrolled(fleet, *await place(fleet))
    agent.__class__ = Leaking
    assert isinstance(agent, Leaking)
    return agent


async def arrive(fleet: Fleet, agent: SimulatedAgent) -> None:
    await agent.connect(fleet.nats.urls)
    await agent.hello()


async def test_live_output_is_masked_by_the_server_too(fleet: Fleet) -> None:
    """Whoever watches from before it was handed its secret sees none of it, across the borders of pieces."""
    await fleet.gateway()
    agent = await leaking(fleet)
    await put(fleet, "db", OLD)
    command_id = await run(fleet, agent)
    async with watching(fleet, command_id) as pieces:
        await arrive(fleet, agent)
        assert (await received(fleet, agent, command_id)).secrets == [OLD]
        said = f"a {OLD} b\n".encode()
        for at in range(len(said)):
            await agent.prints(command_id, at, said[at : at + 1])
        assert await until_shown(pieces, b"\n") == b"a ******** b\n"


async def test_a_command_without_secrets_costs_no_look(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pieces pass as they are, and neither log nor keystore is asked of them."""

    async def asked(_: LiveMask, __: wire.OutputLive) -> None:
        raise AssertionError

    monkeypatch.setattr(LiveMask, "shown", asked)
    await fleet.gateway()
    agent = await leaking(fleet)
    await arrive(fleet, agent)
    command_id = await run(fleet, agent, "true")
    await fleet.until_delivered(command_id)
    async with watching(fleet, command_id) as pieces:
        await agent.until(lambda: agent.watched > 0)
        await agent.prints(command_id, 0, OLD.encode())
        assert await until_shown(pieces, OLD.encode()) == OLD.encode()


def report(command_id: UUID, printed: bytes) -> wire.ResultReport:
    stream = wire.StreamReport(
        size=len(printed), sha256=hashlib.sha256(printed).hexdigest(), tail=printed, inline=zlib.compress(printed)
    )
    return wire.ResultReport(command_id=command_id, attempt=1, outcome="failed", stdout=stream)


async def swept(fleet: Fleet) -> int:
    keystore = Keystore(fleet.pool, fleet.master_keys)
    return await sweep_values(fleet.log, keystore, timedelta(0), utc_now(), partial(handed_out, fleet.log, fleet.pool))


@pytest.mark.parametrize("removed", [False, True])
async def test_what_was_replaced_or_removed_while_it_ran_is_masked(fleet: Fleet, removed: bool) -> None:
    """In live output and in the result, by another gateway than handed it over; then the value is dropped."""
    first = await fleet.gateway()
    agent = await leaking(fleet)
    await arrive(fleet, agent)
    secret_id = await put(fleet, "db", OLD)
    command_id = await run(fleet, agent)
    assert (await received(fleet, agent, command_id)).secrets == [OLD]
    if removed:
        await fleet.dispatch(RemoveSecret(secret_id=secret_id))
    else:
        await put(fleet, "db", NEW)
        later = await run(fleet, agent)
        assert (await received(fleet, agent, later)).secrets == [NEW]
    await first.stop()
    fleet.services.remove(first)
    assert await swept(fleet) == 0
    await fleet.gateway("gateway-2")
    said = f"a {OLD} b\n".encode()
    async with watching(fleet, command_id) as pieces:
        await agent.until(lambda: agent.watched > 0)
        await agent.prints(command_id, 0, said)
        assert await until_shown(pieces, b"\n") == b"a ******** b\n"
    assert await agent.ask(report(command_id, said)) == wire.Acknowledged()
    failed = next(event for event in await fleet.story(command_id) if isinstance(event, CommandFailed))
    assert failed.result.stdout.tail == "a ******** b\n"
    assert await swept(fleet) == 1
    masks = await fleet.masks.of([command_id])
    assert mask_all_of(masks[command_id], said) == said, "the value is gone for good"
    if not removed:
        assert mask_all_of((await fleet.masks.of([later]))[later], NEW.encode()) == MASK


def mask_all_of(hidden: object, data: bytes) -> bytes:
    assert isinstance(hidden, Hidden)
    return mask_all(hidden, data)


async def test_a_value_that_was_replaced_just_now_stays(fleet: Fleet) -> None:
    """However old it is: a delivery that read it may be on its way."""
    keystore, handed = Keystore(fleet.pool, fleet.master_keys), partial(handed_out, fleet.log, fleet.pool)
    for value in (OLD, NEW):
        await put(fleet, "db", value)
    with psycopg.connect(fleet.url, autocommit=True) as connection:
        connection.execute("UPDATE fleetlog.secret_values SET kept_at = now() - interval '1 day'")
    hour = timedelta(hours=1)
    assert await sweep_values(fleet.log, keystore, hour, utc_now(), handed) == 0
    assert await sweep_values(fleet.log, keystore, hour, utc_now() + 2 * hour, handed) == 1


def test_the_end_of_a_large_output_may_begin_within_a_secret() -> None:
    """Where the end that a result brings cuts a secret in two, what is left of it is masked, too."""
    told = wire.StreamReport(size=10**6, sha256="ab" * 32, tail=f"{OLD[4:]} and {OLD}".encode())
    ended = wire.ResultReport(command_id=new_id(), attempt=1, outcome="failed", stdout=told)
    assert masked(ended, Hidden([OLD])).stdout.tail == b"******** and ********"
