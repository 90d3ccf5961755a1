"""Every read goes by an index, and the eventsourcing library's own readers understand the log."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import EventStore

from command_bus.event_log import Selection
from command_bus.ids import new_id
from command_bus.mapper import Attributed, EventMapper
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.reader import HEAD, READ_HEADS, READ_STREAMS, page_query
from command_bus.recorder import _COPIED_SQL, LogDatastore, LogRecorder
from tests.event_log.samples import created, metadata, renamed

AGENT, CLIENT, OTHER = new_id(), new_id(), new_id()
NOW = datetime.now(UTC)
SELECTIONS = {
    "all": Selection(),
    "agent": Selection(agent_id=AGENT),
    "stream": Selection(stream_id=AGENT),
    "one client": Selection(client_ids=(CLIENT,)),
    "clients": Selection(client_ids=(CLIENT, OTHER)),
    "types": Selection(types=("ClientCreated", "AgentEnrolled")),
    "actor": Selection(actor="key:1"),
    "correlation": Selection(correlation_id=AGENT),
    "since": Selection(since=NOW - timedelta(hours=1)),
    "until": Selection(until=NOW),
    "agent, types, clients": Selection(agent_id=AGENT, types=("AgentEnrolled",), client_ids=(CLIENT, OTHER)),
    "clients and types": Selection(client_ids=(CLIENT, OTHER), types=("AgentEnrolled",)),
}


@pytest.fixture
def filled(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A log of 50,000 events of 500 agents and 50 clients."""
    with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as conn:
        conn.execute(
            """
            INSERT INTO fleetlog.events
                (originator_id, originator_version, agent_id, client_id, correlation_id, actor, topic, state)
            SELECT gen_random_uuid(), 1, md5('a' || n % 500)::uuid, md5('c' || n % 50)::uuid, gen_random_uuid(),
                   'key:' || n % 20, 'Type' || n % 30 || '/1', ''
            FROM generate_series(1, 50000) AS n
            """
        )
        with psycopg.connect(postgres_url, autocommit=True) as owner:
            owner.execute("ANALYZE fleetlog.events")
        yield conn


def assert_no_scan(conn: psycopg.Connection, sql: str, values: dict[str, Any]) -> None:
    plan = "\n".join(line for (line,) in conn.execute(f"EXPLAIN {sql}".encode(), values))
    assert "Seq Scan" not in plan, plan
    assert "Index" in plan, plan


def test_no_read_scans_the_log(filled: psycopg.Connection) -> None:
    """Each way to select, in each direction, is answered from an index."""
    for selection in SELECTIONS.values():
        for backwards in (False, True):
            sql, values = page_query(selection, after=40_000, upto=49_000, limit=100, backwards=backwards)
            assert_no_scan(filled, sql, values)
    ids = {"ids": [AGENT, CLIENT]}
    assert_no_scan(filled, READ_STREAMS, ids)
    assert_no_scan(filled, READ_HEADS, ids)
    assert_no_scan(filled, HEAD, {})
    assert_no_scan(filled, _COPIED_SQL, {})


def test_a_moment_is_found_by_halving(filled: psycopg.Connection) -> None:
    """The position before a moment is exact, also where positions have gaps."""
    filled.execute("SELECT nextval('fleetlog.events_notification_id_seq') FROM generate_series(1, 37)")
    for hour in range(3):
        filled.execute(
            "INSERT INTO fleetlog.events (originator_id, originator_version, correlation_id, actor, topic, state,"
            " recorded_at) SELECT gen_random_uuid(), 1, gen_random_uuid(), 'x', 'X/1', '', %s",
            [NOW + timedelta(hours=hour + 1)],
        )
    for minutes in (-60, 30, 60, 61, 90, 150, 180, 181):
        moment = NOW + timedelta(minutes=minutes)
        found = filled.execute("SELECT fleetlog.position_before(%s)", [moment]).fetchone()
        # Positions without an event belong to either side: what counts is which events lie up to it.
        sql = "SELECT count(*) FROM fleetlog.events WHERE (recorded_at < %s) <> (notification_id <= %s)"
        assert found is not None
        assert filled.execute(sql, [moment, found[0]]).fetchone() == (0,)


async def test_the_librarys_event_store_reads_and_writes_the_log(log: PostgresEventLog, postgres_url: str) -> None:
    """Through its recorder, mapper and event store, the library appends what we read and reads what we append."""
    datastore = LogDatastore(postgres_url, name="library", pool_size=2, connect_timeout_s=5)
    recorder = LogRecorder(datastore)
    store = EventStore(EventMapper(), recorder)
    stream_id, meta = new_id(), metadata()
    change = created(stream_id=stream_id)
    [recording] = store.put([Attributed(change, meta)])
    [position] = await log.append([renamed(stream_id, 2)], metadata())
    assert [one.position for one in await log.read()] == [recording.notification.id, position]
    assert (await log.read())[0].actor == meta.actor
    events: list[object] = list(store.get(stream_id))
    assert events == [change.event, renamed(stream_id, 2).event]
    notifications = recorder.select_notifications(start=1, limit=10)
    assert [(one.id, one.topic) for one in notifications] == [(1, "ClientCreated/1"), (2, "ClientRenamed/1")]
    assert recorder.max_notification_id() == position
    datastore.close()
