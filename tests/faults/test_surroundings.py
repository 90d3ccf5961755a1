"""A disk without room and clocks that are wrong, one thing at a time: what must come of each exactly."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults import checks, stories
from tests.faults.clocks import DAY_S
from tests.faults.topology import AgentPart, Topology, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]


@pytest.fixture
def agent(topology: Topology) -> Iterator[AgentPart]:
    """A new one, online."""
    (agent,) = topology.fresh_agents(1)
    agent.start()
    until(lambda: topology.get(f"/agents/{agent.id}")["online"], "the agent to connect")
    yield agent
    topology.mend()


def ask(topology: Topology, agent: AgentPart, line: str, life: timedelta = timedelta(days=3)) -> str:
    """Queue a shell line; returns the command's id."""
    body = {
        "agent_id": str(agent.id),
        "spec": {"kind": "run_shell", "shell": "sh", "line": line},
        "expires_at": (datetime.now(UTC) + life).isoformat(),
    }
    return str(topology.post("/commands", body)["id"])


def kinds(topology: Topology, agent: AgentPart, command_id: str) -> list[str]:
    """The story of a command, by the log."""
    return [event.kind for event in checks.read_log(topology, [agent])[command_id].events]


def test_an_agent_has_no_room_for_a_result(topology: Topology, agent: AgentPart) -> None:
    """It holds the result until there is room, goes on running, and reports it once."""
    if not agent.disk.there:
        pytest.skip("only root can make a disk")
    go, ran = topology.folder / "go", topology.effects / "no-room"
    command_id = ask(topology, agent, f"echo run >> {ran}; while [ ! -e {go} ]; do sleep 0.05; done; echo done")
    until(lambda: "CommandStarted" in kinds(topology, agent, command_id), "the start to be on record")
    process = agent.process
    agent.disk.fill()
    go.touch()
    until(lambda: "cannot keep the result" in agent.log.read_text(), "the agent to find no room")
    assert "CommandSucceeded" not in kinds(topology, agent, command_id)
    agent.disk.empty()
    until(lambda: "CommandSucceeded" in kinds(topology, agent, command_id), "the result to be on record")
    until(lambda: not agent.journal()["entries"], "the journal to let go of it")
    assert (agent.alive, agent.process) == (True, process)
    assert ran.read_text() == "run\n"


def test_a_servers_clock_was_wrong_for_a_while(topology: Topology, agent: AgentPart) -> None:
    """Agents that heard a gateway which was a day ahead believe it again once it is right: an hour is an hour."""
    if not topology.clocks.there:
        pytest.skip("there is no C compiler to make a clock with")
    for gateway in ("gateway-1", "gateway-2"):
        topology.clocks.set(gateway, DAY_S)
    before = ask(topology, agent, "true")
    until(lambda: "CommandSucceeded" in kinds(topology, agent, before), "a command to be done")
    for gateway in ("gateway-1", "gateway-2"):
        topology.clocks.set(gateway, 0)
    agent.proxy.reset()  # it comes back, says hello, and hears what time it is

    def lives() -> bool:
        one = ask(topology, agent, "true", timedelta(hours=1))
        until(lambda: kinds(topology, agent, one)[-1] in stories.ENDINGS, "it to end")
        return kinds(topology, agent, one)[-1] == "CommandSucceeded"

    until(lives, "an hour to be long enough")


def test_an_agents_own_clock_does_not_matter(topology: Topology, agent: AgentPart) -> None:
    """A day ahead or behind, it takes what is still good by the server's time, and refuses what is not."""
    if not topology.clocks.there:
        pytest.skip("there is no C compiler to make a clock with")
    for step_s in (DAY_S, -DAY_S):
        topology.clocks.set("agent-0", step_s)
        command_id = ask(topology, agent, "true", timedelta(hours=1))
        until(lambda command_id=command_id: "CommandSucceeded" in kinds(topology, agent, command_id), "it to be done")


@pytest.mark.parametrize("transport", ["nats", "http"])
def test_an_agent_starts_with_a_wrong_clock(topology: Topology, transport: str) -> None:
    """It has never heard the server, and its own clock is a day off: it gets in, and works."""
    if not topology.clocks.there:
        pytest.skip("there is no C compiler to make a clock with")
    (agent,) = topology.fresh_agents(1)
    agent.transport = transport
    topology.clocks.set("agent-0", DAY_S)
    agent.start()
    try:
        command_id = ask(topology, agent, "true", timedelta(hours=1))
        until(lambda: "CommandSucceeded" in kinds(topology, agent, command_id), "it to be done")
    finally:
        topology.mend()
