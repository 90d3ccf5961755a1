"""What agents tell to be installed, over NATS: taken once when it differs, and no more often than it should."""

from domain.agents import AgentConnected
from domain.software import AgentSoftwareReported
from schema import wire
from schema.software import Package, SoftwareList, digest, listed, pack
from tests.gateway.harness import Fleet

BEFORE = listed([Package("bash", "5.1"), Package("nginx", "1.22", update="1.24", security=True)], updates_known=True)
AFTER = listed([Package("bash", "5.2")], updates_known=False)


async def test_a_list_is_taken_once_and_a_second_at_once_waits(fleet: Fleet) -> None:
    """Over NATS: an event for the first, none for the same again, and a minute's patience for another."""
    await fleet.gateway()
    agent = await fleet.agent()
    await fleet.until_event(agent.agent_id, AgentConnected)
    assert await agent.ask(wire.SoftwareReport(packed=pack(BEFORE))) == wire.Acknowledged()
    assert await agent.ask(wire.SoftwareReport(packed=pack(BEFORE))) == wire.Acknowledged()
    events = await fleet.until_event(agent.agent_id, AgentSoftwareReported)
    assert events == [
        AgentSoftwareReported(sha256=digest(BEFORE), packages=2, updates=1, security_updates=1),
    ]
    head = await fleet.log.head()
    refused = await agent.ask(wire.SoftwareReport(packed=pack(AFTER)))
    assert isinstance(refused, wire.Refused)
    assert (refused.code, refused.permanent, refused.retry_after_s) == ("software_too_soon", False, 60.0)
    for bad in (b"", b"x", pack(SoftwareList([Package("b", "1"), Package("a", "1")], updates_known=True))):
        refused = await agent.ask(wire.SoftwareReport(packed=bad))
        assert isinstance(refused, wire.Refused)
        assert (refused.code, refused.permanent) == ("invalid_value", True)
    assert await fleet.log.head() == head
    # Six were looked at; what comes beyond is not even unpacked.
    refused = await agent.ask(wire.SoftwareReport(packed=b""))
    assert isinstance(refused, wire.Refused)
    assert (refused.code, refused.permanent) == ("too_many_messages", False)
