"""What every implementation of the `EventLog` Protocol holds to. Subclass it and give it a `log`."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from command_bus.event_log import ConflictError, EventLog, Mark, Selection
from command_bus.ids import new_id
from domain.catalog import topic_of
from domain.commands import CommandQueued
from domain.event import Change, Recorded
from tests.event_log.samples import created, metadata, queued, renamed


def places(recorded: list[Recorded]) -> list[tuple[object, int]]:
    return [(one.originator_id, one.originator_version) for one in recorded]


async def collect(log: EventLog, *, after: int, upto: int, selection: Selection | None = None) -> list[Recorded]:
    """Follow the log until a position is passed or an idle page comes after it."""
    found: list[Recorded] = []
    async with asyncio.timeout(20):
        async for page in log.follow(after, selection or Selection(), page=7):
            found += page
            if (found and found[-1].position >= upto) or (not page and await log.head() >= upto):
                return found
    raise AssertionError("unreachable: following never ends by itself")


class EventLogConformance:
    """Tests of the contract, through the Protocol alone."""

    async def test_appended_events_read_back_whole(self, log: EventLog) -> None:
        """What is appended is read back with its body, its place, its position and its metadata."""
        change, meta = queued(new_id(), new_id(), line="printf 'ä\\0'"), metadata()
        before = datetime.now(UTC) - timedelta(seconds=5)
        [position] = await log.append([change], meta)
        [recorded] = await log.read()
        assert recorded == Recorded(
            position,
            change.originator_id,
            1,
            topic_of(CommandQueued),
            change.event,
            recorded.recorded_at,
            meta.actor,
            meta.correlation_id,
            meta.causation_id,
            change.agent_id,
            change.client_id,
        )
        assert before < recorded.recorded_at < datetime.now(UTC) + timedelta(seconds=5)
        assert await log.head() == position

    async def test_an_empty_log_has_head_zero(self, log: EventLog) -> None:
        """Before the first event the head is 0, and reads are empty."""
        assert await log.head() == 0
        assert await log.read() == []
        assert await log.append([], metadata()) == []
        assert await log.append_bulk([], metadata()) == 0

    async def test_positions_come_in_the_order_given(self, log: EventLog) -> None:
        """An append of several streams gets rising positions in the order of its changes."""
        changes = [created(f"c{number}") for number in range(20)]
        positions = await log.append(changes, metadata())
        assert positions == sorted(positions)
        assert places(await log.read()) == [(change.originator_id, 1) for change in changes]

    async def test_a_taken_place_is_a_conflict_and_records_nothing(self, log: EventLog) -> None:
        """Where one of its changes meets a taken place, an append records none of them."""
        first = created()
        await log.append([first], metadata())
        other = created()
        with pytest.raises(ConflictError):
            await log.append([other, created(stream_id=first.originator_id)], metadata())
        assert await log.read_streams([other.originator_id]) == {}

    async def test_a_conflict_fails_alone(self, log: EventLog) -> None:
        """Of many concurrent appends, exactly those that conflict fail."""
        stream_id = new_id()
        await log.append([created(stream_id=stream_id)], metadata())
        good = [created(f"g{number}") for number in range(30)]
        contended = [renamed(stream_id, 2, f"n{number}") for number in range(10)]
        mixed: list[Change] = [change for pair in zip(good, contended * 3, strict=True) for change in pair]
        outcomes = await asyncio.gather(*(log.append([change], metadata()) for change in mixed), return_exceptions=True)
        lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(lost) == 29
        assert all(isinstance(error, ConflictError) for error in lost)
        assert len(await log.read()) == 1 + 30 + 1

    async def test_each_of_many_appends_has_its_own_outcome(self, log: EventLog) -> None:
        """Calls made together are told one by one: positions, or the conflict that failed this one alone."""
        taken = created()
        await log.append([taken], metadata())
        one, pair, own = created("one"), [created("two"), created("three")], metadata("key:own")
        outcomes = await log.append_each([([one], own), ([created(), taken], metadata()), (pair, metadata())])
        first, second, third = outcomes
        assert isinstance(second, ConflictError)
        recorded = await log.read()
        assert places(recorded[1:]) == [(change.originator_id, 1) for change in (one, *pair)]
        assert [first, third] == [[recorded[1].position], [recorded[2].position, recorded[3].position]]
        assert [item.actor for item in recorded[1:]] == ["key:own", "key:tests", "key:tests"]
        assert await log.append_each([]) == []

    async def test_bulk_appends_are_complete_and_in_order(self, log: EventLog) -> None:
        """A bulk append over several transactions reads back complete, in order, and returns its last position."""
        changes = [queued(new_id(), new_id()) for _ in range(9_001)]
        last = await log.append_bulk(iter(changes), metadata())
        assert last == await log.head()
        found: list[Recorded] = []
        while page := await log.read(after=found[-1].position if found else 0, limit=5_000):
            found += page
        assert places(found) == [(change.originator_id, 1) for change in changes]

    async def test_a_bulk_conflict_keeps_the_chunks_before_it(self, log: EventLog) -> None:
        """A conflict in bulk is reported; whole transactions before it stay, its own leaves nothing."""
        taken = created()
        [position] = await log.append([taken], metadata())
        changes = [*(created(str(number)) for number in range(4_500)), taken]
        with pytest.raises(ConflictError):
            await log.append_bulk(changes, metadata())
        stayed = await log.read(after=position, limit=10_000)
        assert places(stayed) == [(change.originator_id, 1) for change in changes[: len(stayed)]]
        assert len(stayed) < 4_500

    async def test_streams_and_heads(self, log: EventLog) -> None:
        """Streams come oldest first, heads are their last events, and streams without events are absent."""
        one, two, absent = new_id(), new_id(), new_id()
        await log.append([created(stream_id=one), created(stream_id=two), renamed(one, 2)], metadata())
        streams = await log.read_streams([one, two, absent])
        assert {stream_id: [r.originator_version for r in events] for stream_id, events in streams.items()} == {
            one: [1, 2],
            two: [1],
        }
        heads = await log.read_heads([one, two, absent])
        assert {stream_id: head.originator_version for stream_id, head in heads.items()} == {one: 2, two: 1}
        assert await log.read_streams([]) == {}
        assert await log.read_heads([]) == {}

    async def test_pages(self, log: EventLog) -> None:
        """Pages follow each other without gap or overlap, both ways, and end at `upto`."""
        positions = await log.append([created(str(number)) for number in range(25)], metadata())
        ahead = await log.read(after=positions[4], upto=positions[20], limit=10)
        assert [one.position for one in ahead] == positions[5:15]
        newest = await log.read(limit=10, backwards=True)
        assert [one.position for one in newest] == positions[:14:-1]
        older = await log.read(after=newest[-1].position, limit=100, backwards=True)
        assert [one.position for one in older] == positions[14::-1]

    async def test_selections(self, log: EventLog) -> None:
        """Each filter, and filters together, select exactly what they say."""
        agents, clients, correlation = [new_id(), new_id()], [new_id(), new_id(), new_id()], new_id()
        stream = new_id()
        await log.append([created("no agent", stream_id=stream)], metadata("key:a", correlation_id=correlation))
        await log.append([renamed(stream, 2)], metadata("key:b"))
        for agent_id in agents:
            for client_id in clients:
                await log.append([queued(agent_id, client_id)], metadata("agent:x"))
        everything = await log.read()

        async def check(selection: Selection, expected: list[Recorded]) -> None:
            assert await log.read(selection) == expected
            assert await log.read(selection, backwards=True) == expected[::-1]

        await check(Selection(agent_id=agents[0]), [one for one in everything if one.agent_id == agents[0]])
        await check(Selection(stream_id=stream), everything[:2])
        await check(Selection(actor="key:b"), everything[1:2])
        await check(Selection(correlation_id=correlation), everything[:1])
        two = (clients[0], clients[2])
        await check(Selection(client_ids=two), [one for one in everything if one.client_id in two])
        await check(Selection(client_ids=()), [])
        await check(Selection(types=("ClientCreated", "ClientRenamed")), everything[:2])
        await check(Selection(types=("CommandQueued",)), everything[2:])
        await check(Selection(types=("NoSuchEvent",)), [])
        await check(
            Selection(agent_id=agents[1], client_ids=two, types=("CommandQueued",)),
            [one for one in everything if one.agent_id == agents[1] and one.client_id in two],
        )
        middle = everything[4].recorded_at
        await check(Selection(since=middle), [one for one in everything if one.recorded_at >= middle])
        await check(Selection(until=middle), [one for one in everything if one.recorded_at <= middle])
        await check(Selection(since=datetime.now(UTC) + timedelta(hours=1)), [])

    async def test_following_sees_what_was_and_what_comes(self, log: EventLog) -> None:
        """A follower gets what is there already and then what is appended, each once, in order."""
        first = await log.append([created(str(number)) for number in range(10)], metadata())
        following = asyncio.create_task(collect(log, after=first[2], upto=first[-1] + 30))
        later = [await log.append([created(str(number))], metadata()) for number in range(30)]
        found = await following
        assert [one.position for one in found] == first[3:] + [position for [position] in later]

    async def test_following_a_selection(self, log: EventLog) -> None:
        """A follower of a selection passes over all else."""
        agent_id = new_id()
        await log.append(
            [queued(agent_id if number % 10 == 0 else new_id(), new_id()) for number in range(100)], metadata()
        )
        found = await collect(log, after=0, upto=await log.head(), selection=Selection(agent_id=agent_id))
        assert len(found) == 10
        assert {one.agent_id for one in found} == {agent_id}

    async def test_following_marks(self, log: EventLog) -> None:
        """A follower of marks hears of each event of its types once, in order: what it is and whom it concerns."""
        wanted: list[Mark] = []

        async def append() -> None:
            change = queued(new_id(), new_id())
            *_, position = await log.append([created(), change], metadata())
            wanted.append(
                Mark(position, change.originator_id, topic_of(CommandQueued), change.agent_id, change.client_id)
            )

        for _ in range(11):
            await append()
        after = wanted[0].position
        found: list[Mark] = []
        async with asyncio.timeout(20):
            async for page in log.follow_marks(after, [CommandQueued.__name__], page=4):
                assert len(page) <= 4
                found += page
                if len(wanted) < 30:
                    await append()
                elif len(found) >= 29:
                    break
        assert found == wanted[1:]

    async def test_idle_pages(self, log: EventLog) -> None:
        """A follower of a quiet log gets an empty page now and then."""
        async with asyncio.timeout(5):
            assert await anext(log.follow(await log.head())) == []

    async def test_concurrent_appends_of_many_callers(self, log: EventLog) -> None:
        """Every one of many concurrent appends is recorded, at the position its caller was told."""

        async def caller() -> dict[int, Change]:
            told = {}
            for _ in range(20):
                change = created()
                [position] = await log.append([change], metadata())
                told[position] = change
            return told

        told: dict[int, Change] = {}
        for part in await asyncio.gather(*(caller() for _ in range(50))):
            told |= part
        found = {one.position: one.originator_id for one in await log.read(limit=2_000)}
        assert found == {position: change.originator_id for position, change in told.items()}
        assert len(found) == 1_000

    async def test_waiting_beyond_a_position(self, log: EventLog) -> None:
        """It ends once something comes, at once where it has come already, and with the position itself in vain."""
        assert await log.wait_beyond(0, 0.01) == 0
        [first] = await log.append([created()], metadata())
        assert await log.wait_beyond(0, 20) >= first
        waiting = [asyncio.create_task(log.wait_beyond(first, 20)) for _ in range(3)]
        changes = [created(str(number)) for number in range(50)]
        appends = [asyncio.create_task(log.append([change], metadata())) for change in changes]
        for told in await asyncio.gather(*waiting):
            # Up to there everything can be read, whatever else is on its way.
            assert told > first
            before = places(await log.read(after=first, upto=told))
            await asyncio.gather(*appends)
            assert places(await log.read(after=first, upto=told)) == before != []
        head = await log.head()
        assert await log.wait_beyond(head, 0.01) == head
        assert await log.wait_beyond(head + 10, 0.01) == head + 10

    async def test_waiting_beyond_a_position_that_comes_in_bulk(self, log: EventLog) -> None:
        """Who waits sees each chunk whole, and comes to the end of it."""
        at, seen = 0, list[Recorded]()
        bulk = asyncio.create_task(log.append_bulk((created(str(number)) for number in range(4_500)), metadata()))
        async with asyncio.timeout(60):
            while not bulk.done() or at < await bulk:
                upto = await log.wait_beyond(at, 0.2)
                while page := await log.read(after=at, upto=upto, limit=1_000):
                    seen += page
                    at = page[-1].position
        assert len(seen) == len({one.originator_id for one in seen}) == 4_500
