"""Each bench of the log and its projections runs, against real servers, and says what it promises to say."""

import importlib
import json
import subprocess
import sys
from typing import Any

import pytest

from gateways.bench import chain, rebuild
from gateways.bench.result import BenchOptions
from gateways.cli.platform import BENCHES

SCALE = 0.01
RATES = {"append", "append-one", "chain", "forward", "project", "rebuild"}
EVENTS = {
    "append": 1_000,
    "append-one": 256,
    "chain": 2_000,
    "forward": 200,
    "project": 2_000,
    "rebuild": 5_000,
    "query": 20_000,
}


async def measured(name: str, url: str) -> dict[str, Any]:
    module = importlib.import_module(f"gateways.bench.{name.replace('-', '_')}")
    result = await module.run(BenchOptions(scale=SCALE, postgres_url=url))
    found: dict[str, Any] = json.loads(result.as_json())
    return found


@pytest.mark.parametrize("name", list(EVENTS))
async def test_a_bench_says_what_it_measured(postgres_url: str, name: str) -> None:
    """One JSON object: a value in its unit, the engine's limit in the same run, their ratio, and of how many."""
    assert name in BENCHES
    found = await measured(name, postgres_url)
    assert set(found) == {"name", "value", "unit", "limit", "ratio", "n", "extra"}
    assert (found["name"], found["n"]) == (name, EVENTS[name])
    assert found["unit"] == ("events/s" if name in RATES else "ms")
    assert found["value"] > 0
    assert found["limit"] > 0
    better = found["value"] / found["limit"] if name in RATES else found["limit"] / found["value"]
    assert found["ratio"] == pytest.approx(better, rel=0.01)
    if name == "query":
        asked = [
            f"{way}{what}_{at}_ms"
            for way in ("", "http_")
            for what in ("agents", "queue", "timeline")
            for at in ("p50", "p95")
        ]
        assert set(found["extra"]) == set(asked)
        assert found["value"] == max(found["extra"][f"{what}_p95_ms"] for what in ("agents", "queue", "timeline"))
    if name == "chain":
        assert found["extra"]["verified"] == 6 * EVENTS[name] + chain.SINGLES
    if name == "forward":
        kinds = ("webhook", "syslog", "nats")
        assert set(found["extra"]) == {f"{one}{what}_per_s" for one in kinds for what in ("", "_limit")}
    if name == "rebuild":
        assert set(found["extra"]) == {f"{one}_events_per_s" for one in (*rebuild.REBUILT, "replay")}


def test_the_command_prints_the_result_and_nothing_else() -> None:
    """`fleetlog bench NAME --json` writes one JSON object to standard output, on servers of its own."""
    command = [sys.executable, "-m", "gateways.cli", "bench", "project", "--scale", str(SCALE), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout)["name"] == "project"
