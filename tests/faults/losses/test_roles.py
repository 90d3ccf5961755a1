"""Whoever queues and whoever runs errands killed in the middle of a bulk run."""

from tests.faults.losses.harness import Fleet, WholePlatform

AGENTS = 5_000
FEWER = 1_000


def test_the_scheduler_is_killed_half_way(platform: WholePlatform) -> None:
    """5,000 agents, the role that queues killed half-way: the next goes on, all do it (incumbent: 0 of 2,507)."""
    with Fleet(platform, AGENTS) as fleet:
        fleet.come()
        scheduler = platform.role("scheduler")
        asked = fleet.roll_out()
        fleet.until_recorded("CommandQueued", 1)
        scheduler.kill()
        platform.gone([scheduler])
        queued = fleet.recorded("CommandQueued")
        assert 0 < queued < AGENTS
        asked.is_done_once_by_all()


def test_valkey_is_down(platform: WholePlatform) -> None:
    """1,000 agents, the side effects' broker down: accepted, and done by all meanwhile (incumbent: 500, nothing)."""
    with Fleet(platform, FEWER) as fleet:
        fleet.come()
        with platform.without("valkey"):
            fleet.roll_out().is_done_once_by_all()
