"""What is done to the topology. Each fault is drawn from the seed: what it is, to whom, when, and for how long."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.clocks import DAY_S
from tests.faults.disks import Disk
from tests.faults.topology import LEASE_S, ROLES, AgentPart, Part, Topology

GIVE_UP_S = 3.0
"""After the last command was asked for, a step that was not reached will not be."""
SERVERS = ("postgres", "nats", "valkey")
GATEWAYS = ("gateway-1", "gateway-2")
AGENT_STEPS = ("received", "journaled", "marked_running", "spawned", "exited", "ended", "sent", "acknowledged")
GATEWAY_STEPS = ("leased", "answered", "recorded", "settled", "reported", "committed")
CUTS = ("cut", "stalled", "slow", "halved", "reset")
LINKS = [f"{role}>{server}" for role, servers in ROLES.items() for server in servers] + ["admin>api"]
AGENT_LINKS = ["agent-0>nats", "agent-1>nats"]
NATS_LINKS = [f"{gateway}>nats" for gateway in GATEWAYS] + AGENT_LINKS


@dataclass(frozen=True)
class Fault:
    """One thing that is done."""

    kind: str
    target: str
    detail: str
    at_s: float
    for_s: float

    def __str__(self) -> str:
        return f"{self.at_s:.2f}-{self.at_s + self.for_s:.2f} s: {self.kind} {self.target} {self.detail}".rstrip()


def _kill_role(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(list(ROLES)), "", rng.uniform(0.1, 1.0)


def _kill_server(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(SERVERS), "", rng.uniform(0.1, 1.5)


def _agent(rng: random.Random) -> tuple[str, str, float]:
    return f"agent-{rng.randrange(2)}", "", rng.uniform(0.1, 1.5)


def _agent_step(rng: random.Random) -> tuple[str, str, float]:
    return f"agent-{rng.randrange(2)}", rng.choice(AGENT_STEPS), 1.5


def _gateway_step(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(GATEWAYS), rng.choice(GATEWAY_STEPS), 1.0


def _oversleep(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(GATEWAYS), rng.choice(GATEWAY_STEPS), LEASE_S + rng.uniform(0.5, 1.5)


def _link(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(LINKS), rng.choice(CUTS), rng.uniform(0.2, 1.5)


def _agent_link(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(AGENT_LINKS), rng.choice(CUTS), rng.uniform(0.2, 1.5)


def _messages(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(NATS_LINKS), rng.choice(("doubled", "lossy")), rng.uniform(0.5, 2.0)


def _disk(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(("agent-0", "agent-1", "postgres")), "full", rng.uniform(0.3, 1.5)


def _clock(rng: random.Random) -> tuple[str, str, float]:
    target = rng.choice((*ROLES, "postgres", "agent-0", "agent-1"))
    return target, rng.choice(("+1 day", "-1 day")), rng.uniform(0.3, 2.0)


KINDS: dict[str, Callable[[random.Random], tuple[str, str, float]]] = {
    "kill role": _kill_role,
    "kill server": _kill_server,
    "kill agent": _agent,
    "kill agent at": _agent_step,
    "kill gateway at": _gateway_step,
    "stop role": _kill_role,
    "stop server": _kill_server,
    "stop agent": _agent,
    "stop gateway at": _oversleep,
    "network": _link,
    "network of agent": _agent_link,
    "messages": _messages,
    "disk": _disk,
    "clock": _clock,
}
"""``kill`` is SIGKILL; ``stop`` is SIGSTOP, and SIGCONT when its time is over; that of a gateway outlasts its lease."""


def draw(rng: random.Random, seed: int, over_s: float) -> list[Fault]:
    """The faults of one run: the seeds take turns with the first one's kind, and the others come as they may."""
    kinds = [list(KINDS)[seed % len(KINDS)], *rng.choices(list(KINDS), k=rng.choice((0, 1, 1, 2)))]
    faults = []
    together = rng.random() < 0.5
    first_s = rng.uniform(0.1, over_s)
    for kind in kinds:
        target, detail, for_s = KINDS[kind](rng)
        # A step comes when it comes; it has to be waited for from the beginning.
        at_s = 0.0 if kind.endswith(" at") else first_s if together else rng.uniform(0.1, over_s)
        if kind == "disk":
            # When whoever writes to it is there and at work; before, it would merely not start.
            at_s = max(at_s, 0.7 * over_s)
        faults.append(Fault(kind, target, detail, at_s, for_s))
    return sorted(faults, key=lambda fault: fault.at_s)


