"""Invariant 7: projections are pure."""

import asyncio
import random
from collections import Counter

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.postgres import app_conninfo
from projections import projection
from projections import rebuild as rebuilding
from projections.catalog import ALL_PROJECTIONS, FOLLOWING, names
from projections.paging import fold_page
from projections.projection import tables_of
from projections.rebuild import rebuild
from projections.rollouts import FINAL
from projections.verify import verify
from tests.projections.database import Rows, forget_everything, head, positions, record, rows_of
from tests.projections.histories import Fleet


def fold_all(url: str, sizes: random.Random) -> None:
    goal = head(url)
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        while True:
            # Now and then only some of them, so that they stand at different positions.
            some = sizes.sample(FOLLOWING, sizes.randint(1, len(FOLLOWING)))
            fold_page(connection, some, sizes.randint(1, 40))
            there = positions(url)
            if {there[p.name] for p in FOLLOWING} == {goal}:
                return


@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 150),
    small=st.sampled_from([0, projection.SMALL]),
    alike=st.sampled_from([1, projection.ALIKE]),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rebuilt_rows_are_those_folded_bit_by_bit(
    postgres_url: str, seed: int, steps: int, small: int, alike: int
) -> None:
    """Whatever happened, however it was paged and by whichever way written, folding and rebuilding give the same."""
    forget_everything(postgres_url)
    fleet = Fleet(seed)
    asyncio.run(record(postgres_url, ((changes, fleet.metadata()) for changes in fleet.history(steps))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "ALIKE", alike)  # 1: all rows by the statement for those that are set to the same
        fold_all(postgres_url, random.Random(seed))
    folded = rows_of(postgres_url)
    for name in names():
        found = verify(app_conninfo(postgres_url), name)
        assert found.ok, found.differences
        assert found.position == head(postgres_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "SMALL", small)  # 0: all rows by COPY
        patch.setattr(rebuilding, "CHUNK", 7)  # so that it reads as it reads a long log
        patch.setattr(rebuilding, "GATHERED", 30)  # and a command's events come in several lots
        for name in names():
            rebuild(app_conninfo(postgres_url), name)
    assert rows_of(postgres_url) == folded
    open_commands = sorted(command.stream_id for command in fleet.commands if not command.state.terminal)
    assert [row[0] for row in folded["pending"]] == open_commands
    assert_rollouts_add_up(folded, fleet)
    assert {row[0]: row[13] or row[12] for row in folded["commands"]} == {
        c.stream_id: c.state.value for c in fleet.commands
    }


def assert_rollouts_add_up(folded: Rows, fleet: Fleet) -> None:
    """Each agent of a rollout is counted once, in the state that its last command is in."""
    states = {command.stream_id: command.state.value for command in fleet.commands}
    counted = {rollout.stream_id: Counter[str]() for rollout in fleet.rollouts}
    for row in folded["rollout_commands"]:
        command_id, rollout_id, *_, latest, state, ended_as, _cancel, _exit, _sha, _why, _ended = row
        assert states.get(command_id, state) == state
        assert ended_as == (state if state in FINAL else "")
        if latest:
            counted[rollout_id][state] += 1
    for rollout in fleet.rollouts:
        assert counted[rollout.stream_id].total() == rollout.targeted
        assert counted[rollout.stream_id]["waiting"] == len(rollout.entries) - rollout.cursor


def test_tables_are_read_out_of_their_ddl_as_the_database_has_them(postgres_url: str) -> None:
    """What the fold believes to be a table's columns, their types and key, is what the database made of the DDL."""
    with psycopg.connect(app_conninfo(postgres_url)) as connection:
        for table in (table for each in ALL_PROJECTIONS for table in tables_of(each.ddl)):
            columns = connection.execute(
                "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
                (table.name,),
            ).fetchall()
            spelled = {"timestamptz": "timestamp with time zone"}
            assert columns == [(name, spelled.get(kind, kind)) for name, kind in table.columns.items()]
