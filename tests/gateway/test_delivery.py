"""Commands reach their agents: at once, at check-in, in order, and never after they were called off."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from command_bus.ids import utc_now
from command_bus.intents.commands import CancelCommand, QueueCommand
from domain.agents import AgentConnected
from domain.commands import (
    CommandCancelled,
    CommandDelivered,
    CommandInterrupted,
    CommandRejected,
    CommandSucceeded,
)
from schema import wire
from tests.gateway.harness import Fleet


async def test_a_command_for_an_online_agent_is_delivered_at_once(fleet: Fleet) -> None:
    """Queuing it is all that it takes."""
    await fleet.gateway()
    agent = await fleet.agent()
    await agent.hello()
    (command_id,) = await fleet.queue(agent.agent_id)
    await agent.until(lambda: len(agent.received) == 1)
    assert agent.received[0].command_id == command_id
    await fleet.until_event(agent.agent_id, CommandDelivered)


async def test_what_waited_is_drained_in_order_when_the_agent_says_hello(fleet: Fleet) -> None:
    """Commands queued for an absent agent arrive by priority, then by position."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    late = await fleet.queue(identity.agent_id, 60)
    urgent = await fleet.queue(identity.agent_id, 1, priority=0)
    agent = await fleet.agent(identity)
    reply = await agent.hello()
    assert isinstance(reply, wire.HelloReply)
    assert reply.pending == 61
    await agent.until(lambda: len(agent.received) == wire.DELIVERY_WINDOW)
    await fleet.until_event(agent.agent_id, CommandDelivered, wire.DELIVERY_WINDOW)
    for order in list(agent.received):
        assert isinstance(await agent.finish(order), wire.Acknowledged)
    await agent.until(lambda: len(agent.received) == 61)
    assert [order.command_id for order in agent.received] == [*urgent, *late]
    assert agent.redelivered == 0


