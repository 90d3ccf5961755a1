"""Agents that are away when something is asked of them: it waits, and they do it when they are back."""

from tests.faults.losses.harness import Fleet, WholePlatform

AGENTS = 1_000
AWAY = 100


def test_everybody_is_offline_and_comes_back(platform: WholePlatform) -> None:
    """1,000 of 1,000 agents are away: all is queued, and each does it once it is back (incumbent: 0 of 1,000)."""
    with Fleet(platform, AGENTS) as fleet:
        asked = fleet.roll_out()
        asked.until_shown(queued=AGENTS)
        assert fleet.received() == 0
        fleet.come()
        asked.is_done_once_by_all()


def test_a_tenth_is_offline_and_comes_back(platform: WholePlatform) -> None:
    """100 of 1,000 agents are away: 900 do it at once and the others on their return (incumbent: 900 of 1,000)."""
    with Fleet(platform, AGENTS) as fleet:
        away = fleet.machines[:AWAY]
        fleet.come(fleet.machines[AWAY:])
        asked = fleet.roll_out()
        asked.until_shown(succeeded=AGENTS - AWAY, queued=AWAY)
        assert not any(machine.journal for machine in away)
        fleet.come(away)
        asked.is_done_once_by_all()


def test_one_agent_is_offline_and_comes_back(platform: WholePlatform) -> None:
    """A command for 1 agent that is away is accepted, waits, and is done (incumbent: an error after 7 seconds)."""
    with Fleet(platform, 1) as fleet:
        asked = fleet.ask(fleet.machines[0])
        assert asked.shown() == {"queued": 1}
        fleet.come()
        asked.is_done_once_by_all()
