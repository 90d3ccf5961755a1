"""The benches of rollouts run whole, on a platform as users start it, and say what they promise to say."""

import msgspec
import pytest

from gateways.bench import fairness, fanout, fanout_offline, life, shutout
from gateways.bench.machines import connected_fleet
from gateways.bench.result import BenchOptions, BenchResult

AGENTS = 5


def says_what_it_should(result: BenchResult, name: str, unit: str, parts: set[str], count: int = AGENTS) -> None:
    said = msgspec.json.decode(result.as_json())
    assert (said["name"], said["unit"], said["n"]) == (name, unit, count)
    assert said["value"] > 0
    assert said["limit"] > 0
    better = said["limit"] / said["value"] if unit == "s" else said["value"] / said["limit"]
    assert said["ratio"] == pytest.approx(better, rel=0.01)
    assert parts | {"cpu_us_each_scheduler", "cpu_us_each_gateway", "cpu_us_each_postgres"} <= said["extra"].keys()


async def test_benches_of_rollouts_measure_and_say_so() -> None:
    """A few agents, all roles in processes of their own: one JSON object each, with the engines' figure beside ours."""
    async with connected_fleet(BenchOptions(agents=AGENTS), fanout.AGENTS) as fleet:
        reached = await fanout.measured(fleet, rounds=1)
        says_what_it_should(reached, "fanout", "agents/s", {"all_accepted_s", "raw_copy_s", "raw_requests_s"})
        lived = await life.measured(fleet, rounds=1)
        says_what_it_should(lived, "life", "lives/s", {"all_acknowledged_s", "raw_copy_s", "raw_reports_s"})
        fair = await fairness.measured(fleet, AGENTS, 3)
        assert (fair.name, fair.unit, fair.extra["online"]) == ("fairness", "ms", AGENTS)
        assert fair.n > 0
        assert 0 < fair.extra["p50_ms"] <= fair.value <= fair.extra["worst_ms"]
        assert all(len(machine.received) == 3 for machine in fleet.machines)
        shut = await shutout.measured(fleet, over_nats=2, over_http=2, alone=2)
        assert (shut.name, shut.unit, shut.n, shut.extra["http_n"]) == ("shutout", "ms", 2, 2)
        assert shut.limit is not None
        assert 0 < shut.extra["p50_ms"] <= shut.value <= shut.extra["worst_ms"]
        for machine in fleet.machines:
            await machine.close()
        left = AGENTS + 1 - shut.n
        queued = await fanout_offline.measured(fleet.running, fleet.script_id, left, rounds=1)
        says_what_it_should(queued, "fanout-offline", "s", {"posted_s", "raw_copy_s", "raw_rows_s"}, left)
