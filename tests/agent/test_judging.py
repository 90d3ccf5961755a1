"""When a check's state changes: by so many measurements in a row, and to what they agree on."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.judging import GRAVITY, Standing, judged
from schema.checks import STATES

NOW = datetime(2026, 5, 1, tzinfo=UTC)
MEASURED = st.lists(st.sampled_from(STATES), max_size=40)
IN_A_ROW = st.integers(1, 5)


def at(number: int) -> datetime:
    return NOW + timedelta(seconds=number)


def gravity(state: str | None) -> int:
    return GRAVITY[state or "passing"]


def followed(found: list[str], failures: int, recoveries: int) -> list[Standing]:
    standing, stood = Standing(), []
    for number, state in enumerate(found):
        standing = judged(standing, state, at(number), failures=failures, recoveries=recoveries)
        stood.append(standing)
    return stood


@given(MEASURED, IN_A_ROW, IN_A_ROW)
def test_a_state_is_what_so_many_in_a_row_agree_on(found: list[str], failures: int, recoveries: int) -> None:
    """It gets worse only by as many worse ones in a row as are asked for, and is the mildest of them; better alike."""
    before: str | None = None
    for number, standing in enumerate(followed(found, failures, recoveries)):
        if standing.state != before:
            worse = gravity(standing.state) > gravity(before)
            begun = before is None and standing.state == "passing"
            length = 1 if begun else failures if worse else recoveries
            row = found[number + 1 - length : number + 1]
            assert len(row) == length
            assert begun or all((gravity(one) > gravity(before)) is worse for one in row)
            assert standing.state in ((min if worse else max)(row, key=gravity), row[-1])
            assert standing.since == at(number + 1 - length)
        before = standing.state


@given(MEASURED, IN_A_ROW, IN_A_ROW, st.sampled_from(STATES))
def test_what_stays_so_counts_in_the_end(found: list[str], failures: int, recoveries: int, last: str) -> None:
    """Whatever came before, as many measurements of one state as are asked for at the most make it that state."""
    several = max(failures, recoveries)
    stood = followed([*found, *[last] * (2 * several)], failures, recoveries)
    assert stood[-1].state == last


@given(MEASURED, IN_A_ROW, IN_A_ROW)
def test_fewer_in_a_row_change_nothing(found: list[str], failures: int, recoveries: int) -> None:
    """A row that is broken off before it counts leaves nothing behind: the state, and since when, stay."""
    standing = Standing(state="warning", since=NOW)
    for _ in range(failures - 1):
        standing = judged(standing, "failing", at(1), failures=failures, recoveries=recoveries)
    assert standing.state == "warning"
    broken = judged(standing, "warning", at(2), failures=failures, recoveries=recoveries)
    assert broken == Standing(state="warning", since=NOW)
    del found


def test_states_that_hop_count_as_one_row() -> None:
    """Warning and failing by turns are worse than passing all the time: what all of them are at least."""
    stood = followed(["passing", "failing", "warning", "failing"], 3, 1)
    assert [one.state for one in stood] == ["passing", "passing", "passing", "warning"]
    assert stood[-1].since == at(1)