async def test_an_agent_whose_queue_is_empty_is_not_looked_at_for_its_room(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command after the other costs one lease each: that one has ended calls for no look at what is not there."""
    service = await fleet.gateway()
    looks: list[int] = []
    take = service._drain._leases.take_wanted

    async def counted(agent_ids: Sequence[UUID]) -> Any:
        looks.append(len(agent_ids))
        return await take(agent_ids)

    monkeypatch.setattr(service._drain._leases, "take_wanted", counted)
    agent = await fleet.agent()
    await agent.hello()
    for number in range(1, 6):
        await fleet.queue(agent.agent_id)
        await agent.until(lambda number=number: len(agent.received) == number)  # type: ignore[misc]
        await fleet.until_event(agent.agent_id, CommandDelivered, number)
        assert await agent.finish(agent.received[-1]) == wire.Acknowledged()
    assert looks == [1] * 5


async def test_a_result_is_acknowledged_after_its_commit_and_a_repeat_changes_nothing(fleet: Fleet) -> None:
    """The first answer is plain, the second says duplicate, and there is one event."""
    await fleet.gateway()
    agent = await fleet.agent()
    await agent.hello()
    (command_id,) = await fleet.queue(agent.agent_id)
    await agent.until(lambda: len(agent.received) == 1)
    assert await agent.finish(agent.received[0]) == wire.Acknowledged()
    assert any(isinstance(event, CommandSucceeded) for event in await fleet.story(command_id))
    assert await agent.finish(agent.received[0]) == wire.Acknowledged(detail="duplicate")
    assert sum(isinstance(event, CommandSucceeded) for event in await fleet.story(command_id)) == 1


async def test_a_hello_is_enough_to_be_delivered_to(fleet: Fleet) -> None:
    """It may come before the server's word that the agent has connected, and nothing else would wake the gateway."""
    service = await fleet.gateway()
    agent = await fleet.agent()
    await fleet.until_event(agent.agent_id, AgentConnected)
    service._presence._links.clear()
    (command_id,) = await fleet.queue(agent.agent_id)
    await agent.hello()
    await fleet.until_delivered(command_id)
    assert [order.command_id for order in agent.received] == [command_id]


async def test_a_cancelled_command_is_not_delivered(fleet: Fleet) -> None:
    """Cancelled while its agent is away, it has ended and the agent never sees it."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    first, second = await fleet.queue(identity.agent_id, 2)
    await fleet.dispatch(CancelCommand(command_id=first))
    assert await fleet.state(first) == "cancelled"
    agent = await fleet.agent(identity)
    await agent.hello()
    await agent.until(lambda: len(agent.received) == 1)
    assert agent.received[0].command_id == second


async def test_a_command_whose_delivery_was_not_answered_is_cancelled_only_by_its_agent(fleet: Fleet) -> None:
    """It may be there, so it is asked for; the tombstone then keeps it from ever running."""
    await fleet.gateway(lease_s=1.0)
    agent = await fleet.agent()
    heard = asyncio.Event()
    agent._answer = lambda _agent, _body: heard.set() or []
    await agent.hello()
    (command_id,) = await fleet.queue(agent.agent_id)
    await asyncio.wait_for(heard.wait(), 10)
    async with fleet.holds.hold(agent.agent_id) as in_flight:
        assert command_id in in_flight
    await fleet.dispatch(CancelCommand(command_id=command_id))
    await fleet.until_event(agent.agent_id, CommandCancelled)
    assert command_id in agent.tombstones


async def test_what_expires_between_its_lease_and_its_turn_is_not_sent(fleet: Fleet) -> None:
    """A gateway that is slow looks at the time again: what was in time when it was leased stays, the rest goes."""
    late = timedelta()
    settled = asyncio.Event()

    def on_step(step: str) -> None:
        nonlocal late
        if step == "leased":
            late += timedelta(minutes=10)
        elif step == "settled":
            settled.set()

    (identity,) = await fleet.identities()
    (short,) = await fleet.queue(identity.agent_id, expires_in=timedelta(minutes=5))
    (long,) = await fleet.queue(identity.agent_id)
    await fleet.gateway(clock=lambda: utc_now() + late, steps=on_step)
    agent = await fleet.agent(identity)
    await agent.hello()
    await asyncio.wait_for(settled.wait(), 20)
    assert [order.command_id for order in agent.received] == [long]
    assert await fleet.state(short) == "queued"
    async with fleet.holds.hold(identity.agent_id) as in_flight:
        assert short not in in_flight


async def test_a_lease_from_tomorrow_keeps_nobody_away(fleet: Fleet) -> None:
    """A gateway took a lease and died, and then the database's clock was put back a day: another takes over at once."""
    await fleet.gateway()
    agent = await fleet.agent()
    async with fleet.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO fleetlog.leases (agent_id, gateway, fence, expires_at, command_ids)"
            " VALUES (%s, 'dead', 1, now() + interval '1 day', '{}')",
            [agent.agent_id],
        )
    (command_id,) = await fleet.queue(agent.agent_id)
    await fleet.until_delivered(command_id)
    assert [order.command_id for order in agent.received] == [command_id]


async def test_two_gateways_hand_each_command_over_once(fleet: Fleet) -> None:
    """Both hear of everything; the leases let one of them deliver, and each lane keeps its order."""
    await fleet.gateway("gateway-1")
    await fleet.gateway("gateway-2")
    agents = [await fleet.agent(identity) for identity in await fleet.identities(5)]
    for agent in agents:
        await agent.hello()
    expected = {agent.agent_id: await fleet.queue(agent.agent_id, 10) for agent in agents}
    for agent in agents:
        await agent.until(lambda agent=agent: len(agent.received) == 10)  # type: ignore[misc]
        assert [order.command_id for order in agent.received] == expected[agent.agent_id]
        assert agent.redelivered == 0


