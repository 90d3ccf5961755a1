"""The database is lost, and restored from a backup that is older than much of what agents have done since."""

import contextlib
import random
from itertools import count

import pytest

from gateways.backup.backup import backup
from tests.faults import checks, workload
from tests.faults.draws import seeds
from tests.faults.record import Record
from tests.faults.topology import FaultError, Topology, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]
OVER_S = 3.0
COMMANDS = 30
files = count(1)


@pytest.mark.parametrize("seed", range(1, 1 + max(1, len(seeds()) // 50)))
def test_the_log_is_set_back(topology: Topology, record: Record, seed: int) -> None:
    """Nothing runs a second time, every command of the backup ends, and what was done since is on record."""
    rng = random.Random(seed)
    agents = topology.fresh_agents(2)
    for agent in agents:
        agent.start()
    asks = workload.draw(rng, seed, agents=2, commands=COMMANDS, over_s=OVER_S)
    work = workload.Workload(topology, agents, asks, seed)
    work.start()
    until(lambda: sum(bool(told.command_id) for told in work.told) >= COMMANDS // 3, "a third to be accepted")
    file = topology.folder / f"{next(files)}.backup"
    backup(topology.postgres.owner_url, file)
    work.finish()
    # In one half of the runs everything has ended by then, in the other much of it is under way.
    if rng.random() < 0.5:
        until(lambda: checks.settled(topology, agents, work.told), "everything to end", 60)
    topology.restore(file)
    with contextlib.suppress(FaultError):  # what is missing then, is told below
        until(lambda: checks.settled(topology, agents, []), "everything to end once more", 90)
        until(lambda: not checks.check_restored(topology, agents).lost, "every run to be on record", 90)
    until(lambda: not checks.behind(topology), "the projections")
    found = checks.check_restored(topology, agents)
    record.add(seed, [], found, kind="restore")
    assert not found.all, "\n".join(found.all)
