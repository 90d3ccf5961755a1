"""Two machines with one identity: whoever is there stays, the clone is shut out, until somebody says which it is."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.instance import this_run
from command_bus.ids import new_id
from command_bus.intents.agents import SettleDuplicate
from domain.agents import AgentConnected
from domain.duplicates import (
    AgentDuplicateNoticed,
    AgentDuplicateSettled,
    Duplicates,
    Sighting,
    Stays,
    duplicates_stream,
)
from domain.errors import NoDuplicateError
from domain.ids import AgentId, ClientId
from gateways.agents import presence
from gateways.agents.duplicates import Doorkeeper
from gateways.bench.simulated import SimulatedAgent, SimulatedIdentity
from schema import wire
from tests.agent.scripted import AgentProcess
from tests.gateway.harness import Fleet
from tests.gateway.test_access import refused
from tests.gateway.test_agent_keys import RealAgent, succeeded

__all__ = ["RealAgent"]


def machine(fleet: Fleet, identity: SimulatedIdentity, name: str, run: str = "1") -> SimulatedAgent:
    """One of those that hold an identity."""
    agent = fleet.simulate(identity)
    agent.who = wire.Instance(instance=f"{name}-{run}", machine=f"m-{name}", hostname=name)
    return agent


async def noticed(fleet: Fleet, agent_id: AgentId) -> list[Any]:
    return [one for one in await fleet.story(duplicates_stream(agent_id)) if isinstance(one, AgentDuplicateNoticed)]


async def there(fleet: Fleet, agent: SimulatedAgent) -> None:
    """Connect, and wait until every gateway has heard of it."""
    await agent.connect(fleet.nats.urls)
    async with asyncio.timeout(10):
        for service in fleet.services:
            while True:
                if any(one.who == agent.who for one in service._presence.there(agent.agent_id)):
                    break
                await asyncio.sleep(0.01)


async def test_a_clone_is_shut_out_and_stays_out(fleet: Fleet) -> None:
    """The clone of a machine that is there is not let in, now or later; what is ordered is done by one, once."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    original = machine(fleet, identity, "original")
    await there(fleet, original)
    for run in "123":
        assert await refused(machine(fleet, identity, "clone", run), fleet)
    (event,) = await noticed(fleet, identity.agent_id)
    assert (event.present.hostname, event.newcomer.hostname) == ("original", "clone")
    assert event.present.address == event.newcomer.address == "127.0.0.1"
    (command_id,) = await fleet.queue(identity.agent_id)
    await fleet.until_delivered(command_id)
    assert [order.command_id for order in original.received] == [command_id]
    assert original.redelivered == 0
    await original.close()
    assert await refused(machine(fleet, identity, "clone", "at-night"), fleet), (
        "the original is away, and it is a clone"
    )
    await there(fleet, machine(fleet, identity, "original", "2"))


async def test_a_machine_that_came_back_is_no_clone(fleet: Fleet) -> None:
    """After its power was cut, a connection of it still stands; nobody answers there, so it is let in at once."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    before = machine(fleet, identity, "same")

    async def silence(_: Any) -> None:
        """As a machine without power."""

    before._on_request = silence  # type: ignore[method-assign]
    await there(fleet, before)
    await there(fleet, machine(fleet, identity, "same", "2"))
    assert await noticed(fleet, identity.agent_id) == []


async def test_the_same_run_may_connect_twice(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that lost its server without the server's knowing comes back without being asked anything."""

    async def nobody(*_: Any, **__: Any) -> list[Any]:
        raise AssertionError("It was asked for a sign of life.")

    await fleet.gateway()
    monkeypatch.setattr(presence, "CROWD_S", 60.0)
    monkeypatch.setattr(Doorkeeper, "_signs_of_life", nobody)
    (identity,) = await fleet.identities()
    for _ in range(2):
        await there(fleet, machine(fleet, identity, "same"))


