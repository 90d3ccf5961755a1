"""Times and spans as people type them."""

from datetime import UTC, datetime, timedelta

import pytest

from gateways.cli.errors import BadValueError
from gateways.cli.times import point, seconds, span

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("90", 90), ("90s", 90), ("15m", 900), ("15 min", 900), ("2h", 7200), ("7d", 604_800), ("1W", 604_800)],
)
def test_spans(text: str, expected_s: int) -> None:
    """A span is a number and a unit, seconds where none is named."""
    assert seconds(text) == expected_s


@pytest.mark.parametrize("text", ["", "soon", "-5m", "1.5h", "10y", "99999999999999999d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """Anything else is refused in words."""
    with pytest.raises(BadValueError):
        span(text)


def test_a_point_is_a_time_or_a_span_from_now() -> None:
    """A span counts forward, or backward where the past is asked for; a time with a zone is itself."""
    assert point("2h", NOW) == NOW + timedelta(hours=2)
    assert point("2h", NOW, past=True) == NOW - timedelta(hours=2)
    assert point("2026-05-02T00:00+02:00", NOW) == datetime(2026, 5, 1, 22, 0, tzinfo=UTC)


def test_a_time_without_a_zone_is_this_machines() -> None:
    """What the reader's own clock would show is what they mean."""
    assert point("2026-05-02T00:00", NOW) == datetime(2026, 5, 2).astimezone()


@pytest.mark.parametrize("text", ["tomorrow", "2026-13-01", "9999999w"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Neither a time nor a span, or one beyond the calendar, is refused in words."""
    with pytest.raises(BadValueError):
        point(text, NOW)
