"""Invariant 4: one at a time within a lane, in (priority, position) order; lanes side by side, up to a bound."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import ServerClock
from agent.journal import Key, Waiting
from agent.lanes import Lanes

LATER = datetime(2030, 1, 1, tzinfo=UTC)
attempts = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9)).map(lambda pair: {"lane": pair[0], "priority": pair[1]}),
    max_size=12,
).map(
    lambda rows: [Waiting(key=Key(UUID(int=n), 1), position=n, expires_at=LATER, **row) for n, row in enumerate(rows)]
)


@given(attempts=attempts, parallel=st.integers(1, 3), data=st.data())
def test_order_within_lanes(attempts: list[Waiting], parallel: int, data: st.DataObject) -> None:
    """Whenever attempts arrive and end, what starts is the first of a free lane, and all start once."""
    lanes = Lanes(parallel=parallel)
    to_come, present, running, started = list(attempts), [], [], []
    while to_come or present or running:
        # Without a choice there is nothing to draw, so that every step of the loop is a step towards its end.
        must_come = not present and not running
        if to_come and (must_come or data.draw(st.booleans())):
            arriving = to_come.pop(0)
            lanes.add([arriving, arriving])
            present.append(arriving)
        elif (taken := lanes.take()) is not None:
            assert taken.lane not in {other.lane for other in running}
            mates = [other for other in present if other.lane == taken.lane]
            assert taken == min(mates, key=lambda other: (other.priority, other.position))
            present.remove(taken)
            running.append(taken)
            started.append(taken)
            assert len(running) <= parallel
        elif running:
            ended = data.draw(st.sampled_from(running))
            running.remove(ended)
            lanes.done(ended)
        else:
            assert not present
    assert sorted(a.key for a in started) == sorted(a.key for a in attempts)


def test_expired_and_dropped_do_not_start() -> None:
    """What has expired or was cancelled while waiting does not start."""
    lanes = Lanes()
    soon, gone, stays = (
        Waiting(key=Key(UUID(int=n), 1), lane="a", priority=5, position=n, expires_at=LATER + timedelta(days=n))
        for n in range(3)
    )
    lanes.add([soon, gone, stays])
    lanes.drop_command(gone.key.command_id)
    assert lanes.expired(LATER) == [soon.key]
    assert lanes.take() == stays
    assert lanes.take() is None


def test_server_clock_survives_steps_of_the_wall_clock() -> None:
    """The server's time follows a counter, is never below what was signed, and is taken up again after a restart."""
    counter, wall = [100.0], [5_000.0]
    clock = ServerClock(elapsed=lambda: counter[0], wall=lambda: wall[0])
    server = datetime(2026, 1, 1, tzinfo=UTC)
    clock.heard(server, 2.0)
    counter[0] += 10
    wall[0] -= 99_999
    assert clock.now() == server + timedelta(seconds=11)
    clock.signed(server + timedelta(minutes=5))
    clock.heard(server - timedelta(days=300), 0.0)
    assert clock.now() == server + timedelta(minutes=5)
    clock.signed(server - timedelta(days=1), 7)
    clock.heard(server, 0.0)
    assert clock.now() == server, "a newer word of the server's is believed, though it is of an earlier time"
    clock.signed(server + timedelta(minutes=5), 7)
    clock.signed(server, 7)
    assert clock.now() == server + timedelta(minutes=5), "an old word said again is not"
    again = ServerClock(last_offset_s=clock.offset_s, elapsed=lambda: counter[0], wall=lambda: wall[0])
    assert abs(again.now() - clock.now()) < timedelta(milliseconds=1)
