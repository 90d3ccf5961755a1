"""Whatever is killed, stopped, cut or said twice, in whatever order: every invariant holds when it is over.

One seed is one run: a workload, faults, healing, and a look from all sides. `make test-faults SEED=123` repeats one.
"""

import logging
import random

import pytest

from tests.faults import checks, faults, rollout, workload
from tests.faults.record import Record
from tests.faults.topology import FaultError, Topology, until

log = logging.getLogger("faults")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]
AGENTS = 2
COMMANDS = 16
OVER_S = 1.6
SETTLED_S = 90.0


def test_whatever_fails(topology: Topology, record: Record, seed: int) -> None:
    """Every accepted command is on record, ends once, ran at most once per attempt, in order and in time."""
    rng = random.Random(seed)
    asks = workload.draw(rng, seed, agents=AGENTS, commands=COMMANDS, over_s=OVER_S)
    plan = faults.draw(rng, seed, OVER_S)
    rolled = rollout.draw(seed, OVER_S)
    transports = ("nats", rng.choice(("nats", "nats", "nats", "http")))
    log.warning("seed %d in %s, %s, %s: %s", seed, topology.folder, transports, rolled, "; ".join(map(str, plan)))
    agents = topology.fresh_agents(AGENTS)
    for fault in plan:
        if fault.kind == "kill agent at":
            agents[int(fault.target[-1])].crash_at = fault.detail
    for agent, transport in zip(agents, transports, strict=True):
        agent.transport = transport
        agent.start()
    work = workload.Workload(topology, agents, asks, seed, rolled)
    work.start()
    injected = faults.inject(plan, topology, OVER_S)
    work.finish()
    topology.mend()

    def settled() -> bool:
        topology.supervise()
        return checks.settled(topology, agents, work.told, work.rolled)

    try:
        until(settled, "everything to end", SETTLED_S)
        until(lambda: not checks.behind(topology), "the projections")
    except FaultError as error:
        log.warning("%s", error)  # what is missing, the checks say
    paused = any(fault.kind == "stop agent" for fault in injected)
    misled = any(fault.kind == "clock" and not fault.target.startswith("agent") for fault in injected)
    found = checks.check(topology, agents, work.told, work.rolled, paused=paused, misled=misled)
    record.add(seed, injected, found)
    if found.all:
        record.keep(seed, topology.folder.glob("*.log"))
    assert not found.all, "\n".join(found.all)
