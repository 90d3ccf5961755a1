"""NATS killed before, during and at the end of a bulk run: what it carried is carried again."""

import pytest

from tests.faults.losses.harness import Fleet, WholePlatform

AGENTS = 5_000
FEWER = 1_000
SOON_S = 0.5
"""Within how long agents come back where the incumbent's did so at once."""
LATER_S = 10.0
"""The same where its agents came back after 5 s: they do so after 1 to 10."""


def test_nats_is_down_when_it_is_asked(platform: WholePlatform) -> None:
    """1,000 agents, NATS down: accepted, queued, and done by all once it is back (incumbent: 0 of 1,000)."""
    with Fleet(platform, FEWER, reconnect_s=SOON_S) as fleet:
        fleet.come()
        with platform.without("nats"):
            asked = fleet.roll_out()
            asked.until_shown(queued=FEWER)
            assert fleet.received() == 0
        asked.is_done_once_by_all()


def test_nats_is_down_when_one_agent_is_asked(platform: WholePlatform) -> None:
    """1 agent, NATS down: the command is accepted and done later (incumbent: "200 natsdown", and never done)."""
    with Fleet(platform, 1, reconnect_s=SOON_S) as fleet:
        fleet.come()
        with platform.without("nats"):
            asked = fleet.ask(fleet.machines[0])
            assert asked.shown() == {"queued": 1}
        asked.is_done_once_by_all()


@pytest.mark.parametrize("outage_s", [0.2, 12.0])
def test_nats_is_killed_while_it_is_queued(platform: WholePlatform, outage_s: float) -> None:
    """5,000 agents, NATS killed while commands are queued, away for 0.2 s or 12 s: all do it (incumbent: 5,000; 0)."""
    with Fleet(platform, AGENTS, reconnect_s=SOON_S) as fleet:
        fleet.come()
        asked = fleet.roll_out()
        fleet.until_recorded("CommandQueued", 1)
        platform.kill_for("nats", outage_s)
        asked.is_done_once_by_all()


def test_nats_is_killed_at_the_first_order(platform: WholePlatform) -> None:
    """5,000 agents, NATS killed as the first has its order, back after 0.2 s: all do it (incumbent: 1,122 to 2,413)."""
    with Fleet(platform, AGENTS, reconnect_s=SOON_S) as fleet:
        fleet.come()
        dead = platform.server("nats")
        fleet.at_first_order(dead.kill)
        with platform.looking_away():
            asked = fleet.roll_out()
            platform.gone([dead])
        asked.is_done_once_by_all()


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_nats_is_killed_when_most_is_queued(platform: WholePlatform, share: float) -> None:
    """5,000 agents, NATS killed with 80 or 90 % queued, agents back after seconds: all do it (incumbent: 0, 0)."""
    with Fleet(platform, AGENTS, reconnect_s=LATER_S) as fleet:
        fleet.come()
        asked = fleet.roll_out()
        fleet.until_recorded("CommandQueued", round(share * AGENTS))
        platform.server("nats").kill()
        asked.is_done_once_by_all()