@pytest.mark.parametrize("stays", list(Stays))
async def test_somebody_says_which_of_them_stays(fleet: Fleet, stays: Stays, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that stays comes in, the other one is disconnected and stays out, at every gateway and from then on."""
    monkeypatch.setattr(presence, "_KICK_AGAIN_S", (0.0, 0.2, 0.2))
    for name in ("gateway-1", "gateway-2"):
        await fleet.gateway(name)
    (identity,) = await fleet.identities()
    original = machine(fleet, identity, "original")
    await there(fleet, original)
    assert await refused(machine(fleet, identity, "clone"), fleet)
    await fleet.dispatch(SettleDuplicate(agent_id=identity.agent_id, stays=stays, reason="looked at both"))
    await fleet.until_event(identity.agent_id, AgentDuplicateSettled)
    winner, loser = ("original", "clone") if stays is Stays.PRESENT else ("clone", "original")
    if stays is Stays.NEWCOMER:
        await asyncio.wait_for(original.closed.wait(), 10)
        async with asyncio.timeout(10):
            while True:
                if not await refused(machine(fleet, identity, winner, "2"), fleet):
                    break
                await asyncio.sleep(0.05)
    assert await refused(machine(fleet, identity, loser, "3"), fleet)
    with pytest.raises(NoDuplicateError):
        await fleet.dispatch(SettleDuplicate(agent_id=identity.agent_id, stays=stays))


async def test_two_that_came_at_the_same_moment_are_told_apart(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let in by two gateways that knew of neither, the later one is found by its connection, and ended."""

    async def everybody(*_: Any) -> None:
        """As a gateway that has not heard of the other connection yet."""

    monkeypatch.setattr(presence, "CROWD_S", 0.1)
    monkeypatch.setattr(Doorkeeper, "admit", everybody)
    await fleet.gateway()
    (identity,) = await fleet.identities()
    original, clone = machine(fleet, identity, "original"), machine(fleet, identity, "clone")
    await there(fleet, original)
    await there(fleet, clone)
    await asyncio.wait_for(clone.closed.wait(), 10)
    (event,) = await noticed(fleet, identity.agent_id)
    assert (event.present.hostname, event.newcomer.hostname) == ("original", "clone")
    assert not original.closed.is_set()


async def test_a_copied_state_folder(fleet: Fleet, data_dir: Path) -> None:
    """The endpoint program itself, twice on one identity: the first goes on, and the second is named."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    original = RealAgent(fleet, identity, data_dir / "agent")
    clone = AgentProcess(data_dir / "clone")
    try:
        original.process.start()
        await fleet.until_event(identity.agent_id, AgentConnected)
        shutil.copytree(original.folder, clone.state_dir)
        clone.start()
        (event,) = await fleet.until_event(identity.agent_id, AgentDuplicateNoticed)
        assert isinstance(event, AgentDuplicateNoticed)
        assert event.newcomer.machine == this_run(clone.state_dir).machine != event.present.machine
        assert event.present.machine == this_run(original.folder).machine
        for command_id in await fleet.queue(identity.agent_id, 3):
            await succeeded(fleet, command_id)
    finally:
        original.process.clean_up()
        clone.clean_up()


@given(st.text(max_size=300), st.binary(max_size=50))
def test_what_a_connection_calls_itself_is_taken_for_what_it_is(name: str, data: bytes) -> None:
    """Whatever a stranger calls a connection, it is read without harm; and what an agent says is read back."""
    read = wire.read_connection_name(name)
    assert read is None or all(len(part) <= 64 and part.isprintable() for part in (read.instance, read.machine))
    who = wire.Instance(instance="a", machine="b", hostname=name)
    again = wire.read_connection_name(wire.connection_name(new_id(), who))
    assert again is None or (again.instance, again.machine) == ("a", "b")
    assert data is not None


MACHINES = st.sampled_from(["", "a", "b", "c"])


@given(st.lists(st.tuples(MACHINES, MACHINES, st.sampled_from([None, *Stays])), max_size=10))
def test_whoever_stays_is_never_shut_out(steps: list[tuple[str, str, Stays | None]]) -> None:
    """Whatever is noticed and settled in whatever order, the machine that was said to stay may come in."""
    duplicates = Duplicates.of(AgentId(new_id()), ClientId(new_id()))

    def seen(name: str) -> Sighting:
        return Sighting(address="x", hostname=name, machine=name, instance=name)

    for present, newcomer, stays in steps:
        if stays is None:
            duplicates.notice(seen(present), seen(newcomer))
        elif duplicates.open is not None:
            open_ = duplicates.open
            duplicates.settle(stays, "")
            winner = open_.present if stays is Stays.PRESENT else open_.newcomer
            assert winner.machine not in duplicates.barred
        else:
            with pytest.raises(NoDuplicateError):
                duplicates.settle(stays, "")
        assert "" not in duplicates.barred


async def test_a_connection_without_a_name_is_no_clone(fleet: Fleet) -> None:
    """An agent that is too old to say which machine it is comes in as before."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    for _ in range(2):
        agent = fleet.simulate(identity)
        agent.who = wire.Instance(instance="", machine="", hostname="")
        try:
            await agent.connect(fleet.nats.urls)
        except nats.errors.Error as error:
            raise AssertionError("It was not let in.") from error