async def test_presence_is_recorded_when_an_agent_comes(fleet: Fleet) -> None:
    """The server's word is enough, before any hello."""
    await fleet.gateway()
    agent = await fleet.agent()
    (event,) = await asyncio.wait_for(fleet.until_event(agent.agent_id, AgentConnected), 10)
    assert isinstance(event, AgentConnected)


async def test_what_an_agent_cannot_even_tell_apart_is_refused_in_its_story(fleet: Fleet) -> None:
    """A delivery that is refused for good is not sent again: each of its commands has ended, in the agent's words."""
    await fleet.gateway()
    agent = await fleet.agent()
    refusal = wire.encode(wire.Refused(code="unknown_kind", detail="This agent does not know 'delivery'."))
    agent.take = lambda _data: refusal  # type: ignore[method-assign]
    command_ids = await fleet.queue(agent.agent_id, 2)
    await agent.hello()
    await fleet.until_event(agent.agent_id, CommandRejected, 2)
    for command_id in command_ids:
        ending = (await fleet.story(command_id))[-1]
        assert isinstance(ending, CommandRejected)
        assert (ending.code, ending.detail) == ("unknown_kind", "This agent does not know 'delivery'.")


async def test_each_hello_is_answered_with_what_the_agent_is_taken_to_have(fleet: Fleet) -> None:
    """What it said it has and has not ended, signed: so it can tell what its own disk has lost. Nothing else."""
    await fleet.gateway()
    agent = await fleet.agent()
    other = await fleet.agent()
    for one in (agent, other):
        first = await one.hello()
        assert isinstance(first, wire.HelloReply)
        assert first.held is None
    ended, cancelled, kept, begun = await fleet.queue(agent.agent_id, 4)
    await fleet.queue(other.agent_id)
    await fleet.until_event(agent.agent_id, CommandDelivered, 4)
    await agent.ask(wire.StartedReport(command_id=begun, attempt=1, started_at=utc_now()))
    await agent.finish(next(order for order in agent.received if order.command_id == ended))
    await fleet.dispatch(CancelCommand(command_id=cancelled))
    reply = await agent.hello()
    assert isinstance(reply, wire.HelloReply)
    assert reply.held is not None
    agent._verify(reply.held.signature, wire.HELD_CONTEXT + reply.held.body)
    body = wire.decode_held_body(reply.held.body)
    named = {(one.command_id, one.attempt) for one in body.attempts}
    assert (body.agent_id, named) == (agent.agent_id, {(kept, 1), (begun, 1)})


async def test_what_a_machine_lost_is_interrupted_or_tried_again_where_that_is_allowed(fleet: Fleet) -> None:
    """It says so like any result, once however often: the story says why, and only a policy makes another attempt."""
    await fleet.gateway()
    agent = await fleet.agent()
    await agent.hello()
    (plain,) = await fleet.queue(agent.agent_id)
    done: Any = await fleet.dispatch(
        QueueCommand.model_validate(
            {
                "agent_id": agent.agent_id,
                "spec": {"kind": "ping"},
                "retry": {"max_attempts": 2, "on": ["interrupted"], "backoff_s": 0},
            }
        )
    )
    again = UUID(done.answer["id"])
    await fleet.until_event(agent.agent_id, CommandDelivered, 2)
    agent.journal.clear()
    for command_id in (plain, again, plain, again):
        lost = wire.ResultReport(
            command_id=command_id, attempt=1, outcome="interrupted", finished_at=utc_now(), detail="set back"
        )
        assert isinstance(await agent.ask(lost), wire.Acknowledged)
    ending = (await fleet.story(plain))[-1]
    assert isinstance(ending, CommandInterrupted)
    assert ending.result.detail == "set back"
    await agent.until(lambda: (again, 2) in agent.journal)
    requeued = [type(one).__name__ for one in await fleet.story(again)]
    assert requeued[:3] == ["CommandQueued", "CommandDelivered", "CommandRequeued"]
    assert "LateResultRecorded" not in requeued
