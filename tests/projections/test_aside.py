"""A list of many agents is folded by itself: those who wait for anything else do not wait for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.clients import ClientCreated
from domain.event import Change, Event, Metadata
from domain.ids import AgentId, ClientId, SiteId
from domain.rollout_events import Entry, RolloutTargeted
from domain.rollouts import CHUNK_ENTRIES
from projections.catalog import FOLLOWING
from projections.paging import HEAVY_ROWS, fold_page
from projections.runner import PAGE, Projector
from projections.verify import verify
from projections.wait import PositionWaiter
from tests.projections.database import plant, positions, record
from tests.projections.running import EVERYBODY, PATIENCE_S, until

OTHERS = [name for name in EVERYBODY if name != "rollouts"]
CLIENT, SITE = ClientId(UUID(int=1)), SiteId(UUID(int=2))
HELD_UP = """
    CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$;
    CREATE TRIGGER held_up BEFORE INSERT ON read.rollout_commands EXECUTE FUNCTION held_up()
"""
WAITING = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@contextmanager
def held_up(url: str) -> Iterator[None]:
    """Rows of the list wait."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(HELD_UP)
        connection.execute("SELECT pg_advisory_lock(42)")
        yield


async def listed(url: str, rows: int) -> int:
    """A rollout's list, and then a client; returns the last position."""
    rollout_id = uuid4()
    parts = [
        RolloutTargeted(entries=tuple(Entry(AgentId(uuid4()), CLIENT, SITE, 0) for _ in range(CHUNK_ENTRIES)))
        for _ in range(rows // CHUNK_ENTRIES)
    ]
    changes = [Change(rollout_id, version, part) for version, part in enumerate(parts, 1)]
    return await said(url, changes)


async def said(url: str, before: list[Change]) -> int:
    client: Event = ClientCreated(name="Acme")
    metadata = Metadata(actor="system", correlation_id=uuid4())
    return await record(url, [(changes, metadata) for changes in (before, [Change(uuid4(), 1, client)]) if changes])


def rows(admin: psycopg.Connection[Any]) -> int:
    ((count,),) = admin.execute("SELECT count(*) FROM read.rollout_commands").fetchall()
    return int(count)


def under_way(admin: psycopg.Connection[Any]) -> bool:
    """Whether a list's rows wait."""
    return admin.execute(f"SELECT pid {WAITING}").fetchone() is not None


async def test_nobody_waits_for_a_list_but_those_who_read_it(
    postgres_url: str, projector: Projector, waiter: PositionWaiter, admin: psycopg.Connection[Any]
) -> None:
    """What comes behind a list that is under way is folded; the list is then there once, and all go on together."""
    await until(lambda: projector.state == "running")
    with held_up(postgres_url):
        position = await listed(postgres_url, HEAVY_ROWS)
        await waiter.wait(position, OTHERS, PATIENCE_S)
        position = await said(postgres_url, [])
        await waiter.wait(position, OTHERS, PATIENCE_S)
        assert positions(postgres_url)["rollouts"] < position
        assert rows(admin) == 0
    await waiter.wait(position, EVERYBODY, PATIENCE_S)
    assert rows(admin) == HEAVY_ROWS
    assert (await asyncio.to_thread(verify, projector._conninfo, "rollouts")).ok
    position = await said(postgres_url, [])
    await waiter.wait(position, EVERYBODY, PATIENCE_S)


async def test_what_is_aside_outlives_its_connection(
    postgres_url: str, projector: Projector, waiter: PositionWaiter, admin: psycopg.Connection[Any]
) -> None:
    """Broken off, a list has left nothing, and is folded anew."""
    await until(lambda: projector.state == "running")
    with held_up(postgres_url):
        position = await listed(postgres_url, HEAVY_ROWS)
        await waiter.wait(position, OTHERS, PATIENCE_S)
        await until(lambda: under_way(admin))
        admin.execute(f"SELECT pg_terminate_backend(pid) {WAITING}")
    await waiter.wait(position, EVERYBODY, PATIENCE_S)
    assert rows(admin) == HEAVY_ROWS


async def test_a_list_that_was_left_is_taken_up_beside_the_rest(
    postgres_url: str, conninfo: str, waiter: PositionWaiter, admin: psycopg.Connection[Any]
) -> None:
    """Whoever starts where a list lies behind the others folds it aside, too."""
    await listed(postgres_url, HEAVY_ROWS)
    others = [projection for projection in FOLLOWING if projection.name != "rollouts"]
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while fold_page(connection, others, PAGE).full:
            pass
    projector = Projector(conninfo)
    with held_up(postgres_url):
        await projector.start()
        position = await said(postgres_url, [])
        await waiter.wait(position, OTHERS, PATIENCE_S)
        assert rows(admin) == 0
    await waiter.wait(position, EVERYBODY, PATIENCE_S)
    await projector.stop()
    assert projector.failure is None
    assert rows(admin) == HEAVY_ROWS


async def test_the_projectors_own_connection_is_lost_with_a_list_in_hand(
    postgres_url: str, projector: Projector, waiter: PositionWaiter, admin: psycopg.Connection[Any]
) -> None:
    """It comes back, or another takes over, and the list is there once."""
    await until(lambda: projector.state == "running")
    standby = Projector(projector._conninfo, poll_s=0.05)
    await standby.start()
    with held_up(postgres_url):
        position = await listed(postgres_url, HEAVY_ROWS)
        await waiter.wait(position, OTHERS, PATIENCE_S)
        await until(lambda: under_way(admin))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid <> 42"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        await until(lambda: standby.state == "running")
    await waiter.wait(position, EVERYBODY, PATIENCE_S)
    assert rows(admin) == HEAVY_ROWS
    await standby.stop()
    await waiter.wait(await said(postgres_url, []), EVERYBODY, PATIENCE_S)
    assert standby.failure is None


async def test_it_stops_with_the_projector(
    postgres_url: str, projector: Projector, waiter: PositionWaiter, admin: psycopg.Connection[Any]
) -> None:
    """A projector that is told to stop ends with the list's page under way, and another goes on from there."""
    await until(lambda: projector.state == "running")
    with held_up(postgres_url):
        position = await listed(postgres_url, HEAVY_ROWS)
        await waiter.wait(position, OTHERS, PATIENCE_S)
        await until(lambda: under_way(admin))
        stopping = asyncio.create_task(projector.stop())
        await asyncio.sleep(0.1)
        assert not stopping.done()
    await stopping
    assert rows(admin) == HEAVY_ROWS
    await projector.start()
    await waiter.wait(await said(postgres_url, []), EVERYBODY, PATIENCE_S)
    assert rows(admin) == HEAVY_ROWS
    assert position <= positions(postgres_url)["rollouts"]


@pytest.mark.parametrize("rows_listed", [HEAVY_ROWS - CHUNK_ENTRIES, HEAVY_ROWS])
async def test_a_bad_event_beside_a_list_stops_those_it_concerns(
    postgres_url: str,
    projector: Projector,
    waiter: PositionWaiter,
    admin: psycopg.Connection[Any],
    rows_listed: int,
) -> None:
    """The list's own projection stops right before what it cannot read, whichever way it is folded."""
    await until(lambda: projector.state == "running")
    with held_up(postgres_url):
        before = await listed(postgres_url, rows_listed)
        await asyncio.to_thread(plant, admin, "RolloutTargeted/1", b"{}")
        after = await said(postgres_url, [])
    await waiter.wait(after, OTHERS, PATIENCE_S)
    await until(lambda: positions(postgres_url)["rollouts"] == before)
    assert rows(admin) == rows_listed
