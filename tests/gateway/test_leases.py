"""What a gateway took and did not live to settle is found, and a lease costs no index anything."""

from typing import Any
from uuid import UUID

import psycopg

from command_bus.ids import utc_now
from domain.ids import AgentId
from gateways.agents.leases import Handover, Leases, Settlement
from tests.gateway.harness import Fleet

OVER_S = -1.0
"""A lease that is over as it is taken, as one is whose holder died."""


async def queued(fleet: Fleet, count: int) -> list[AgentId]:
    agent_ids = [one.agent_id for one in await fleet.identities(count)]
    for agent_id in agent_ids:
        await fleet.queue(agent_id)
    return agent_ids


async def takes(fleet: Fleet) -> int:
    async with fleet.pool.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM fleetlog.lease_takes")
        return int((await cursor.fetchone() or (0,))[0])


def settlement(handover: Handover, *unknown: UUID) -> Settlement:
    return Settlement(handover.agent_id, handover.fence, frozenset(unknown))


async def test_what_was_left_behind_is_found_until_somebody_takes_it_over(fleet: Fleet) -> None:
    """Those that were settled are not, of the same group; and nothing is kept of a group that is done with."""
    agent_ids = await queued(fleet, 4)
    dead, alive = Leases(fleet.pool, "dead", utc_now, lease_s=OVER_S), Leases(fleet.pool, "alive", utc_now)
    taken = {one.agent_id: one for one in await dead.take(agent_ids)}
    settled, unheard, *left = agent_ids
    # Whoever was asked and did not answer is asked again as what is queued for it is, and not as left behind.
    await dead.settle([settlement(taken[settled]), settlement(taken[unheard], *taken[unheard].command_ids)])
    assert set(await alive.left_behind()) == set(left)
    handovers = await alive.take(left[:1])
    assert handovers[0].took_over
    assert set(await alive.left_behind()) == set(left[1:])
    handovers += await alive.take(left[1:])
    assert await takes(fleet) == 3
    assert await alive.left_behind() == []
    # What is held and not over yet is still noted; the group that is over and done with is not.
    assert await takes(fleet) == 2
    await alive.settle([settlement(one) for one in handovers])
    assert await alive.left_behind() == []


async def test_what_was_taken_before_the_clock_was_put_back_is_left_behind(fleet: Fleet) -> None:
    """It would not be over for a day: whoever looks does not wait for that."""
    (agent_id,) = await queued(fleet, 1)
    tomorrow = Leases(fleet.pool, "dead", utc_now, lease_s=86_400)
    await tomorrow.take([agent_id])
    assert await Leases(fleet.pool, "alive", utc_now).left_behind() == [agent_id]


async def test_leases_write_no_index(fleet: Fleet) -> None:
    """Neither as they are taken nor as they are settled, once an agent was delivered to before."""
    agent_ids = await queued(fleet, 40)

    class One:
        """One connection, in one transaction."""

        def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
            self._connection = connection

        def connection(self) -> "One":
            return self

        async def __aenter__(self) -> psycopg.AsyncConnection[Any]:
            return self._connection

        async def __aexit__(self, *_: object) -> None:
            return None

    async def written(connection: psycopg.AsyncConnection[Any]) -> tuple[int, int]:
        cursor = await connection.execute(
            "SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)"
            " FROM pg_class WHERE oid = 'fleetlog.leases'::regclass"
        )
        changed, silent = await cursor.fetchone() or (0, 0)
        return changed, silent

    async with fleet.pool.connection() as connection:
        leases = Leases(One(connection), "g", utc_now)  # type: ignore[arg-type]
        handovers: list[Handover] = []
        for turn in range(3):
            for step in ("take", "settle"):
                async with connection.transaction():
                    before = await written(connection)
                    if step == "take":
                        handovers = await leases.take(agent_ids)
                        assert len(handovers) == len(agent_ids)
                    else:
                        await leases.settle([settlement(one) for one in handovers])
                    after = await written(connection)
                changed, silent = after[0] - before[0], after[1] - before[1]
                assert (changed, silent) == (len(agent_ids), len(agent_ids)), (turn, step)
