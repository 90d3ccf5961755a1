"""What is open of a retired agent ends, whichever of the two came first; and to look for it costs next to nothing."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from command_bus.handlers import housekeeping
from command_bus.handlers.housekeeping import Housekeeping
from command_bus.ids import new_id, utc_now
from command_bus.intents.agents import RetireAgent
from domain.ids import AgentId
from projections.pending import QueueReader
from tests.gateway.harness import Fleet


class Counted(QueueReader):
    """The queues, and how often somebody's was looked into."""

    looks = 0

    async def open_of(self, agent_ids: Sequence[UUID], limit: int) -> list[tuple[UUID, AgentId]]:
        self.looks += 1
        return await super().open_of(agent_ids, limit)


async def test_what_is_open_of_a_retired_agent_ends(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queued before it was retired, or after, as by a rollout that had it in its target: it ends at the next look."""
    monkeypatch.setattr(housekeeping, "LOOKED_AT", 2)
    agents = [one.agent_id for one in await fleet.identities(6)]
    queues = Counted(fleet.pool.connection)
    keeper = Housekeeping(fleet.log, fleet.holds, queues, new_id)
    before = {agent_id: await fleet.queue(agent_id, 2) for agent_id in agents}
    assert await keeper.abandon_retired(utc_now()) == 0
    for agent_id in agents[:5]:
        await fleet.dispatch(RetireAgent(agent_id=agent_id))
    ended = 0
    while done := await keeper.abandon_retired(utc_now()):
        ended += done
    assert ended == 10
    assert [await fleet.state(one) for one in before[agents[0]]] == ["cancelled", "cancelled"]
    assert [await fleet.state(one) for one in before[agents[5]]] == ["queued", "queued"]
    (late,) = await fleet.queue(agents[3])
    await fleet.queue(agents[5])
    assert await keeper.abandon_retired(utc_now()) == 1
    assert await fleet.state(late) == "cancelled"


async def test_where_nothing_happened_no_queue_is_looked_into(fleet: Fleet) -> None:
    """However many were ever retired; and a scheduler that takes over reads who was, and what is queued, once."""
    agents = [one.agent_id for one in await fleet.identities(4)]
    for agent_id in agents[:3]:
        await fleet.dispatch(RetireAgent(agent_id=agent_id))
    await fleet.queue(agents[3])
    queues = Counted(fleet.pool.connection)
    keeper = Housekeeping(fleet.log, fleet.holds, queues, new_id)
    assert await keeper.abandon_retired(utc_now()) == 0
    looks = queues.looks
    assert looks >= 1
    await fleet.queue(agents[3], 3)
    for _ in range(3):
        assert await keeper.abandon_retired(utc_now()) == 0
    assert queues.looks == looks
