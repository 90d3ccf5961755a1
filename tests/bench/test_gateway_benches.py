"""The benches of the gateway run whole, on servers of their own, and say what they promise to say."""

from types import ModuleType

import msgspec
import pytest

from gateways.bench import checkin, drain, extract, growth, volume
from gateways.bench.result import BenchOptions

AGENTS = 8


@pytest.mark.parametrize(
    ("bench", "unit", "count"), [(drain, "commands/s", AGENTS * drain.EACH), (checkin, "hellos/s", AGENTS * 2)]
)
async def test_a_bench_measures_and_says_so(bench: ModuleType, unit: str, count: int) -> None:
    """A few agents, a real gateway process: one JSON object with the engine's figure beside ours."""
    result = await bench.run(BenchOptions(agents=AGENTS, scale=0.1))
    said = msgspec.json.decode(result.as_json())
    assert (said["name"], said["unit"], said["n"]) == (bench.NAME, unit, count)
    assert said["value"] > 0
    assert said["limit"] > 0
    assert said["ratio"] == pytest.approx(said["value"] / said["limit"], rel=0.01)
    # Each agent took each of its commands once, however many came at the same moment.
    assert said["extra"].get("redelivered") == (0 if bench is drain else None)


async def test_growth_counts_what_a_command_costs_at_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes of fleet and history: processor time by role, statements and bytes for each command, and idle."""
    monkeypatch.setattr(growth, "STEPS", ((1_000, 10_000), (2_000, 20_000)))
    monkeypatch.setattr(growth, "IDLE_S", 0.5)
    monkeypatch.setattr(growth, "WARM_UP", 5)
    monkeypatch.setattr(growth, "QUIET_CPU", 100.0)  # the machine is shared, and no figure is looked at
    result = await growth.run(BenchOptions(scale=0.02))
    assert (result.name, result.unit, len(result.extra)) == ("growth", "ms of processor", 2)
    small, large = result.extra["20 agents, 200 events"], result.extra["40 agents, 400 events"]
    assert result.limit == pytest.approx(small["command"]["cpu_ms"], abs=0.01)
    assert result.value == pytest.approx(large["command"]["cpu_ms"], abs=0.01)
    for cost in (small["command"], large["command"]):
        assert cost["statements"] > 10
        assert cost["wal_bytes"] > 1_000
        assert {"api_ms", "gateway_ms", "projector_ms", "postgres_ms"} <= set(cost)


async def test_volume_grows_a_log_and_archives_some_of_it() -> None:
    """Rates part by part, bytes by table and index, what reads cost before and after, and what the archive takes."""
    result = await volume.run(BenchOptions(scale=0.0005))
    assert (result.name, result.n) == ("volume", 5_000)
    assert len(result.extra["events_per_s"]) == volume.PARTS
    assert result.extra["bytes_per_event"].keys() > {"events", "events_pkey", "events_agent_idx"}
    assert result.extra["archive"]["bytes_per_event"] < result.extra["bytes_per_event_in_all"] / 4
    assert result.extra["read_ms"].keys() == result.extra["read_ms_archived"].keys()


async def test_extract_takes_all_out_and_verifies_it() -> None:
    """Rates both ways, the file's size, and the most memory of the API and of both commands."""
    result = await extract.run(BenchOptions(scale=0.002))
    assert (result.name, result.unit, result.n) == ("extract", "events/s", 2_000)
    assert result.extra["proven"] >= result.n
    assert min(result.value, *result.extra.values()) > 0
    assert result.extra["api_most_mb"] >= result.extra["api_before_mb"]
