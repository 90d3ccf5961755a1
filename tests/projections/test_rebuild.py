"""A rebuild puts fresh rows in the place of live ones with no downtime; verify finds what is not as the log says."""

import asyncio
import threading
from typing import Any

import psycopg
import pytest

from projections import catalog
from projections.catalog import names
from projections.errors import RebuildRunningError, UnknownProjectionError
from projections.pending import Pending
from projections.rebuild import rebuild
from projections.runner import Projector
from projections.tables import create_tables
from projections.verify import verify
from projections.wait import PositionWaiter
from tests.projections.database import head, positions, rows_of
from tests.projections.process import REPLACED
from tests.projections.running import EVERYBODY, PATIENCE_S, a_process, history, wait_until_halted


async def test_rebuilding_under_load_misses_nothing(
    postgres_url: str, conninfo: str, projector: Projector, waiter: PositionWaiter
) -> None:
    """While events are appended and folded, rebuilds of every projection lose none and double none."""
    writing = asyncio.gather(*(history(postgres_url, 20 + writer, steps=250) for writer in range(3)))
    rounds = 0
    while not writing.done() or rounds == 0:
        for name in names():
            await asyncio.to_thread(rebuild, conninfo, name)
        rounds += 1
    await writing
    await waiter.wait(head(postgres_url), EVERYBODY, PATIENCE_S)
    for name in names():
        found = await asyncio.to_thread(verify, conninfo, name)
        assert found.ok, found.differences
    assert projector.failure is None


async def test_rows_can_be_read_all_the_while(postgres_url: str, conninfo: str) -> None:
    """A reader that looks again and again meets the full table each time, however often it is replaced."""
    await history(postgres_url, 30)
    expected = len(rows_of(postgres_url)["pending"])
    assert expected
    done = threading.Event()

    def look() -> set[int]:
        counts = set()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            while not done.is_set():
                counts.update(connection.execute("SELECT count(*)::int FROM pending").fetchone() or ())
        return counts

    looking = asyncio.create_task(asyncio.to_thread(look))
    for _ in range(5):
        await asyncio.to_thread(rebuild, conninfo, "pending")
    done.set()
    assert await looking == {expected}


@pytest.mark.parametrize("name", ["pending", "agents"])
async def test_killed_in_its_last_moment_a_rebuild_has_changed_nothing(
    postgres_url: str, conninfo: str, admin: psycopg.Connection[Any], name: str
) -> None:
    """Killed after it replaced the tables and before its commit, it leaves the live ones; the next one succeeds."""
    await history(postgres_url, 31)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("UPDATE tracking SET position = 0")  # the projector has not folded anything yet
    before, stood = rows_of(postgres_url), positions(postgres_url)
    with a_process(conninfo, REPLACED, "1", name) as process:
        await asyncio.wait_for(asyncio.to_thread(wait_until_halted, process), PATIENCE_S)
        process.kill()
    assert (rows_of(postgres_url), positions(postgres_url)) == (before, stood)
    left = admin.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'read_shadow'").fetchone()
    assert left == (1,)
    # The killed one's lock goes with its connection, which the server notices in its own time.
    for _ in range(100):
        try:
            await asyncio.to_thread(rebuild, conninfo, name)
            break
        except RebuildRunningError:
            await asyncio.sleep(0.05)
    assert (await asyncio.to_thread(verify, conninfo, name)).ok
    left = admin.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'read_shadow'").fetchone()
    assert left == (0,)


async def test_one_rebuild_at_a_time(postgres_url: str, conninfo: str) -> None:
    """A second rebuild of the same projection is told that one runs; an unknown name is told which there are."""
    await history(postgres_url, 32, steps=5)
    with psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('fleetlog rebuild agents', 0))")
        with pytest.raises(RebuildRunningError):
            await asyncio.to_thread(rebuild, conninfo, "agents")
        await asyncio.to_thread(rebuild, conninfo, "clients")
    with pytest.raises(UnknownProjectionError, match="clients"):
        await asyncio.to_thread(rebuild, conninfo, "nonsense")


async def test_verify_finds_what_was_planted(postgres_url: str, conninfo: str) -> None:
    """A changed row, a missing row and a row too many are each reported, with their side; a rebuild mends them."""
    await history(postgres_url, 33, steps=200)
    table = rows_of(postgres_url)["pending"]
    changed, missing = table[0][0], table[1][0]
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("UPDATE pending SET attempt = 7 WHERE command_id = %s", (changed,))
        connection.execute("DELETE FROM pending WHERE command_id = %s", (missing,))
        connection.execute(
            'INSERT INTO pending SELECT (jsonb_populate_record(pending, \'{"command_id":'
            ' "00000000-0000-0000-0000-000000000001"}\')).* FROM pending WHERE command_id = %s',
            (table[2][0],),
        )
    found = await asyncio.to_thread(verify, conninfo, "pending")
    assert not found.ok
    assert found.differing == 4
    seen = {(difference.side, difference.row["command_id"].int == 1) for difference in found.differences}
    assert seen == {("live", False), ("live", True), ("log", False)}
    by_side = {side: {d.row["command_id"] for d in found.differences if d.side == side} for side in ("live", "log")}
    assert by_side["log"] == {changed, missing}
    assert changed in by_side["live"]
    await asyncio.to_thread(rebuild, conninfo, "pending")
    assert (await asyncio.to_thread(verify, conninfo, "pending")).ok
    assert rows_of(postgres_url)["pending"] == table


async def test_a_changed_queue_is_remade_before_anybody_appends(
    postgres_url: str, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the queue's table changes, making the tables rebuilds it, since appends write it without waiting."""
    await history(postgres_url, 34)
    table = rows_of(postgres_url)["pending"]
    changed = Pending()
    changed.indexes += "\nCREATE INDEX pending_new_idx ON pending (queued_at);"
    changed.digest = "changed"
    monkeypatch.setattr(catalog, "ALL_PROJECTIONS", (changed,))
    await create_tables(postgres_url, (changed,))
    assert rows_of(postgres_url, (changed,))["pending"] == table
    assert admin.execute("SELECT to_regclass('read.pending_new_idx') IS NOT NULL").fetchone() == (True,)
    owner = admin.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'pending'").fetchone()
    assert owner == ("fleetlog_app",)
