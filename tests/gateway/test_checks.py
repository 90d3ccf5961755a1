"""Checks over NATS: a list reaches an agent that is there at once, and what it finds is recorded once, whoever dies."""

import asyncio
from uuid import UUID

from command_bus.ids import new_id, utc_now
from domain.agents import AgentConnected
from domain.checks import AgentCheckChanged, CheckState
from gateways.agents.check_keeper import CheckKeeper
from gateways.agents.uplink import CHECKS_BURST
from projections.check_reads import CheckReader
from schema import wire
from schema.checks import CheckReport
from tests.gateway.harness import Fleet

CHECK = UUID(int=0xC4EC)


async def give(fleet: Fleet, agent_id: UUID) -> None:
    """Have one check be the agent's, as the keeper writes it."""
    terms = '{"name": "Disk", "what": {"kind": "disk", "error": 10}, "target": {"include": {"everything": true}}}'
    async with fleet.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO read.checks VALUES (%s, 'Disk', 'disk', %s, true, '[]', '[]', '[]', false, now(), 'user:x',"
            " NULL, 1, 1) ON CONFLICT DO NOTHING",
            (CHECK, terms),
        )
        await connection.execute(
            "INSERT INTO fleetlog.check_lists VALUES (%s, ARRAY[%s]::uuid[], nextval('fleetlog.check_lists_changed'))",
            (agent_id, CHECK),
        )


def report(number: int, state: str) -> CheckReport:
    return CheckReport(number=number, check_id=CHECK, revision=1, state=state, since=utc_now())


async def test_an_agent_that_is_there_gets_its_list_at_once(fleet: Fleet) -> None:
    """It is told that there is another, says hello, and is handed what it has not; then it is handed nothing."""
    await fleet.gateway()
    agent = await fleet.agent()
    await fleet.until_event(agent.agent_id, AgentConnected)
    hello = await agent.hello()
    assert isinstance(hello, wire.HelloReply)
    assert hello.checks is None
    await give(fleet, agent.agent_id)
    async with asyncio.timeout(10):
        while agent.checks is None:
            await agent.until(lambda: True)
            await asyncio.sleep(0.02)
    assert [(one.check_id, one.name) for one in agent.checks.checks] == [(CHECK, "Disk")]
    again = await agent.hello()
    assert isinstance(again, wire.HelloReply)
    assert again.checks is None
    old = await agent.ask(wire.Hello(agent_version="0.0.1", sent_at=utc_now()))
    assert isinstance(old, wire.HelloReply)
    assert old.checks is None, "an agent from before there were checks"


async def test_what_it_finds_is_recorded_once_whichever_gateway_hears_it(fleet: Fleet) -> None:
    """A gateway that dies before it answers leaves an event or none; the report that is said again makes it one."""
    first = await fleet.gateway("gateway-1")
    agent = await fleet.agent()
    await give(fleet, agent.agent_id)
    failing = report(1, "failing")
    assert await agent.ask(failing) == wire.Acknowledged()
    await first.stop()
    fleet.services.remove(first)
    await fleet.gateway("gateway-2")
    await fleet.gateway("gateway-3")
    for _ in range(4):
        assert await agent.ask(failing) == wire.Acknowledged(detail="duplicate")
    both = await asyncio.gather(*(agent.ask(report(2, "warning")) for _ in range(6)))
    assert sorted(str(getattr(one, "detail", one)) for one in both) == ["", *["duplicate"] * 5]
    events = await fleet.until_event(agent.agent_id, AgentCheckChanged, 2)
    assert [(one.was, one.state) for one in events if isinstance(one, AgentCheckChanged)] == [
        (None, CheckState.FAILING),
        (CheckState.FAILING, CheckState.WARNING),
    ]


async def test_an_agent_in_foreign_hands_neither_floods_nor_speaks_for_others(fleet: Fleet) -> None:
    """Of another's check nothing is taken; of its own no more than so many at once, and a state that there is."""
    await fleet.gateway()
    agent, other = await fleet.agent(), await fleet.agent()
    await give(fleet, agent.agent_id)
    refused = await other.ask(report(1, "failing"))
    assert isinstance(refused, wire.Refused)
    assert (refused.code, refused.permanent) == ("not_your_check", True)
    refused = await agent.ask(report(1, "on fire"))
    assert isinstance(refused, wire.Refused)
    assert (refused.code, refused.permanent) == ("invalid_value", True)
    answers = [await agent.ask(report(2 + n, ("failing", "warning")[n % 2])) for n in range(CHECKS_BURST + 5)]
    late = answers[-1]
    assert isinstance(late, wire.Refused)
    assert (late.code, late.permanent) == ("too_many_messages", False)
    assert 0 < (late.retry_after_s or 0) <= 60


async def test_a_keeper_that_is_killed_anywhere_leaves_what_the_next_one_mends(fleet: Fleet) -> None:
    """A table that says nothing of what checks there are comes to what they are, and to no more events."""
    (identity,) = await fleet.identities()
    await give(fleet, identity.agent_id)
    async with fleet.pool.connection() as connection:
        await connection.execute("DELETE FROM read.checks")
    head = await fleet.log.head()
    for _ in range(2):
        keeper = CheckKeeper(fleet.log, fleet.pool, CheckReader(fleet.pool.connection), utc_now, new_id)
        await keeper.turn()
    async with fleet.pool.connection() as connection:
        rows = await (await connection.execute("SELECT checks FROM fleetlog.check_lists")).fetchall()
    assert rows == [([],)]
    assert await fleet.log.head() == head
