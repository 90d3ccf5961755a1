"""Pages of a few events, which one statement writes."""

import asyncio
import time
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from structlog.testing import capture_logs

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from projections import tracking
from projections.catalog import FOLLOWING, INLINE, names
from projections.paging import fold_page
from projections.small_pages import EVENTS, LEFT, Stand, fold_small
from projections.verify import verify
from tests.projections.database import forget_everything, head, positions, record, rows_of
from tests.projections.histories import Fleet


def stand_of(url: str) -> Stand:
    (position,) = {positions(url)[projection.name] for projection in FOLLOWING}
    return Stand.of(FOLLOWING, position)


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_folded_as_it_comes_it_gives_the_rows_that_the_log_gives(postgres_url: str, seed: int, steps: int) -> None:
    """Append by append, each folded by one statement: the rows are those of a fresh fold of the whole log."""
    forget_everything(postgres_url)
    fleet = Fleet(seed)

    async def live() -> int:
        log = PostgresEventLog(postgres_url, inline=INLINE, name="small")
        await log.start()
        stand, small = stand_of(postgres_url), 0
        try:
            with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as connection:
                for changes in fleet.history(steps):
                    await log.append(list(changes), fleet.metadata())
                    found = fold_small(connection, stand)
                    small += found is not None
                    if found is None:
                        assert len(changes) > EVENTS, changes
                        fold_page(connection, FOLLOWING, 1_000)
                    stand = stand_of(postgres_url)
        finally:
            await log.stop()
        return small

    assert asyncio.run(live()) > 0
    for name in names():
        found = verify(app_conninfo(postgres_url), name)
        assert found.ok, found.differences
        assert found.position == head(postgres_url)


@pytest.fixture
def some_events(postgres_url: str) -> Stand:
    """A log with a few events that are not folded yet."""
    fleet = Fleet(7)
    asyncio.run(record(postgres_url, ((changes, fleet.metadata()) for changes in fleet.history(5))))
    assert head(postgres_url) <= EVENTS
    return stand_of(postgres_url)


def elsewhere(stand: Stand) -> Stand:
    return structs.replace(stand, position=stand.position + 1)


def too_old(stand: Stand) -> Stand:
    return structs.replace(stand, until=time.monotonic() - 1)


def _left() -> float:
    """How many pages were left to the other way."""
    return sum(sample.value for metric in LEFT.collect() for sample in metric.samples if sample.name.endswith("_total"))


@pytest.mark.parametrize("changed", [elsewhere, too_old])
def test_from_a_place_where_they_do_not_stand_nothing_is_written(
    postgres_url: str, some_events: Stand, changed: Any
) -> None:
    """Whoever moved the tracking rows meanwhile, a page that does not fit on is not folded."""
    before = rows_of(postgres_url)
    with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as connection:
        assert fold_small(connection, changed(some_events)) is None
    assert rows_of(postgres_url) == before
    assert stand_of(postgres_url).position == some_events.position


@pytest.mark.parametrize("statement", ["UPDATE tracking SET status = 'stopped'", "UPDATE tracking SET digest = 'x'"])
def test_a_projection_that_is_not_going_is_left_alone(postgres_url: str, some_events: Stand, statement: str) -> None:
    """One that was stopped, or that another program remade, makes the whole page one to be looked at."""
    with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as connection:
        connection.execute(f"{statement} WHERE projection = 'scripts'")  # type: ignore[arg-type]
        before, left = rows_of(postgres_url), _left()
        with capture_logs() as said:
            assert fold_small(connection, some_events) is None
        assert rows_of(postgres_url) == before
    assert _left() == left + 1, "it is counted, and said why"
    (line,) = said
    assert (line["event"], line["log_level"], line["after"]) == ("small_page_left", "warning", some_events.position)
    assert line["error"]


def test_a_row_that_is_missing_stops_its_projection_alone(postgres_url: str, some_events: Stand) -> None:
    """What a strict projection must find and does not is found out by the usual way, which says whose fault it is."""
    with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as connection:
        fleet = Fleet(8)
        found = fold_small(connection, some_events)
        assert found is not None
        asyncio.run(record(postgres_url, [(fleet.new_client(), fleet.metadata())]))
        found = fold_small(connection, found.stand)
        assert found is not None
        connection.execute("DELETE FROM clients WHERE client_id = %s", [fleet.clients[-1].stream_id])
        asyncio.run(record(postgres_url, [([fleet.clients[-1].rename("gone")], fleet.metadata())]))
        assert fold_small(connection, found.stand) is None
        folded = fold_page(connection, FOLLOWING, 1_000, None, found.stand)
        assert [stop.projection for stop in folded.stops] == ["clients"]
        with connection.cursor() as cursor:
            there = tracking.read_all(cursor)
        assert there["clients"].stopped
        assert there["agents"].position == head(postgres_url)
