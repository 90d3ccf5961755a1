"""What waits for a machine is handed over only while whoever asked for it still may ask for it."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

import command_bus.askers
from command_bus.context import Caller
from command_bus.event_log import Selection
from command_bus.handlers.delivery import WITHDRAWN
from command_bus.ids import new_id
from command_bus.intents.api_keys import CreateApiKey, RevokeApiKey
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.commands import Ping, QueueCommand, RunShell, Spec
from command_bus.intents.grants import Grant
from command_bus.intents.users import CreateUser, DisableUser, EnableUser, GrantRoles
from domain.commands import CommandCancelled, CommandCancelRequested, CommandSucceeded
from domain.ids import AgentId, ClientId, SiteId
from domain.scripts import Shell
from gateways.bench.simulated import enroll_simulated
from projections.pending import list_pending
from schema import wire
from tests.gateway.harness import Fleet
from tests.gateway.test_http_duplicates import Machine as HttpMachine
from tests.gateway.test_http_duplicates import Process
from tests.gateway.test_lives import Machine

OPERATOR = Grant(role="operator", everything=True)
LINE = RunShell(shell=Shell.SH, line="true")


class Someone:
    """A user, and what they ask for: by themselves, or with a key of theirs."""

    def __init__(self, fleet: Fleet, user_id: UUID) -> None:
        self.fleet = fleet
        self.user_id = user_id
        self.actor = f"user:{user_id}"

    @classmethod
    async def make(cls, fleet: Fleet, name: str) -> "Someone":
        return cls(fleet, await made(fleet, CreateUser(name=name, grants=[OPERATOR])))

    async def key(self) -> UUID:
        return await made(self.fleet, CreateApiKey(name="laptop", owner_id=self.user_id))

    async def queue(self, agent_id: AgentId, spec: Spec | None = None, *, key: UUID | None = None) -> UUID:
        caller = Caller(actor=f"key:{key}" if key is not None else self.actor, correlation_id=new_id())
        intent = QueueCommand(agent_id=agent_id, spec=spec or LINE, priority=4)
        return UUID((await self.fleet.bus.dispatch(intent, caller)).answer["id"])


async def made(fleet: Fleet, intent: Any) -> UUID:
    return UUID((await fleet.bus.dispatch(intent, Caller(actor="system", correlation_id=new_id()))).answer["id"])


@pytest.fixture
async def ada(fleet: Fleet) -> Someone:
    return await Someone.make(fleet, "Ada")


@pytest.fixture
async def bob(fleet: Fleet) -> Someone:
    return await Someone.make(fleet, "Bob")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[UUID]:
    """How often what somebody may do was read."""
    found: Counter[UUID] = Counter()
    read = command_bus.askers.user_access

    async def counted(log: Any, user_id: UUID, hint: Any = ()) -> Any:
        found[user_id] += 1
        return await read(log, user_id, hint)

    monkeypatch.setattr(command_bus.askers, "user_access", counted)
    return found


async def called_off(fleet: Fleet, agent_id: AgentId, *command_ids: UUID) -> None:
    """Wait until these are called off, each once and by a gateway; nothing of them waits any more."""
    await fleet.until_event(agent_id, CommandCancelled, len(command_ids))
    for command_id in command_ids:
        story = await fleet.log.read(Selection(stream_id=command_id))
        assert [type(one.event).__name__ for one in story] == ["CommandQueued", "CommandCancelled"]
        assert story[-1].event == CommandCancelled(reason=WITHDRAWN)
        assert story[-1].actor.startswith("gateway:")
        assert story[-1].correlation_id == story[0].correlation_id
    async with fleet.pool.connection() as connection:
        waiting = await list_pending(connection, agent_id, client_ids=None)
    assert {row.command_id for row in waiting.items}.isdisjoint(command_ids)


async def test_what_somebody_asked_for_is_not_done_after_they_were_shut_out(
    fleet: Fleet, ada: Someone, bob: Someone
) -> None:
    """A user who is disabled, and a key that is revoked: whichever gateway meets it, others' commands go on."""
    agents = await fleet.identities(4)
    key = await bob.key()
    theirs = [[await ada.queue(one.agent_id), await bob.queue(one.agent_id, key=key)] for one in agents]
    kept = [await bob.queue(one.agent_id) for one in agents]
    # Shut out and let in again before the machine came: it is as if nothing had been.
    await made(fleet, DisableUser(user_id=bob.user_id))
    await made(fleet, EnableUser(user_id=bob.user_id))
    await made(fleet, DisableUser(user_id=ada.user_id))
    await made(fleet, RevokeApiKey(key_id=key))
    await fleet.gateway("gateway-1")
    await fleet.gateway("gateway-2")
    for identity, withdrawn, command_id in zip(agents, theirs, kept, strict=True):
        agent = await fleet.agent(identity)
        await agent.hello()
        await fleet.until_delivered(command_id)
        await called_off(fleet, agent.agent_id, *withdrawn)
        assert [order.command_id for order in agent.received] == [command_id]
        assert isinstance(await agent.finish(agent.received[0]), wire.Acknowledged)
        assert isinstance((await fleet.story(command_id))[-1], CommandSucceeded)