def begin(fault: Fault, topology: Topology) -> None:
    """Do it."""
    match fault.kind.split():
        case ["kill", "agent", "at"]:
            pass  # it was started so
        case ["kill" | "stop" as how, "gateway", "at"]:
            _arm(fault, topology, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        case ["kill", *_]:
            _part_of(fault, topology).kill()
        case ["stop", *_]:
            _part_of(fault, topology).signal(signal.SIGSTOP)
        case ["disk"]:
            if (disk := _disk_of(fault, topology)).there:
                disk.fill()
        case ["clock"]:
            topology.clocks.set(fault.target, DAY_S if fault.detail.startswith("+") else -DAY_S)
        case _ if fault.detail == "reset":
            topology.links[fault.target].reset()
        case _:
            topology.links[fault.target].use(fault.detail)


def came(fault: Fault, topology: Topology) -> bool:
    """Whether the step that it waits for was reached."""
    match fault.kind.split():
        case ["kill", "agent", "at"]:
            return not _agent_of(fault, topology.agents).alive
        case [_, "gateway", "at"]:
            return not _armed(fault, topology).exists()
        case ["disk"]:
            return _disk_of(fault, topology).there
        case ["clock"]:
            return topology.clocks.there
    return True


def inject(faults: Sequence[Fault], topology: Topology, over_s: float) -> list[Fault]:
    """Do all of them, each in its time; returns those that came about.

    By one thread, which starts again what has to be: the kernel ends a child with the thread that started it.
    """
    began = time.monotonic()
    waiting = list(faults)
    under_way: list[tuple[Fault, float | None]] = []
    injected = []
    while waiting or under_way:
        now = time.monotonic() - began
        while waiting and waiting[0].at_s <= now:
            begin(waiting[0], topology)
            under_way.append((waiting.pop(0), None))
        left: list[tuple[Fault, float | None]] = []
        for fault, ends_s in under_way:
            if ends_s is None and came(fault, topology):
                injected.append(fault)
                left.append((fault, now + fault.for_s))
            elif now > (ends_s if ends_s is not None else over_s + GIVE_UP_S):
                end(fault, topology)
            else:
                left.append((fault, ends_s))
        under_way = left
        time.sleep(0.01)
    return injected


def end(fault: Fault, topology: Topology) -> None:
    """Undo it. What was done by another fault meanwhile is that one's to undo, or is mended in the end."""
    match fault.kind.split():
        case ["disk"]:
            if (disk := _disk_of(fault, topology)).there:
                disk.empty()
        case ["clock"]:
            topology.clocks.set(fault.target, 0)
        case ["kill" | "stop", *_]:
            _part_of(fault, topology).mend()
        case _:
            topology.links[fault.target].use("open")


def _part_of(fault: Fault, topology: Topology) -> Part:
    return _agent_of(fault, topology.agents) if fault.target.startswith("agent") else topology.parts[fault.target]


def _disk_of(fault: Fault, topology: Topology) -> Disk:
    return topology.disk if fault.target == "postgres" else _agent_of(fault, topology.agents).disk


def _agent_of(fault: Fault, agents: Sequence[AgentPart]) -> AgentPart:
    return agents[int(fault.target.rpartition("-")[2])]


def _armed(fault: Fault, topology: Topology) -> Path:
    return topology.folder / f"{fault.target}.step"


def _arm(fault: Fault, topology: Topology, number: signal.Signals) -> None:
    armed = _armed(fault, topology)
    beside = armed.with_suffix(".new")
    beside.write_text(f"{fault.detail} {number.name}")
    beside.replace(armed)
