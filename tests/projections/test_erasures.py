"""What was erased is erased in every read model, whether it was made before the erasure or after it (invariant 7)."""

import asyncio
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.postgres import app_conninfo
from domain.agents import AgentConnected, AgentFactsReported, facts_stream, presence_stream
from domain.event import Change
from domain.ids import AgentId
from domain.personal import ERASED
from projections.catalog import FOLLOWING, names
from projections.errors import BehindErasureError, NoReplayError
from projections.paging import fold_page
from projections.rebuild import rebuild
from projections.replays import drop_expired, list_replays, make, reading
from projections.verify import verify
from tests.projections.database import forget_everything, head, record, rows_of
from tests.projections.histories import Fleet

SECRET = "corvus-7f3a"  # noqa: S105 - nothing else in a database is called so


def fold_all(url: str, page: int = 40) -> None:
    with psycopg.connect(app_conninfo(url), autocommit=True) as connection:
        while fold_page(connection, FOLLOWING, page).full:
            pass


def append(url: str, fleet: Fleet, changes: list[Change]) -> None:
    asyncio.run(record(url, [(changes, fleet.metadata())]))


@given(seed=st.integers(0, 2**32), every=st.integers(1, 30))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tables_that_saw_it_and_those_that_never_did_are_the_same(postgres_url: str, seed: int, every: int) -> None:
    """Wherever in a history somebody is erased, and whatever was folded by then, a rebuild gives the live rows."""
    forget_everything(postgres_url)
    fleet, dice = Fleet(seed), random.Random(seed)
    appends: Iterator[list[Change]] = fleet.history(120)
    while part := list(islice(appends, every)):
        asyncio.run(record(postgres_url, ((changes, fleet.metadata()) for changes in part)))
        for agent in fleet.agents:
            if not agent.erased and dice.random() < 0.1:
                if agent.state != "retired":
                    append(postgres_url, fleet, [agent.retire("gone")])
                fold_all(postgres_url)  # it stands there in the clear
                append(postgres_url, fleet, fleet.erase_agent(agent))
        if dice.random() < 0.5:
            fold_all(postgres_url, dice.randint(1, 40))
    fold_all(postgres_url)
    folded = rows_of(postgres_url)
    for name in names():
        found = verify(app_conninfo(postgres_url), name)
        assert found.ok, found.differences
        rebuild(app_conninfo(postgres_url), name)
    assert rows_of(postgres_url) == folded
    shown = {row[0]: row[3] for row in folded["agents"]}
    assert {shown[agent.stream_id] for agent in fleet.agents if agent.erased} <= {ERASED}


def told(fleet: Fleet) -> list[Change]:
    """A machine and a person, whose every personal text holds `SECRET`."""
    (agent,), client_id = fleet.agents[-1:], fleet.agents[-1].client_id
    agent_id = AgentId(agent.stream_id)
    facts = {"hostname": f"{SECRET}-host", "logged_in_user": SECRET, "serial": [SECRET]}
    return [
        agent.rename(f"{SECRET} name"),
        Change(presence_stream(agent_id), 1, AgentConnected(gateway="g", address=SECRET), agent_id, client_id),
        Change(facts_stream(agent_id), 1, AgentFactsReported(facts=facts), agent_id, client_id),
    ]


def texts_of(url: str) -> Iterator[tuple[str, str]]:
    """Every row of every table of ours as text, the bytes of events too."""
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
            " WHERE schemaname IN ('fleetlog', 'read', 'public') OR schemaname LIKE 'past%'"
        ).fetchall()
        for (table,) in tables:
            for (text,) in connection.execute(f"SELECT t::text FROM {table} AS t"):  # type: ignore[call-overload]  # noqa: S608
                yield table, text
        for (body,) in connection.execute("SELECT convert_from(state, 'UTF8') FROM fleetlog.events"):
            yield "bodies", body


def test_nothing_of_it_is_anywhere_in_the_database(postgres_url: str, conninfo: str) -> None:
    """Of an agent that enrolled after there was sealing, no table has a word, and a replay that had is gone."""
    fleet = Fleet(7)
    for changes in (fleet.new_client(), fleet.new_site(), fleet.new_agent(hostname=SECRET), told(fleet)):
        append(postgres_url, fleet, changes)
    fold_all(postgres_url)
    before = head(postgres_url)
    make(conninfo, before, "before")
    assert {table for table, text in texts_of(postgres_url) if SECRET in text} == {"read.agents", "past_1.agents"}
    agent = fleet.agents[0]
    append(postgres_url, fleet, [agent.retire("sold")])
    append(postgres_url, fleet, [agent.erase("asked for")])
    fold_all(postgres_url)
    with pytest.raises(NoReplayError):
        asyncio.run(read_at(conninfo, before))
    assert drop_expired(conninfo) == ["before"]
    assert [table for table, text in texts_of(postgres_url) if SECRET in text] == []
    for name in names():
        assert verify(conninfo, name).ok
    make(conninfo, before, "again")
    assert [one.name for one in list_replays(conninfo)] == ["again"]
    assert asyncio.run(read_at(conninfo, before)) == [(ERASED, ERASED, {ERASED: ERASED})]


async def read_at(conninfo: str, position: int) -> list[tuple[Any, ...]]:
    async with (
        await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection,
        reading(connection, position) as reader,
    ):
        return await (await reader.execute("SELECT name, hostname, facts FROM agents")).fetchall()


def test_what_comes_too_late_is_not_kept(postgres_url: str) -> None:
    """A machine that still tells something after it was erased leaves nothing of it in the log."""
    fleet = Fleet(8)
    for changes in (fleet.new_client(), fleet.new_site(), fleet.new_agent()):
        append(postgres_url, fleet, changes)
    agent = fleet.agents[0]
    append(postgres_url, fleet, [agent.retire(""), agent.erase("")])
    agent_id = AgentId(agent.stream_id)
    late = AgentFactsReported(facts={"hostname": SECRET})
    append(postgres_url, fleet, [Change(facts_stream(agent_id), 1, late, agent_id, agent.client_id)])
    assert [table for table, text in texts_of(postgres_url) if SECRET in text] == []
    fold_all(postgres_url)
    assert verify(app_conninfo(postgres_url), "agents").ok


def test_a_table_that_stands_before_an_erasure_is_not_called_wrong(postgres_url: str, conninfo: str) -> None:
    """Until a projection has folded an erasure it cannot be compared with a log that is erased: that is said."""
    fleet = Fleet(9)
    for changes in (fleet.new_client(), fleet.new_site(), fleet.new_agent()):
        append(postgres_url, fleet, changes)
    fold_all(postgres_url)
    append(postgres_url, fleet, [fleet.agents[0].retire(""), fleet.agents[0].erase("")])
    with pytest.raises(BehindErasureError, match="try again"):
        verify(conninfo, "agents")
    fold_all(postgres_url)
    assert verify(conninfo, "agents").ok