async def test_a_change_counts_at_once_and_costs_no_read_until_there_is_one(
    fleet: Fleet, ada: Someone, reads: Counter[UUID]
) -> None:
    """What somebody may do is read once for all that they queue; narrowed, it is judged by kind and by place."""
    client = await made(fleet, CreateClient(name="Globex"))
    site = await made(fleet, CreateSite(client_id=client, name="Main"))
    (elsewhere,) = await enroll_simulated(fleet.log, 1, ClientId(client), SiteId(site))
    await fleet.gateway()
    agent = await fleet.agent()
    for number in range(1, 6):
        await fleet.until_delivered(await ada.queue(agent.agent_id))
        assert len(agent.received) == number
        assert isinstance(await agent.finish(agent.received[-1]), wire.Acknowledged)
    assert reads[ada.user_id] == 1
    # Here she may run scripts from now on; there everything.
    grants = [Grant(role="helpdesk", everything=True), Grant(role="operator", clients=[client])]
    await made(fleet, GrantRoles(user_id=ada.user_id, grants=grants))
    here, there = await ada.queue(agent.agent_id), await ada.queue(elsewhere.agent_id)
    ping = await ada.queue(agent.agent_id, Ping())
    other = await fleet.agent(elsewhere)
    await other.hello()
    await fleet.until_delivered(ping)
    await fleet.until_delivered(there)
    await called_off(fleet, agent.agent_id, here)
    assert [order.command_id for order in other.received] == [there]
    assert reads[ada.user_id] == 2


async def test_what_may_have_arrived_is_asked_back(fleet: Fleet, ada: Someone) -> None:
    """An order that was sent and not answered is asked of the machine, which says what has become of it: one ending."""
    service = await fleet.gateway(lease_s=2.0)
    (identity,) = await fleet.identities()
    agent = Machine(identity, fleet.keys.delivery.public)
    fleet._agents.append(agent)
    agent.mood = "mute"
    await agent.connect(fleet.nats.urls)
    command_id = await ada.queue(agent.agent_id)
    await agent.until(lambda: len(agent.received) == 1)
    await made(fleet, DisableUser(user_id=ada.user_id))
    service._drain.wake([agent.agent_id])
    await fleet.until_event(agent.agent_id, CommandCancelRequested)
    agent.mood = "well"
    await agent.hello()
    await agent.until(lambda: command_id in agent.told_to_end)
    order = agent.received[0]
    assert isinstance(await agent.finish(order, "cancelled"), wire.Acknowledged)
    story = [type(event).__name__ for event in await fleet.story(command_id)]
    assert story[:2] == ["CommandQueued", "CommandCancelRequested"]
    assert [name for name in story if name == "CommandCancelled"] == ["CommandCancelled"]


@pytest.fixture
async def process(fleet: Fleet) -> AsyncIterator[Process]:
    started = Process(fleet, "api-1")
    await started.start()
    yield started
    while HttpMachine.clients:
        await HttpMachine.clients.pop().aclose()
    await started.stop()


async def test_over_http_it_is_the_same(fleet: Fleet, process: Process, ada: Someone) -> None:
    """A machine that checks in over HTTP is not handed it either."""
    (identity,) = await fleet.identities()
    machine = HttpMachine(identity, "a")
    theirs = await ada.queue(identity.agent_id)
    await made(fleet, DisableUser(user_id=ada.user_id))
    assert await machine.check_in(process) == "ok"
    await called_off(fleet, identity.agent_id, theirs)
