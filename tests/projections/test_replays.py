"""Replays: the read models as of an earlier position, beside the live ones."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.archiving import archive
from command_bus.postgres import app_conninfo
from domain.scopes import Place, Scope
from projections import rebuild as rebuilding
from projections import replays
from projections.agents import list_agents
from projections.catalog import ALL_PROJECTIONS, FOLLOWING, LIVE, PAST
from projections.commands import list_commands
from projections.errors import (
    NoReplayError,
    PositionNotReachedError,
    ReplayExistsError,
    ReplaysFullError,
    UnknownReplayError,
)
from projections.pages import OfPast
from projections.paging import fold_page
from projections.times import answered, position_at, time_of
from tests.projections.database import Rows, forget_everything, head, plant, record, rows_of
from tests.projections.histories import Fleet
from tests.projections.running import history


def fold_all(url: str) -> None:
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        while fold_page(connection, FOLLOWING, 500).full:
            pass


def replayed(url: str, position: int) -> Rows:
    """What a replay holds, which is dropped again."""
    made = replays.make(app_conninfo(url), position, "then")
    try:
        return rows_of(url, schema=made.schema)
    finally:
        replays.drop(app_conninfo(url), "then")


@given(
    seed=st.integers(0, 2**32),
    before=st.integers(1, 80),
    later=st.integers(1, 80),
    archived=st.booleans(),
    gathered=st.sampled_from([1, 20, rebuilding.GATHERED]),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_replay_is_what_the_live_tables_were(
    postgres_url: str, seed: int, before: int, later: int, archived: bool, gathered: int
) -> None:
    """Whatever happened later, and wherever its events are kept: as of a position, the very rows of then.

    But for who was erased later: test_erasures.py.
    """
    forget_everything(postgres_url)
    fleet = Fleet(seed, erases=False)
    appends = [(changes, fleet.metadata()) for changes in fleet.history(before + later)]
    split = min(before, len(appends))
    then = asyncio.run(record(postgres_url, appends[:split]))
    fold_all(postgres_url)
    live = rows_of(postgres_url)
    asyncio.run(record(postgres_url, appends[split:]))
    fold_all(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as admin, pytest.MonkeyPatch.context() as patch:
        try:
            if archived:
                archive(postgres_url, timedelta(0), None)
            patch.setattr(rebuilding, "CHUNK", 7)  # so that it reads as it reads a long log
            patch.setattr(rebuilding, "GATHERED", gathered)  # and a command's events come in several lots
            assert replayed(postgres_url, then) == live
            # And the live tables, a replay of now, are none the worse.
            assert replayed(postgres_url, head(postgres_url)) == rows_of(postgres_url)
        finally:
            admin.execute("SET session_replication_role TO replica")
            admin.execute("TRUNCATE fleetlog.archive_segments, fleetlog.archive_blocks, fleetlog.archive_streams")


async def test_a_moment_is_the_last_position_recorded_by_then(
    postgres_url: str, admin: psycopg.Connection[Any]
) -> None:
    """At the very time of an event it is included, just before it is not; whether it is archived or in the table."""
    await history(postgres_url, 3, steps=120)
    times = dict(admin.execute("SELECT notification_id, recorded_at FROM fleetlog.events").fetchall())
    expected = {at: max(position for position, other in times.items() if other <= at) for at in times.values()}

    def check() -> None:
        tick = timedelta(microseconds=1)
        with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as connection:
            for at, position in expected.items():
                assert answered(connection, position_at(at)) == position
                earlier = [other for other, then in times.items() if then < at]
                assert answered(connection, position_at(at - tick)) == max(earlier, default=0)
                assert answered(connection, time_of(position)) == at
            assert answered(connection, time_of(0)) is None

    await asyncio.to_thread(check)
    await asyncio.to_thread(archive, postgres_url, timedelta(0), None)
    moved = admin.execute("SELECT count(*) FROM fleetlog.archive_streams").fetchone()
    assert moved is not None
    assert moved[0] > 0
    await asyncio.to_thread(check)


async def test_replays_have_names_places_and_an_end(postgres_url: str, conninfo: str) -> None:
    """One name for one replay, so many at the most, none beyond the log; what is expired makes room."""
    position = await history(postgres_url, 4, steps=10)
    made = await asyncio.to_thread(replays.make, conninfo, position, "one")
    assert (made.position, made.ready, made.current) == (position, True, True)
    with pytest.raises(ReplayExistsError):
        await asyncio.to_thread(replays.make, conninfo, 1, "one")
    with pytest.raises(PositionNotReachedError, match=str(position)):
        await asyncio.to_thread(replays.make, conninfo, position + 1, "beyond")
    for number in range(2, len(PAST) + 1):
        await asyncio.to_thread(replays.make, conninfo, number, str(number), life=timedelta(0))
    # The last three have ended as they began, so there is room for three more, and not for four.
    for number in range(2, len(PAST) + 1):
        await asyncio.to_thread(replays.make, conninfo, number, f"again {number}")
    with pytest.raises(ReplaysFullError, match="again 3"):
        await asyncio.to_thread(replays.make, conninfo, 1, "too many")
    await asyncio.to_thread(replays.drop, conninfo, "one")
    with pytest.raises(UnknownReplayError):
        await asyncio.to_thread(replays.drop, conninfo, "one")
    left = await asyncio.to_thread(replays.list_replays, conninfo)
    assert [replay.name for replay in left] == [f"again {number}" for number in range(2, len(PAST) + 1)]


async def test_what_a_killed_maker_left_goes(postgres_url: str, conninfo: str, admin: psycopg.Connection[Any]) -> None:
    """A replay that was never finished is not read and takes no place for long; one in the making stays."""
    position = await history(postgres_url, 5, steps=10)
    add = (
        "INSERT INTO fleetlog.replays (slot, name, position, digest, expires_at)"
        " VALUES (%s, %s, %s, %s, now() + interval '1 day')"
    )
    for slot, name in ((1, "left"), (2, "in the making")):
        admin.execute(add, (slot, name, position, replays.DIGEST))
    admin.execute("CREATE TABLE past_1.agents (there integer)")
    admin.execute("SELECT pg_advisory_lock(hashtextextended('fleetlog replay 2', 0))")
    admin.execute("ALTER TABLE past_1.agents OWNER TO fleetlog_app")
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as reader:
        with pytest.raises(NoReplayError):
            async with replays.reading(reader, position):
                pass
    made = await asyncio.to_thread(replays.make, conninfo, position, "new")
    assert made.slot == 1
    assert {replay.name for replay in await asyncio.to_thread(replays.list_replays, conninfo)} == {
        "new",
        "in the making",
    }


async def test_an_event_that_cannot_be_read_leaves_no_half_of_a_replay(
    postgres_url: str, conninfo: str, admin: psycopg.Connection[Any]
) -> None:
    """Up to before it a replay can be made, beyond it not; and nothing stays behind."""
    good = await history(postgres_url, 6, steps=10)
    bad = plant(admin, "AgentRenamed/1", b"{")
    with pytest.raises(Exception, match="AgentRenamed"):
        await asyncio.to_thread(replays.make, conninfo, bad, "bad")
    assert await asyncio.to_thread(replays.list_replays, conninfo) == []
    tables = admin.execute("SELECT count(*) FROM pg_tables WHERE schemaname = ANY(%s)", (list(PAST),)).fetchone()
    assert tables == (0,)
    await asyncio.to_thread(replays.make, conninfo, good, "good")


async def test_who_reads_is_never_disturbed_and_never_writes(postgres_url: str, conninfo: str) -> None:
    """A replay that is dropped while somebody reads it stays until they are done; then there is none."""
    position = await history(postgres_url, 7, steps=40)
    made = await asyncio.to_thread(replays.make, conninfo, position, "one")
    expected = rows_of(postgres_url, schema=made.schema)["agents"]
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as reader:
        dropping = None
        async with replays.reading(reader, position):
            first = await list_agents(reader, client_ids=None)
            dropping = asyncio.create_task(asyncio.to_thread(replays.drop, conninfo, "one"))
            await asyncio.to_thread(_until_somebody_waits, conninfo)
            second = await list_agents(reader, client_ids=None)
            assert first == second
            assert len(first.items) == len(expected)
        await dropping
        with pytest.raises(NoReplayError, match=f"--at {position}"):
            async with replays.reading(reader, position):
                pass
        await asyncio.to_thread(replays.make, conninfo, position, "two")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            async with replays.reading(reader, position):
                await reader.execute("DELETE FROM agents")
        # Afterwards the connection sees what is now, and may write again.
        path = await (await reader.execute("SHOW search_path")).fetchone()
        assert path is not None
        assert path[0].startswith(LIVE)


def _until_somebody_waits(conninfo: str) -> None:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for _ in range(10_000):
            if connection.execute(query).fetchone() != (0,):
                return
    raise AssertionError("nobody waits")


async def test_where_a_machine_is_now_decides_who_sees_its_past(postgres_url: str, conninfo: str) -> None:
    """Of a machine that moved to another site of its client, the new site sees the past, and the old one none of it."""
    fleet = Fleet(8)
    steps = [fleet.new_client()]
    steps += [fleet.new_site(fleet.clients[0]), fleet.new_site(fleet.clients[0])]
    old, new = fleet.sites
    steps += [fleet.new_agent(old), fleet.new_agent(old)]
    moved, stays = fleet.agents
    steps += [fleet.queue(moved), fleet.queue(stays)]
    then = await record(postgres_url, ((changes, fleet.metadata()) for changes in steps))
    await record(postgres_url, [([moved.move(new.stream_id, new.client_id)], fleet.metadata())])  # type: ignore[arg-type]
    await asyncio.to_thread(fold_all, postgres_url)
    await asyncio.to_thread(replays.make, conninfo, then, "then")
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as reader:
        for site, agent in ((old, stays), (new, moved)):
            scope = OfPast.like(Scope.of(sites=[Place(site.stream_id, site.client_id)]))  # type: ignore[arg-type]
            async with replays.reading(reader, then):
                agents = await list_agents(reader, client_ids=scope)
                commands = await list_commands(reader, client_ids=scope)
            assert [row.agent_id for row in agents.items] == [agent.stream_id]
            assert agents.items[0].site_id == old.stream_id
            assert {row.agent_id for row in commands.items} == {agent.stream_id}


def test_a_replay_has_every_table_of_every_projection(postgres_url: str) -> None:
    """Also of an empty log: the tables are there, and they are empty."""
    made = replays.make(app_conninfo(postgres_url), 0, "nothing")
    rows = rows_of(postgres_url, schema=made.schema)
    assert set(rows) == {table.name for projection in ALL_PROJECTIONS for table in projection.tables}
    assert not any(rows.values())
    assert made.at is None
