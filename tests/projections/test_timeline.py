"""Each event as a line."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from domain.catalog import EVENTS
from domain.codec import TOPICS
from domain.event import Event, Recorded, Undecodable
from projections.timeline import describe
from tests.projections.histories import Fleet


def recorded(event: Event) -> Recorded:
    at, some = datetime.now(UTC), uuid4()
    return Recorded(1, some, 1, TOPICS[type(event)], event, at, "system", some, None, None, None)


def test_an_event_that_cannot_be_read_has_a_line() -> None:
    """It says so and why, on one line."""
    some = uuid4()
    event = Undecodable(body=b"{}", error="ClientCreated/9: no way\nto version 1.")
    line = describe(Recorded(1, some, 1, "ClientCreated/9", event, datetime.now(UTC), "system", some, None, None, None))
    assert line == "An event that this version cannot read: ClientCreated/9: no way to version 1."


def told(seed: int) -> list[Event]:
    return [change.event for changes in Fleet(seed).history(1500) for change in changes]


def test_every_event_has_a_line_of_its_own() -> None:
    """No type falls back to its bare name."""
    from projections.timeline import _LINES

    assert set(_LINES) == set(EVENTS.values())


@pytest.mark.parametrize("seed", range(3))
def test_a_line_is_one_line_whatever_the_event_holds(seed: int) -> None:
    """Line breaks, NULs and terminal control characters from machines and people do not get through."""
    for event in told(seed):
        line = describe(recorded(event))
        assert line.isprintable()
        assert line.endswith(".")
        assert 8 < len(line) < 300
