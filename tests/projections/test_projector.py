"""The projector follows the log: exactly once, past others' bad events, whoever is killed."""

import asyncio
from typing import Any

import psycopg
import pytest

from projections.catalog import list_status, names
from projections.errors import PositionTimeoutError, ProjectionError, UnknownProjectionError
from projections.rebuild import rebuild
from projections.runner import Projector, resume
from projections.verify import verify
from projections.wait import PositionWaiter
from tests.projections.database import head, plant, positions, rows_of
from tests.projections.process import ADVANCED, FOLDED, PAGE_SIZE
from tests.projections.running import EVERYBODY, PATIENCE_S, a_process, history, until, wait_until_halted


async def test_what_is_appended_is_soon_read(postgres_url: str, projector: Projector, waiter: PositionWaiter) -> None:
    """Who waits for the position of a write then reads what was written."""
    assert projector.state in {"standby", "running"}
    position = await history(postgres_url, 1)
    await waiter.wait(position, EVERYBODY, PATIENCE_S)
    for name in names():
        assert (await asyncio.to_thread(verify, projector._conninfo, name)).ok


async def test_waiting_ends(postgres_url: str, waiter: PositionWaiter) -> None:
    """Without a projector a wait ends in an error that names who is behind; the queue is current all the same."""
    position = await history(postgres_url, 2, steps=5)
    await waiter.wait(position, ["pending"], 0.01)
    with pytest.raises(PositionTimeoutError, match="agents did not reach"):
        await waiter.wait(position, ["agents", "pending"], 0.05)
    with pytest.raises(UnknownProjectionError):
        await waiter.wait(position, ["nonsense"], 0.05)


@pytest.mark.parametrize(
    ("topic", "state"),
    [
        ("ClientRenamed/1", b'{"name":'),
        ("ClientRenamed/1", b'{"nom":"x"}'),
        ("ClientRenamed/2", b'{"name":"x"}'),
        ("ClientRenamed/1", b'{"name":"of no client"}'),
    ],
    ids=["damaged", "of another shape", "of a newer program", "that fits no row"],
)
async def test_a_projection_stops_at_a_bad_event_and_the_others_go_on(
    postgres_url: str,
    projector: Projector,
    waiter: PositionWaiter,
    reader: psycopg.AsyncConnection[Any],
    admin: psycopg.Connection[Any],
    topic: str,
    state: bytes,
) -> None:
    """It stops right before the event, says which and why, and goes on once the cause is mended."""
    before = await history(postgres_url, 3)
    bad = await asyncio.to_thread(plant, admin, topic, state)
    after = await history(postgres_url, 4)
    others = [name for name in EVERYBODY if name != "clients"]
    await waiter.wait(after, others, PATIENCE_S)
    await until(lambda: positions(postgres_url)["clients"] == before)
    status = {row.name: row for row in await list_status(reader)}
    stopped = status.pop("clients")
    assert (stopped.status, stopped.position, stopped.head, stopped.lag) == ("stopped", before, after, after - before)
    assert (stopped.error_position, stopped.error_topic) == (bad, topic)
    assert stopped.error
    assert {row.status for row in status.values()} == {"running"}
    assert {row.lag for row in status.values()} == {0}

    with pytest.raises(Exception, match=r"ClientRenamed|not there"):
        await asyncio.to_thread(rebuild, projector._conninfo, "clients")
    assert positions(postgres_url)["clients"] == before  # and what a rebuild could not make better, it left alone

    admin.execute("SET session_replication_role TO replica")
    admin.execute("DELETE FROM fleetlog.events WHERE notification_id = %s", (bad,))
    await asyncio.to_thread(resume, projector._conninfo, "clients")
    await waiter.wait(after, ["clients"], PATIENCE_S)
    assert (await asyncio.to_thread(verify, projector._conninfo, "clients")).ok
    with pytest.raises(ProjectionError):
        await asyncio.to_thread(resume, projector._conninfo, "clients")


