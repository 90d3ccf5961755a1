"""Property: whatever a receiver does and whoever dies, what arrives is exactly the filtered log, in order."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.ids import new_id, utc_now
from command_bus.postgres import open_pool
from command_bus.repository import load
from domain.agents import Agent, AgentEnrolled, AgentMoved
from domain.destinations import EventFilter
from domain.errors import DomainError
from domain.event import Recorded
from domain.ids import ClientId, SiteId
from domain.scopes import Place as Site
from domain.sites import SiteCreated
from gateways.cancelling import end
from gateways.forward import selecting, sender
from gateways.forward.channel import Channel
from gateways.forward.cursors import Cursors
from gateways.forward.envelope import Outgoing
from gateways.forward.errors import UnreachableError
from gateways.forward.selecting import Selecting
from gateways.forward.sender import Sender
from tests.event_log.samples import metadata
from tests.forward.receivers import Place, Received, all_of


class Unreliable(Received):
    """Takes events as the dice fall: some, all, none; says so or not; and may lose what it has not read."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice = dice
        self.well = False

    async def channel(self) -> Channel:
        return UnreliableChannel(self)


class UnreliableChannel:
    def __init__(self, receiver: Unreliable) -> None:
        self._receiver, self._dice = receiver, receiver.dice
        self.at_once = self._dice.choice([3, 20, 60])
        self._late = self._dice.random() < 0.5
        self._unread: list[dict[str, str]] = []

    def _may_break(self, chance: float) -> None:
        if not self._receiver.well and self._dice.random() < chance:
            self._read(self._dice.randint(0, len(self._unread)))
            self._unread.clear()
            raise UnreachableError("it broke")

    def _read(self, count: int) -> None:
        """The receiver comes to read so many of what lies in its buffers."""
        for event in self._unread[:count]:
            self._receiver.take(event)
        del self._unread[:count]

    async def open(self) -> None:
        self._may_break(0.2)

    async def close(self) -> None:
        # Whoever leaves, or is killed, leaves what was not read to its fate.
        if not self._receiver.well:
            self._read(self._dice.randint(0, len(self._unread)))

    async def send(self, events: Sequence[Outgoing]) -> None:
        assert 0 < len(events) <= self.at_once
        breaks = not self._receiver.well and self._dice.random() < 0.15
        some = self._dice.randint(0, len(events)) if breaks else len(events)
        self._unread += [{"id": event.id, "sequence": f"{event.position:019}"} for event in events[:some]]
        if not self._late:
            self._read(len(self._unread))
        if some < len(events):
            self._may_break(1.0)
        await asyncio.sleep(0)
        self._may_break(0.05)

    async def settled(self) -> int | None:
        self._may_break(0.02)
        if self._late:
            self._read(len(self._unread) if self._receiver.well else self._dice.randint(0, len(self._unread)))
        return int(self._unread[0]["sequence"]) - 1 if self._unread else None


def expected(log: Sequence[Recorded], only: EventFilter) -> list[int]:
    """The filter, said once more in other words: by where each machine is at each event."""
    at: dict[UUID, tuple[UUID, UUID]] = {}
    found = []
    sites = {place.site_id for place in only.sites}
    for one in log:
        before = at.get(one.agent_id) if one.agent_id is not None else None
        if isinstance(one.event, AgentEnrolled | AgentMoved):
            at[one.originator_id] = one.event.site_id, one.event.client_id
        after = at.get(one.agent_id) if one.agent_id is not None else None
        of_type = not only.types or type(one.event).__name__ in only.types
        anywhere = not (only.clients or only.sites)
        if of_type and (
            anywhere
            or one.client_id in only.clients
            or one.originator_id in sites
            or any(place is not None and place[0] in sites and place[1] == one.client_id for place in (before, after))
        ):
            found.append(one.position)
    return found


