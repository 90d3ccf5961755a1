"""No command with hours leaves outside of them (invariant 5), and each leaves as they open."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.askers import Askers
from command_bus.handlers.delivery import Deliveries
from command_bus.keystore import Keystore
from command_bus.master_keys import NO_KEYS
from domain.commands import CommandExpired, CommandRequeued
from domain.hours import Hours, Weekday, encode_hours
from gateways.agents import open_hours
from gateways.agents.directory import Directory
from gateways.agents.leases import Leases, Settlement
from gateways.agents.orders import Orders
from gateways.agents.secrets import Secrets
from schema import wire
from tests.gateway.harness import Fleet

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1)
NIGHT = Hours(begins="22:00", ends="05:00", timezone="+00:00")
LONG = timedelta(days=20)


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def test_it_waits_for_its_hours_and_leaves_as_they_open(fleet: Fleet) -> None:
    """At noon it stays, though its agent is there and others pass it; at ten it goes, and may begin until five."""
    clock = Clock(NOON)
    await fleet.gateway(clock=clock)
    agent = await fleet.agent()
    await agent.hello()
    (nightly,) = await fleet.queue(agent.agent_id, hours=NIGHT, priority=0, expires_in=LONG)
    (plain,) = await fleet.queue(agent.agent_id, expires_in=LONG)
    await fleet.until_delivered(plain)
    assert [order.command_id for order in agent.received] == [plain]
    clock.now = NOON.replace(hour=22)
    await fleet.until_delivered(nightly)
    order = agent.received[-1]
    assert order.command_id == nightly
    assert order.expires_at == NOON.replace(hour=5) + timedelta(days=1)


times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 30]))
hours = st.builds(
    Hours,
    begins=times,
    ends=times,
    days=st.sets(st.sampled_from(list(Weekday)), min_size=1, max_size=6).map(lambda days: tuple(sorted(days))),
    timezone=st.sampled_from(["Europe/Berlin", "America/New_York", "+05:30"]),
)


async def test_no_moment_lets_one_leave_outside_its_hours(fleet: Fleet) -> None:
    """Whatever the hours and the moment: what a lease takes is what may begin then, and all of it."""
    clock = Clock(NOON)
    leases = Leases(fleet.pool, "g", clock)
    secrets = Secrets(fleet.log, Keystore(fleet.pool, NO_KEYS), Directory(fleet.log), "g")
    directory = Directory(fleet.log)
    orders = Orders(fleet.log, lambda: fleet.keys.delivery, clock, secrets, Askers(fleet.log), directory)
    loop = asyncio.get_running_loop()

    async def proof(several: list[Hours], minutes: list[int]) -> None:
        (identity,) = await fleet.identities()
        queued: dict[UUID, Hours | None] = {(await fleet.queue(identity.agent_id, expires_in=LONG))[0]: None}
        for one in several:
            queued[(await fleet.queue(identity.agent_id, hours=one, expires_in=LONG))[0]] = one
        leases.hours = open_hours.OpenHours()
        for minute in minutes:
            clock.now = NOON + timedelta(minutes=minute)
            (handover,) = await leases.take([identity.agent_id])
            may_begin = {key for key, one in queued.items() if one is None or one.open_at(clock.now)}
            assert {row.command_id for row in handover.orders} == may_begin
            packed = orders.pack(identity.agent_id, handover.orders, await orders.prepare(handover.orders))
            body = wire.decode_delivery_body(wire.decode_downlink(packed.message).body)  # type: ignore[union-attr]
            for order in body.orders:
                one = queued[order.command_id]
                assert one is None or order.expires_at == one.closing(clock.now)
            await leases.settle([Settlement(handover.agent_id, handover.fence, frozenset())])

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(several=st.lists(hours, min_size=1, max_size=5), minutes=st.lists(st.integers(0, 10_000), max_size=6))
    def property_(several: list[Hours], minutes: list[int]) -> None:
        asyncio.run_coroutine_threadsafe(proof(several, minutes), loop).result(60)

    await asyncio.to_thread(property_)


async def test_what_is_known_of_hours_is_looked_up_once_a_second(fleet: Fleet) -> None:
    """Hours that appear count as closed until the next look, which then tells of them as just opened, once."""
    known = open_hours.OpenHours()
    (identity,) = await fleet.identities()
    at_night = NOON.replace(hour=23)
    async with fleet.pool.connection() as connection:
        assert await known.opened(connection, at_night) == []
        await fleet.queue(identity.agent_id, 3, hours=NIGHT, expires_in=LONG)
        assert await known.open(connection, at_night) == []
        known._looked_at = time.monotonic() - open_hours.LOOK_EVERY_S
        text = encode_hours(NIGHT).decode()
        assert await known.opened(connection, at_night) == [text]
        assert await known.opened(connection, at_night) == []
        assert await known.opened(connection, NOON) == []
        assert await known.opened(connection, at_night) == [text]


async def test_what_could_not_begin_in_time_is_given_back_until_it_expires(fleet: Fleet) -> None:
    """An agent that had its lane full until five gives it back: it waits for the next night, and ends at its expiry."""
    clock = Clock(NOON.replace(hour=23))
    deliveries = Deliveries(fleet.log, clock)
    (identity,) = await fleet.identities()
    (command_id,) = await fleet.queue(identity.agent_id, hours=NIGHT, expires_in=timedelta(days=4))
    begins_by = NIGHT.closing(clock.now)
    for attempt in range(1, 10):
        clock.now = begins_by
        report = wire.ResultReport(command_id=command_id, attempt=attempt, outcome="expired")
        await deliveries.finished(identity.agent_id, report, "g")
        event = (await fleet.story(command_id))[-1]
        if isinstance(event, CommandExpired):
            break
        assert isinstance(event, CommandRequeued)
        assert event.not_before == NIGHT.opening(begins_by + timedelta(minutes=1))
        begins_by = NIGHT.closing(event.not_before)
    assert await fleet.state(command_id) == "expired"
    assert attempt > 2