async def test_a_rebuild_sets_a_stopped_projection_going(
    postgres_url: str, projector: Projector, waiter: PositionWaiter, admin: psycopg.Connection[Any]
) -> None:
    """After the cause is mended, a rebuild alone lets it follow again."""
    bad = await asyncio.to_thread(plant, admin, "ClientRenamed/1", b"")
    position = await history(postgres_url, 5)
    await waiter.wait(position, ["agents"], PATIENCE_S)
    admin.execute("SET session_replication_role TO replica")
    admin.execute("DELETE FROM fleetlog.events WHERE notification_id = %s", (bad,))
    await asyncio.to_thread(rebuild, projector._conninfo, "clients")
    position = await history(postgres_url, 6)
    await waiter.wait(position, EVERYBODY, PATIENCE_S)


def stand(url: str) -> set[int]:
    """Where they are, who follow the log."""
    there = positions(url)
    return {there[name] for name in EVERYBODY}


async def test_killed_in_mid_page_it_folds_each_event_once(
    postgres_url: str, conninfo: str, admin: psycopg.Connection[Any]
) -> None:
    """Killed with a page's rows written but not committed, it leaves nothing of that page, and folds it once later."""
    last = await history(postgres_url, 7, steps=300)
    reached = 0
    for step in (FOLDED, ADVANCED, FOLDED):
        with a_process(conninfo, step, "3") as process:
            await asyncio.wait_for(asyncio.to_thread(wait_until_halted, process), PATIENCE_S)
            # It stands in its third page: the two before are committed, and it holds the tracking rows of this one.
            reached += 2 * PAGE_SIZE
            assert stand(postgres_url) == {reached}
            with pytest.raises(psycopg.errors.LockNotAvailable):
                admin.execute("SELECT 1 FROM read.tracking WHERE projection = 'commands' FOR UPDATE NOWAIT")
            process.kill()
        assert stand(postgres_url) == {reached}
    assert reached < last
    projector = Projector(conninfo)
    await projector.start()
    await until(lambda: stand(postgres_url) == {last})
    await projector.stop()
    folded = rows_of(postgres_url)
    for name in names():
        await asyncio.to_thread(rebuild, conninfo, name)
    assert rows_of(postgres_url) == folded


async def test_a_standby_takes_over(postgres_url: str, conninfo: str, waiter: PositionWaiter) -> None:
    """Of two projectors one works; when it is killed the other goes on from where it was."""
    with a_process(conninfo) as process:
        await waiter.wait(await history(postgres_url, 8), EVERYBODY, PATIENCE_S)
        standby = Projector(conninfo, poll_s=0.05)
        await standby.start()
        await until(lambda: standby.state == "standby")
        process.kill()
        await until(lambda: standby.state == "running")
        await waiter.wait(await history(postgres_url, 9), EVERYBODY, PATIENCE_S)
        await standby.stop()


async def test_lost_connections_are_made_anew(
    postgres_url: str, projector: Projector, waiter: PositionWaiter, admin: psycopg.Connection[Any]
) -> None:
    """Projector and waiter outlive the loss of their connections."""
    await waiter.wait(await history(postgres_url, 10, steps=10), EVERYBODY, PATIENCE_S)
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await waiter.wait(await history(postgres_url, 11, steps=10), EVERYBODY, PATIENCE_S)
    assert projector.failure is None


async def test_rows_of_another_version_of_a_fold_are_remade(
    postgres_url: str, conninfo: str, waiter: PositionWaiter, admin: psycopg.Connection[Any]
) -> None:
    """At its start a projector rebuilds the projections whose tables or fold have changed since."""
    position = await history(postgres_url, 12)
    admin.execute("UPDATE read.tracking SET digest = 'old', position = %s WHERE projection = 'agents'", (position,))
    projector = Projector(conninfo)
    await projector.start()
    await until(lambda: projector.state == "running")
    await waiter.wait(position, EVERYBODY, PATIENCE_S)
    assert (await asyncio.to_thread(verify, conninfo, "agents")).rows > 0
    await projector.stop()
    assert head(postgres_url) == position


async def test_given_up_before_there_is_a_database_it_leaves_nothing_behind() -> None:
    """Who no longer waits for its start has ended it."""
    projector = Projector("host=127.0.0.1 port=9 dbname=none")
    starting = asyncio.create_task(projector.start())
    await until(lambda: projector.state == "waiting")
    thread = projector._thread
    assert thread is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (projector.state, projector._wake_up, thread.is_alive()) == ("stopped", None, False)
