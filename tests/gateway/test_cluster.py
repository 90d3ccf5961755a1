"""A cluster of three NATS servers: agents and gateways on any of them, and one of them killed."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from command_bus.event_log import Selection
from command_bus.ids import new_id, utc_now
from command_bus.intents.rollouts import Include, Limits, StartRollout, Target
from command_bus.postgres import app_conninfo
from command_bus.rollouts import FanOut
from domain.agents import AgentConnected, AgentDisconnected
from domain.ids import AgentId
from gateways.agents.greeting import greeting, greetings
from gateways.agents.live import LiveOutput
from gateways.bench.simulated import SimulatedAgent
from gateways.composition.scheduler import RolloutProgress
from gateways.local.servers import EmbeddedNats, EmbeddedNatsCluster
from gateways.simulate.agent import SimulatedMachine, World
from gateways.simulate.plan import Plan
from projections.rollout_reads import RolloutReader
from projections.runner import Projector
from projections.tables import create_tables
from projections.wait import PositionWaiter
from schema import wire
from tests.gateway.harness import Fleet, open_fleet

AGENTS = int(os.environ.get("FLEETLOG_TEST_CLUSTER_AGENTS", "60"))
PATIENCE_S = 60
GONE_WITHIN_S = 10


@pytest.fixture
async def fleet(postgres_url: str, data_dir: Path) -> AsyncIterator[Fleet]:
    await create_tables(postgres_url)
    async with open_fleet(postgres_url, data_dir, nats_size=3) as fleet:
        yield fleet


def nodes(fleet: Fleet) -> list[EmbeddedNats]:
    assert isinstance(fleet.nats, EmbeddedNatsCluster)
    return fleet.nats.nodes


def kill(node: EmbeddedNats) -> None:
    assert node.pid is not None
    os.kill(node.pid, signal.SIGKILL)


class Watched(SimulatedAgent):
    """Says what it prints once somebody watches, as the real agent does."""

    async def _on_request(self, message: Msg) -> None:
        request = wire.decode_downlink(message.data)
        if isinstance(request, wire.OutputWatch):
            piece = wire.OutputLive(
                command_id=request.command_id, attempt=1, stream="stdout", offset=0, data=b"half of it"
            )
            await self.client.publish(wire.live_subject(self.agent_id, request.command_id), wire.encode(piece))
        await super()._on_request(message)


async def test_commands_and_live_output_cross_the_routes(fleet: Fleet) -> None:
    """Gateway, agent and watcher on a server each: a command is delivered, its output watched, its result recorded."""
    of_gateway, of_agent, of_watcher = (node.url for node in nodes(fleet))
    await fleet.gateway(urls=[of_gateway])
    (identity,) = await fleet.identities()
    agent = Watched(identity, fleet.keys.delivery.public)
    await agent.connect([of_agent])
    await agent.hello()
    (command_id,) = await fleet.queue(agent.agent_id)
    await agent.until(lambda: len(agent.received) == 1)
    live = LiveOutput(fleet.log, fleet.masks, fleet.url, [of_watcher], "watcher")
    await live.start()
    try:
        async with asyncio.timeout(PATIENCE_S), live.follow(command_id) as pieces:
            assert (await anext(pieces)).data == b"half of it"
    finally:
        await live.stop()
    assert isinstance(await agent.finish(agent.received[0]), wire.Acknowledged)
    assert await fleet.state(command_id) == "succeeded"
    await agent.close()


async def test_a_killed_server_takes_its_agents_with_it(fleet: Fleet) -> None:
    """It cannot say who has left it: its agents are found to be gone within seconds, those of the others are not."""
    *others, doomed = nodes(fleet)
    await fleet.gateway("gateway-1", urls=[others[0].url])
    await fleet.gateway("gateway-2", urls=[others[1].url])
    identities = await fleet.identities(6)
    agents = [fleet.simulate(identity) for identity in identities]
    for agent, node in zip(agents, [*others, doomed] * 2, strict=True):
        await agent.connect([node.url])
    lost = {agents[2].agent_id, agents[5].agent_id}
    for agent in agents:
        await fleet.until_event(agent.agent_id, AgentConnected)
    kill(doomed)
    assert (await greetings(fleet.nats.urls))[1] == [doomed.url]
    assert await greeting([doomed.url, others[0].url]) == (await greetings(fleet.nats.urls))[0]
    async with asyncio.timeout(GONE_WITHIN_S):
        for agent_id in lost:
            await fleet.until_event(agent_id, AgentDisconnected)
    # One that comes back by another server is there again, and nobody takes the old connection's end for its own.
    await agents[2].connect([others[0].url])
    await fleet.until_event(agents[2].agent_id, AgentConnected, 2)
    departures = await fleet.log.read(Selection(types=("AgentDisconnected",)), after=0, limit=100)
    assert Counter(one.agent_id for one in departures) == Counter(lost)


async def test_a_server_killed_in_the_middle_of_a_rollout(fleet: Fleet) -> None:
    """Three gateways, agents on three servers, one of these killed: its agents come back, each command runs once."""
    names = [f"gateway-{number}" for number in range(3)]
    for name, node in zip(names, nodes(fleet), strict=True):
        # Each begins at a server of its own, and knows the others.
        await fleet.gateway(name, urls=[node.url, *fleet.nats.urls], lease_s=2)
    identities = await fleet.identities(AGENTS)
    async with rolling_out(fleet), asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as over:
        world = World(Plan(run_s=0.05, failing=0), fleet.nats.urls, tasks)
        over.callback(world.end)
        machines = [
            SimulatedMachine(identity, fleet.keys.delivery.public, world, number)
            for number, identity in enumerate(identities)
        ]
        for machine in machines:
            machine.arrive()
        await asyncio.gather(*(fleet.until_event(machine.agent_id, AgentConnected) for machine in machines))
        rollouts = [await start(fleet, [machine.agent_id for machine in machines]) for _ in range(3)]
        while world.checks.runs < AGENTS:  # noqa: ASYNC110 -- each of many agents would have an event of its own
            await asyncio.sleep(0.01)
        kill(nodes(fleet)[2])
        async with asyncio.timeout(PATIENCE_S):
            while world.checks.runs < len(rollouts) * AGENTS or not all(map(at_rest, machines)):  # noqa: ASYNC110 -- as above
                await asyncio.sleep(0.05)
        await asyncio.gather(*(machine.leave() for machine in machines))
    assert world.counts["lost"] > 0, "nobody was on the server that was killed"
    assert world.checks.broken == {}
    assert world.checks.out_of_order == []
    assert world.checks.runs == len(rollouts) * AGENTS
    stories: dict[object, Counter[str]] = {}
    recorded = await fleet.log.read(Selection(), after=0, limit=100_000)
    for one in recorded:
        stories.setdefault(one.originator_id, Counter())[type(one.event).__name__] += 1
    lives = [story for story in stories.values() if story["CommandQueued"]]
    assert len(lives) == len(rollouts) * AGENTS
    assert all(story["CommandSucceeded"] == story["CommandStarted"] == 1 for story in lives), lives


def at_rest(machine: SimulatedMachine) -> bool:
    return machine.idle and machine.online.is_set()


async def start(fleet: Fleet, agent_ids: list[AgentId]) -> object:
    return await fleet.dispatch(
        StartRollout(
            name="a ping for everybody",
            target=Target(include=Include(agents=agent_ids)),
            spec={"kind": "ping"},
            limits=Limits(in_flight=20),
        )
    )


@contextlib.asynccontextmanager
async def rolling_out(fleet: Fleet) -> AsyncIterator[None]:
    """The projector, and what moves rollouts on."""
    projector, waiter = Projector(app_conninfo(fleet.url)), PositionWaiter(app_conninfo(fleet.url))
    await projector.start()
    await waiter.start()
    fan_out = FanOut(fleet.log, fleet.holds, RolloutReader(fleet.pool.connection), RolloutProgress(waiter), new_id)

    async def turn() -> None:
        while True:
            await fan_out.turn(utc_now())
            await fan_out.wait(0.2)

    task = asyncio.create_task(turn())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await waiter.stop()
        await projector.stop()
