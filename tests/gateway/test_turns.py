"""Nobody waits longer than its turn: for those before it in its own lane, and a round of the others for each."""

import asyncio
from functools import partial
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from command_bus.ids import new_id, utc_now
from domain.commands import Command, CommandQueued, Ping
from domain.event import Metadata
from domain.ids import ClientId, derived_id
from gateways.agents.places import Places
from gateways.bench.simulated import SimulatedAgent, enroll_simulated, in_groups
from gateways.turns import Turns
from schema import wire
from tests.gateway.harness import SITE, Fleet

A, B = ClientId(UUID(int=0xA)), ClientId(UUID(int=0xB))
Step = tuple[str, int, int]


@given(st.lists(st.tuples(st.sampled_from(["add", "discard", "take"]), st.integers(0, 3), st.integers(0, 40))))
def test_turns(steps: list[Step]) -> None:
    """Whatever is added and taken: each item comes once, in its lane's order, and no lane twice in a round."""
    turns: Turns[int, int] = Turns()
    waiting: dict[int, list[int]] = {lane: [] for lane in range(4)}
    for kind, lane, item in steps:
        held = next((one for one, items in waiting.items() if item in items), None)
        if kind == "add":
            turns.add(lane, item)
            if held is None:
                waiting[lane].append(item)
        elif kind == "discard":
            turns.discard(item)
            if held is not None:
                waiting[held].remove(item)
        else:
            lanes = {one for one, items in waiting.items() if items}
            taken = turns.take(item)
            assert len(taken) == min(item, sum(map(len, waiting.values())))
            took = [next(one for one, items in waiting.items() if number in items) for number in taken]
            assert set(took[: len(lanes)]) == (lanes if len(taken) >= len(lanes) else set(took))
            for number, one in zip(taken, took, strict=True):
                assert waiting[one].pop(0) == number
        assert len(turns) == sum(map(len, waiting.values()))
        assert all((number in turns) == any(number in items for items in waiting.values()) for number in range(41))


async def test_who_hangs_does_not_use_up_the_places() -> None:
    """A hundred that never end hold two places for a moment each; whoever comes then gets one, and nobody two."""
    places = Places(2, 0.01)
    hang = asyncio.Event()

    async def hanging() -> None:
        async with places.take():
            await hang.wait()

    tasks = [asyncio.create_task(hanging()) for _ in range(100)]
    async with asyncio.timeout(20), places.take():
        hang.set()
        await asyncio.gather(*tasks)
    inside = 0
    most = 0

    async def quick() -> None:
        nonlocal inside, most
        async with places.take():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(quick() for _ in range(50)))
    assert most == 2


class Deaf(SimulatedAgent):
    """Is connected and does not answer orders until it is let."""

    def __init__(self, *arguments: object, may: asyncio.Event) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # as its parent's
        self.may = may

    async def _on_request(self, message: object) -> None:
        await self.may.wait()
        await super()._on_request(message)  # type: ignore[arg-type]  # as its parent's


async def roll_out(fleet: Fleet, agents: list[SimulatedAgent], client_id: ClientId) -> list[UUID]:
    """A command for each, as a rollout queues them."""
    rollout_id = new_id()
    changes = []
    for agent in agents:
        command = Command(derived_id("rollout", rollout_id, agent.agent_id))
        queued = CommandQueued(
            agent_id=agent.agent_id,
            client_id=client_id,
            site_id=SITE,
            spec=Ping(),
            lane="default",
            priority=5,
            expires_at=utc_now().replace(year=utc_now().year + 1),
        )
        changes.append(command.queue(queued, utc_now()))
    await fleet.log.append_bulk(changes, Metadata(actor="system", correlation_id=new_id()))
    return [change.originator_id for change in changes]


async def test_anothers_rollout_keeps_no_single_command_waiting(fleet: Fleet) -> None:
    """B's command is delivered while not one of A's hundred agents, whose rollout came before, has answered."""
    # A gateway that asks only a few at once, so that the rollout alone would use all of its places many times over.
    gateway = await fleet.gateway(concurrency=8)
    may = asyncio.Event()
    theirs = [
        Deaf(identity, fleet.keys.delivery.public, may=may)
        for identity in await enroll_simulated(fleet.log, 100, A, SITE)
    ]
    await in_groups([partial(agent.connect, fleet.nats.urls) for agent in theirs], 20)
    try:
        mine = await fleet.agent((await enroll_simulated(fleet.log, 1, B, SITE))[0])
        assert isinstance(await mine.hello(60.0), wire.HelloReply)
        await in_groups([partial(agent.hello, 60.0) for agent in theirs], 20)
        commands = await roll_out(fleet, theirs, A)  # type: ignore[arg-type]  # a list of a subclass
        command_id = (await fleet.queue(mine.agent_id, client_id=B))[0]
        async with asyncio.timeout(30):
            await fleet.until_delivered(command_id)
        assert await fleet.state(commands[0]) == "queued"
        assert not any(agent.received for agent in theirs)
        may.set()
        async with asyncio.timeout(60):
            for one in commands:
                await fleet.until_delivered(one)
    finally:
        may.set()
        for agent in theirs:
            await agent.close()
    assert gateway.connected
