"""The long benches in a short form: a fleet that comes and goes, and one that loses its server."""

from gateways.bench import soak, storm
from gateways.bench.result import BenchOptions
from gateways.cli.platform import ROLES

AGENTS = 200


async def test_a_soak_loses_and_doubles_nothing() -> None:
    """200 agents, six seconds: each command comes once and ends, and the memory of each role and of NATS is told."""
    result = await soak.run(BenchOptions(agents=AGENTS, scale=0.02))
    assert result.n == 240
    assert result.value > 0
    broken = ("lost", "doubled", "other_breaches", "not_queued")
    assert {name: result.extra[name] for name in broken} == dict.fromkeys(broken, 0)
    assert set(result.extra["growth"]) == set(result.extra["memory_mb"]) == {*ROLES, "nats"}


async def test_a_storm_passes() -> None:
    """200 agents whose NATS server is killed: all are back, and shown online."""
    result = await storm.run(BenchOptions(agents=AGENTS))
    assert result.n == AGENTS
    assert 0 < result.extra["half_s"] <= result.value <= result.extra["shown_online_s"]
