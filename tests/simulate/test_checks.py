"""The judge of a simulation finds each thing that must not be, and nothing else."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gateways.simulate.checks import Checks, Rule
from schema import wire

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ONE, OTHER = UUID(int=1), UUID(int=2)


def order(number: int = 10, *, attempt: int = 1, lane: str = "default", expires_in_s: float = 60.0) -> wire.Order:
    return wire.Order(
        command_id=UUID(int=number),
        attempt=attempt,
        lane=lane,
        priority=5,
        position=number,
        expires_at=NOW + timedelta(seconds=expires_in_s),
        age_ms=0,
        work=b"",
        correlation_id=UUID(int=number),
    )


def whole(checks: Checks, one: wire.Order, outcome: str = "succeeded", agent: UUID = ONE) -> None:
    checks.sent(agent, one, NOW)
    checks.accepted(agent, one)
    checks.began(agent, one, NOW)
    checks.ended(agent, one, outcome)


def test_what_is_promised_breaks_nothing() -> None:
    """Commands in their order, one repeated after it failed, one delivered again, two lanes at once: all is well."""
    checks = Checks()
    whole(checks, order(10), "failed")
    whole(checks, order(11))
    checks.sent(ONE, order(11), NOW)
    whole(checks, order(10, attempt=2))
    checks.accepted(ONE, order(12))
    checks.accepted(ONE, order(13, lane="system"))
    checks.began(ONE, order(12), NOW)
    checks.began(ONE, order(13, lane="system"), NOW)
    whole(checks, order(9), agent=OTHER)
    assert (checks.breaches, checks.out_of_order, checks.runs) == ([], [], 6)


def _two_agents(checks: Checks) -> None:
    checks.accepted(ONE, order())
    checks.accepted(OTHER, order())


def _again_while_it_runs(checks: Checks) -> None:
    checks.accepted(ONE, order())
    checks.accepted(ONE, order(attempt=2))


def _again_after_success(checks: Checks) -> None:
    whole(checks, order())
    checks.accepted(ONE, order(attempt=2))


def _an_older_attempt(checks: Checks) -> None:
    whole(checks, order(attempt=2), "failed")
    checks.accepted(ONE, order(attempt=1))


def _run_twice(checks: Checks) -> None:
    whole(checks, order())
    checks.began(ONE, order(), NOW)


def _two_at_a_time(checks: Checks) -> None:
    checks.began(ONE, order(10), NOW)
    checks.began(ONE, order(11), NOW)


def _sent_long_after_it_expired(checks: Checks) -> None:
    checks.sent(ONE, order(expires_in_s=-10), NOW)


def _run_after_it_expired(checks: Checks) -> None:
    checks.began(ONE, order(expires_in_s=0), NOW)


def _sent_long_after_it_was_cancelled(checks: Checks) -> None:
    checks.cancelled(order().command_id, NOW - timedelta(seconds=10))
    checks.sent(ONE, order(), NOW)


@pytest.mark.parametrize(
    ("happens", "rule"),
    [
        (_two_agents, Rule.ONCE),
        (_again_while_it_runs, Rule.ONCE),
        (_again_after_success, Rule.ONCE),
        (_an_older_attempt, Rule.ONCE),
        (_run_twice, Rule.ONCE),
        (_two_at_a_time, Rule.ORDER),
        (_sent_long_after_it_expired, Rule.LATE),
        (_run_after_it_expired, Rule.LATE),
        (_sent_long_after_it_was_cancelled, Rule.LATE),
    ],
)
def test_a_breach_is_found(happens: Callable[[Checks], None], rule: Rule) -> None:
    """Each of these breaks one rule, once."""
    checks = Checks()
    happens(checks)
    assert [breach.rule for breach in checks.breaches] == [rule]
    assert checks.broken == {rule: 1}


def test_what_comes_out_of_order_is_noted_and_not_yet_condemned() -> None:
    """A command that was queued before another and comes after it may have had to wait: only the platform knows."""
    checks = Checks()
    whole(checks, order(11))
    whole(checks, order(10))
    assert [one.command_id for one in checks.out_of_order] == [order(10).command_id]
    assert checks.breaches == []
