"""How fast a rollout goes, and when it will be over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.rollout_pace import RECENT, estimated_end, per_minute, recent_since
from domain.rollout_terms import Limits, Wave

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def estimate(**more: Any) -> datetime | None:
    given: dict[str, Any] = {"waiting": 60, "given": 40, "rate": 10.0, "limits": Limits(), "waves": ()}
    return estimated_end(NOW, **(given | more))


@pytest.mark.parametrize(
    ("more", "minutes"),
    [
        ({}, 10),
        ({"limits": Limits(per_minute=600)}, 10),
        ({"limits": Limits(per_minute=2)}, 30),
        ({"waves": (Wave(count=1, pause_s=120), Wave(count=1, pause_s=60))}, 13),
        ({"waiting": 0, "given": 0, "rate": 0.0}, 0),
        ({"waiting": 0, "given": 0, "rate": 0.0, "open_until": NOW + timedelta(hours=1)}, 60),
        ({"open_until": NOW + timedelta(minutes=5)}, 10),
    ],
)
def test_it_goes_on_as_it_does(more: dict[str, Any], minutes: int) -> None:
    """What is left at the present rate, no faster than the limit, and the pauses that are to come."""
    assert estimate(**more) == NOW + timedelta(minutes=minutes)


@pytest.mark.parametrize("more", [{"rate": 0.0}, {"waves": (Wave(count=1, manual=True),)}, {"rate": 1e-300}])
def test_nobody_can_say(more: dict[str, Any]) -> None:
    """Where nothing ends, a person is waited for, or the end is beyond any calendar, no time is made up."""
    assert estimate(**more) is None


@given(
    age_s=st.integers(0, 10**6), ended=st.integers(0, 10**6), waiting=st.integers(0, 10**6), open_=st.integers(0, 10**6)
)
def test_a_rate_is_of_its_own_time(age_s: int, ended: int, waiting: int, open_: int) -> None:
    """It is never of more than the recent past nor of a time before the start, and the end is never in the past."""
    started_at = NOW - timedelta(seconds=age_s)
    since = recent_since(started_at, NOW)
    assert started_at <= since <= NOW
    assert NOW - since <= RECENT
    rate = per_minute(ended, started_at, NOW)
    assert rate == pytest.approx(ended * 60 / max(1, min(age_s, RECENT.total_seconds())))
    end = estimate(rate=rate, waiting=waiting, given=open_)
    assert end is None or end >= NOW
