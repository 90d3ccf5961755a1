"""A rollout on a whole Fleetlog whose parts are killed on the way: each machine runs its command once."""

import pytest

from tests.topology.harness import Machine, Platform

pytestmark = pytest.mark.serial


def test_a_rollout_outlives_the_scheduler(platform: Platform, machines: list[Machine], off: Machine) -> None:
    """The scheduler is killed before each wave; who was away gets its command on return; nobody runs it twice."""
    spec = {"kind": "run_shell", "shell": "sh", "line": f"echo run >> {platform.effects}/rollout"}
    everybody = [machine.id for machine in (*machines, off)]
    body = {
        "name": "with faults",
        "target": {"include": {"agents": everybody}},
        "spec": spec,
        "waves": [{"count": 1, "finished_percent": 0}, {"count": 1, "finished_percent": 0}],
    }
    path = f"/rollouts/{platform.api.post('/rollouts', body)['id']}"
    for _ in range(2):
        platform.role("scheduler").kill()
        platform.until_healthy()

    def succeeded() -> int:
        counts = platform.api.get(path)["counts"]
        assert sum(counts.values()) == len(everybody)
        return int(counts["succeeded"])

    platform.until(lambda: succeeded() == len(machines), "those online to have done it")
    assert platform.api.get(path)["state"] == "running"
    platform.role("scheduler").kill()
    off.start()
    platform.until(lambda: platform.api.get(path)["state"] == "completed", "the rollout to complete")
    assert succeeded() == len(everybody)
    assert platform.effect("rollout") == ["run"] * len(everybody)
    for item in platform.api.items(f"{path}/agents"):
        platform.ended_once(item["command_id"])
    off.kill()
