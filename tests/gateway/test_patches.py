"""Updates and restarts on their way to an agent: as they were asked for, and no part of any line of a shell."""

from domain.patches import InstallUpdates, Reboot, RebootPolicy
from schema import wire
from schema.patches import InstallWork, RebootWork
from tests.gateway.harness import Fleet


async def test_what_was_asked_for_arrives(fleet: Fleet) -> None:
    """Names, versions, what is held and the time that it may take; of a restart, the notice and its time."""
    await fleet.gateway()
    agent = await fleet.agent()
    await agent.hello()
    asked = InstallUpdates(
        names=("nginx", "-o=x;y"), versions={"nginx": "1.24"}, held=("linux-*",), security_only=True,
        reboot=RebootPolicy.IF_NEEDED, timeout_s=60,
    )  # fmt: skip
    await fleet.queue(agent.agent_id, spec=asked, lane="system")
    await fleet.queue(agent.agent_id, spec=Reboot(delay_s=60, notice="Soon."), lane="system")
    await agent.until(lambda: len(agent.received) == 2)
    install, reboot = (wire.decode_work(order.work) for order in agent.received)
    assert install == InstallWork(
        names=["nginx", "-o=x;y"], versions={"nginx": "1.24"}, held=["linux-*"], security_only=True, timeout_s=60
    )
    assert reboot == RebootWork(delay_s=60, notice="Soon.")