@pytest.fixture
async def log(here: Place) -> list[Recorded]:
    for seed in range(2):
        await here.grow(120, seed=seed)
    # A position that none took, as a transaction leaves that failed.
    with psycopg.connect(here.url, autocommit=True) as owner:
        owner.execute("SELECT nextval('fleetlog.events_notification_id_seq')")
    await here.grow(60, seed=3)
    await wander(here)
    return await all_of(here.log)


async def wander(here: Place) -> None:
    """Machines move about, within their client and to others, and something is said of each afterwards."""
    told, dice = await all_of(here.log), random.Random(1)
    sites = [one for one in told if isinstance(one.event, SiteCreated)]
    machines = dice.sample([one.originator_id for one in told if isinstance(one.event, AgentEnrolled)], 3)
    for number in range(30):
        agent = await load(here.log, Agent, dice.choice(machines))
        site = dice.choice(sites)
        with contextlib.suppress(DomainError):  # some are retired
            moved = agent.move(SiteId(site.originator_id), ClientId(site.client_id or site.originator_id))
            await here.log.append([moved, agent.rename(f"n{number}")], metadata())


async def test_what_arrives_is_exactly_the_filtered_log(
    here: Place, log: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told apart by their ids: none missing, none more, none before its turn; with senders killed at any moment."""
    monkeypatch.setattr(sender, "SAVE_S", 0.005)
    monkeypatch.setattr(sender, "PAGE", 60)
    monkeypatch.setattr(selecting, "PAGE", 20)
    monkeypatch.setattr(sender, "GATHER_S", 0.0)
    created = [one for one in log if isinstance(one.event, SiteCreated)]
    sites = [Site(SiteId(one.originator_id), ClientId(one.client_id or one.originator_id)) for one in created]
    assert len({place.client_id for place in sites}) > 1
    moved = [one for one in log if isinstance(one.event, AgentMoved)]
    assert len(moved) > 20
    types = sorted({type(one.event).__name__ for one in log})
    pool = await open_pool(here.url, name="tests-cursors")
    cursors, head, loop = Cursors(pool), await here.log.head(), asyncio.get_running_loop()

    async def deliver(only: EventFilter, after: int, seed: int) -> None:
        dice, destination_id = random.Random(seed), new_id()
        receiver = Unreliable(dice)
        make: Callable[[], Any] = receiver.channel

        def begun() -> asyncio.Task[None]:
            sending = Sender(
                destination_id,
                "d",
                Selecting(here.log, only),
                frozenset(),
                after,
                make,
                here.log,
                cursors,
                "s",
                utc_now,
                retry_s=1e-9,
            )
            return asyncio.create_task(sending.run())

        for _ in range(dice.randint(0, 6)):
            sending = begun()
            for _ in range(dice.randint(1, 60)):
                await asyncio.sleep(dice.choice([0, 0, 0.001]))
            await end([sending])
        receiver.well = True
        sending = begun()
        async with asyncio.timeout(20):
            while (await cursors.take(destination_id, after))[0] < head:  # noqa: ASYNC110 - it lies in a database
                await asyncio.sleep(0.01)
        await end([sending])
        assert receiver.positions == [position for position in expected(log, only) if position > after]

    filters = st.builds(
        EventFilter,
        types=st.one_of(st.just(()), st.lists(st.sampled_from(types), min_size=1, unique=True).map(tuple)),
        clients=st.lists(st.sampled_from(sites).map(lambda one: one.client_id), max_size=1).map(tuple),
        sites=st.lists(st.sampled_from(sites), max_size=2, unique=True).map(tuple),
    )

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(only=filters, after=st.one_of(st.just(0), st.integers(0, head)), seed=st.integers(0, 2**32))
    def property_(only: EventFilter, after: int, seed: int) -> None:
        asyncio.run_coroutine_threadsafe(deliver(only, after, seed), loop).result(70)

    try:
        await asyncio.to_thread(property_)
    finally:
        await pool.close()
