"""What a simulation is told, and what it says in the end."""

from typing import Any

import msgspec

from gateways.simulate.checks import Breach


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulated agents behave."""

    duration_s: float = 60.0
    run_s: float = 0.2
    """How long a command runs, on average."""
    latency_s: float = 0.0
    """How long what an agent says is on its way, on average."""
    failing: float = 0.05
    """The share of runs that fail."""
    offline: float = 0.0
    """The share of agents that are away until the end."""
    churn: float = 0.0
    """The share of agents that lose their connection, each minute."""
    away_s: float = 5.0
    """How long one of them stays away, on average."""
    reconnect_s: float = 3.0
    """Who lost its connection comes back within so long; the bound of each further try is twice as long."""
    commands: int = 0
    """How many commands to queue, evenly over the duration and over all agents."""
    settle_s: float = 60.0
    """How long, once everybody is back, until what waits must be done."""
    told_of_before: int = 1
    """So many minutes each agent's first hello tells of, how busy its machine was."""
    seed: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen."""

    agents: int
    seconds: float
    connections: int
    """Times that an agent was let in."""
    churned: int
    """Connections ended by the churn."""
    lost: int
    """Connections ended by the other side."""
    received: int
    """Attempts that an agent accepted."""
    redelivered: int
    """Attempts that came again, and were answered from the journal."""
    runs: int
    outcomes: dict[str, int]
    repeated: int
    """Messages said again since no answer came."""
    unacknowledged: int
    """Messages that had no answer in the end."""
    waiting: int
    """Commands that still waited in queues in the end."""
    delay_p50_ms: float | None
    """From a command's queueing to its delivery, of those whose agent was online all the while."""
    delay_p99_ms: float | None
    queued: int
    """Commands queued by the simulation itself."""
    not_queued: int
    """Commands that the API refused; nothing was promised of them."""
    ended: int
    """Of those queued: how many the platform says have ended."""
    broken: dict[str, int]
    """Breaches by rule; none is what is promised."""
    breaches: list[Breach]
    """The first of them."""
    seed: int

    @property
    def ok(self) -> bool:
        return not self.broken

    def document(self) -> dict[str, Any]:
        """For programs."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built
