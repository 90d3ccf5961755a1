"""A log that was restored from a backup knows less than its agents, and asks them."""

from datetime import timedelta

from command_bus.ids import new_id, utc_now
from domain.event import Change, Metadata
from domain.restores import LogRestored
from domain.strays import StrayResultRecorded
from schema import wire
from tests.gateway.harness import Fleet
from tests.gateway.test_refusals import ask, connected, result


async def restored(fleet: Fleet) -> str:
    """Have the log say that it is what an hour-old backup held; returns the occasion's name."""
    occasion = new_id()
    event = LogRestored(made_at=utc_now() - timedelta(hours=1), head=await fleet.log.head())
    await fleet.log.append([Change(occasion, 1, event)], Metadata(actor="restore", correlation_id=occasion))
    return str(occasion)


async def test_agents_are_asked_for_what_was_lost(fleet: Fleet) -> None:
    """Each hello is answered with the occasion, and with the moment from which on results are wanted again."""
    occasion = await restored(fleet)
    await fleet.gateway()
    agent = await connected(fleet)
    reply = await agent.hello()
    assert isinstance(reply, wire.HelloReply)
    assert reply.repeat == occasion
    assert reply.repeat_since is not None
    assert reply.repeat_since < utc_now() - timedelta(hours=1)


async def test_a_result_of_a_lost_command_is_kept(fleet: Fleet) -> None:
    """What a command came to that the log has lost is on record once, under its agent, however often it is said."""
    await restored(fleet)
    await fleet.gateway()
    agent = await connected(fleet)
    command_id = new_id()
    assert await ask(agent, "result", wire.encode(result(command_id))) == wire.Acknowledged(detail="stray")
    assert await ask(agent, "result", wire.encode(result(command_id))) == wire.Acknowledged(detail="duplicate")
    assert await ask(agent, "result", wire.encode(result(command_id, attempt=2))) == wire.Acknowledged(detail="stray")
    recorded = await fleet.until_event(agent.agent_id, StrayResultRecorded, 2)
    assert [(one.command_id, one.attempt) for one in recorded if isinstance(one, StrayResultRecorded)] == [
        (command_id, 1),
        (command_id, 2),
    ]


async def test_what_is_no_command_has_no_result(fleet: Fleet) -> None:
    """The id of another kind of thing is refused as ever."""
    await restored(fleet)
    await fleet.gateway()
    agent = await connected(fleet)
    refused = await ask(agent, "result", wire.encode(result(agent.agent_id)))
    assert isinstance(refused, wire.Refused)
    assert (refused.code, refused.permanent) == ("not_found", True)
