"""How the NATS servers fare, as whoever looks at the platform sees it."""

import asyncio

from gateways.agents.broker_states import BrokerStates, list_brokers
from gateways.agents.connection import connect
from tests.gateway.harness import Fleet
from tests.shape import NATS_SIZE


async def test_what_the_servers_say_of_themselves_is_kept(fleet: Fleet) -> None:
    """Each with its connections, what flows through it and whom it is with; a silent one is shown as that."""
    system = await connect(fleet.nats.urls, lambda: fleet.keys.system, "looker")
    states = BrokerStates(system, fleet.pool)
    async with fleet.pool.connection() as connection:
        async with asyncio.timeout(30):
            while len(await list_brokers(connection)) < NATS_SIZE:
                await states.look()
        found = await list_brokers(connection)
        assert sum(one.state.connections for one in found) >= 1  # who looks
        assert {one.state.routes > 0 for one in found} == {NATS_SIZE > 1}
        assert all(one.ok and not one.state.jetstream and not one.state.slow_consumers for one in found)
        # Another gateway that asks just then writes nothing; one that asks later tells what has flowed since.
        old = "UPDATE fleetlog.nats_servers SET seen_at = seen_at - interval '1 minute'"
        await connection.execute(old)
        assert not any(one.ok for one in await list_brokers(connection))
        await states.look()
        found = await list_brokers(connection)
        assert all(one.ok and one.state.in_messages_per_s is not None for one in found)
        await BrokerStates(system, fleet.pool).look()
        assert all(one.state.in_messages_per_s is not None for one in await list_brokers(connection))
        # One that was begun again has another id: the one before it is gone, and so is whoever left long ago.
        named = "UPDATE fleetlog.nats_servers SET server_id = 'before-' || server_id"
        await connection.execute(named)
        await states.look()
        assert {one.id for one in await list_brokers(connection)} == {one.id for one in found}
    await system.close()
