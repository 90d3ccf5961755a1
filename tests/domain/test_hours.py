"""Hours of the day, by the clock where a machine stands."""

import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import InvalidValueError
from domain.hours import Hours, Weekday, timezone_of
from domain.hours import zone as zone_of

NIGHT = Hours(begins="22:00", ends="05:00", timezone="Europe/Berlin")
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "moment", "opens", "closes"),
    [
        (NIGHT, "2030-01-10T12:00", "2030-01-10T21:00", "2030-01-11T04:00"),
        (NIGHT, "2030-07-10T12:00", "2030-07-10T20:00", "2030-07-11T03:00"),
        (NIGHT, "2030-01-10T23:00", "2030-01-10T23:00", "2030-01-11T04:00"),
        # Clocks go forward on 2030-03-31 at 01:00 UTC: that night is an hour shorter.
        (NIGHT, "2030-03-30T20:00", "2030-03-30T21:00", "2030-03-31T03:00"),
        # And back on 2030-10-27 at 01:00 UTC: that night is an hour longer.
        (NIGHT, "2030-10-26T18:00", "2030-10-26T20:00", "2030-10-27T04:00"),
        # 02:30 is not on the clock that night: it opens as the clock jumps to 03:00.
        (
            Hours(begins="02:30", ends="04:00", timezone="Europe/Berlin"),
            "2030-03-31T00:00",
            "2030-03-31T01:00",
            "2030-03-31T02:00",
        ),
        # 02:30 comes twice that night, and in between the clock shows less.
        (
            Hours(begins="02:30", ends="04:00", timezone="Europe/Berlin"),
            "2030-10-27T00:00",
            "2030-10-27T00:30",
            "2030-10-27T01:00",
        ),
        (
            Hours(begins="02:30", ends="04:00", timezone="Europe/Berlin"),
            "2030-10-27T01:00",
            "2030-10-27T01:30",
            "2030-10-27T03:00",
        ),
        (
            Hours(begins="22:00", ends="05:00", days=(Weekday.FRIDAY,), timezone="+05:30"),
            "2030-01-05T00:00",
            "2030-01-11T16:30",
            "2030-01-11T23:30",
        ),
        (
            Hours(begins="00:00", ends="00:00", days=(Weekday.SATURDAY, Weekday.SUNDAY), timezone="UTC"),
            "2030-01-10T00:00",
            "2030-01-12T00:00",
            "2030-01-14T00:00",
        ),
    ],
)
def test_they_open_and_close_by_the_wall(hours: Hours, moment: str, opens: str, closes: str) -> None:
    """Over midnight, on some days, in any zone, and on the nights on which the clock is put."""
    opening = hours.opening(at(moment))
    assert (opening, hours.closing(opening)) == (at(opens), at(closes))


times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))
zones = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "-03:30", "UTC"]
)
# About the nights on which clocks are put, and any other time.
starts = st.sampled_from(["2030-03-10", "2030-03-31", "2030-04-07", "2030-10-06", "2030-10-27", "2030-11-03"]).map(at)


@given(
    begins=times,
    ends=times,
    days=st.sets(st.sampled_from(list(Weekday)), min_size=1, max_size=6),
    zone=zones,
    start=starts,
    minutes=st.integers(-1500, 1500),
)
@example("02:15", "02:45", {Weekday.SUNDAY}, "Australia/Lord_Howe", at("2030-10-06"), -600)
def test_no_moment_is_outside(
    begins: str, ends: str, days: set[Weekday], zone: str, start: datetime, minutes: int
) -> None:
    """It is open from the opening that is told until the closing that is told, and not before, minute by minute."""
    hours = Hours(begins=begins, ends=ends, days=tuple(days), timezone=zone)
    moment = start + MINUTE * minutes
    opening = hours.opening(moment)
    within = moment + timedelta(seconds=41, microseconds=7)
    assert hours.opening(within) == (within if hours.open_at(moment) else opening)
    assert all(not hours.open_at(moment + MINUTE * i) for i in range((opening - moment) // MINUTE))
    closing = hours.closing(opening)
    assert all(hours.open_at(opening + MINUTE * i) for i in range((closing - opening) // MINUTE))
    assert not hours.open_at(closing)
    local = opening.astimezone(zone_of(zone))
    assert begins < ends or local.strftime("%H:%M") >= begins or local.strftime("%H:%M") < ends


@pytest.mark.parametrize(
    "wrong",
    [
        {"begins": "24:00"},
        {"begins": "9:00"},
        {"ends": "05:60"},
        {"ends": "05:00:00"},
        {"timezone": "Europe/Nowhere"},
        {"timezone": "../etc/passwd"},
        {"timezone": ""},
        {"timezone": "+25:00"},
        {"begins": "05:00"},
        {"begins": "05:00", "days": tuple(Weekday)},
    ],
)
def test_what_is_no_time_is_refused(wrong: dict[str, Any]) -> None:
    """Times, zones, and hours that would always be open."""
    with pytest.raises(InvalidValueError):
        Hours(**({"begins": "22:00", "ends": "05:00"} | wrong)).check()


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"timezone": "Asia/Kathmandu", "utc_offset_minutes": 345}, "Asia/Kathmandu"),
        ({"timezone": "Mars/Olympus", "utc_offset_minutes": -210}, "-03:30"),
        ({"timezone": None, "utc_offset_minutes": 0}, "+00:00"),
        ({"utc_offset_minutes": 345}, "+05:45"),
        ({"timezone": 5, "utc_offset_minutes": "60"}, None),
        ({"utc_offset_minutes": True}, None),
        ({"utc_offset_minutes": 100_000}, None),
        ({}, None),
    ],
)
def test_a_machine_tells_its_zone(facts: dict[str, Any], told: str | None) -> None:
    """By name where we know it, else by its offset; what a machine says is not taken for granted."""
    assert timezone_of(facts) == told
    if told is not None:
        Hours(begins="22:00", ends="05:00").of(told).check()


def test_a_machine_without_time_zones_knows_them_all_the_same() -> None:
    """A slim container has none in its system, and hours by a zone's name open there as anywhere."""
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        night = Hours(begins="22:00", ends="05:00", timezone="Europe/Vienna")
        night.check()
        assert night.open_at(datetime(2026, 7, 1, 20, 30, tzinfo=UTC))
        assert not night.open_at(datetime(2026, 12, 1, 20, 30, tzinfo=UTC))
    finally:
        zoneinfo.reset_tzpath()
        zoneinfo.ZoneInfo.clear_cache()
