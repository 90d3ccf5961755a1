"""What changes of a row while its command lives is in no index: a bulk's changes write their rows and nothing else."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.sql import SQL, Identifier

from command_bus.mapper import recorded_as
from domain.commands import Command, CommandQueued, Ping
from domain.event import Change, Metadata
from domain.ids import AgentId, ClientId, SiteId
from domain.rollout_events import Entry, RolloutTargeted
from domain.rollouts import command_id
from projections.commands import Commands
from projections.pending import Pending
from projections.projection import Cursor, Projection
from projections.rollouts import Rollouts
from tests.projections.histories import LATER, NOW

AGENTS = 200
METADATA = Metadata(actor="scheduler", correlation_id=uuid4())
CLIENT, SITE = ClientId(UUID(int=1)), SiteId(UUID(int=2))


def fold(cursor: Cursor, projection: Projection, changes: Sequence[Change]) -> None:
    projection.apply(cursor, [recorded_as(change, METADATA, n, NOW) for n, change in enumerate(changes, 1)])


def updates(cursor: Cursor, table: str) -> tuple[int, int]:
    """How many rows were changed so far, and how many of them without a word to an index."""
    cursor.execute(
        "SELECT pg_stat_get_xact_tuples_updated(%s::regclass), pg_stat_get_xact_tuples_hot_updated(%s::regclass)",
        [table, table],
    )
    row = cursor.fetchone()
    assert row is not None
    return row[0], row[1]


def test_a_life_writes_no_index_until_it_ends(conninfo: str, admin: psycopg.Connection[Any]) -> None:
    """Of a rollout, in bulk. What has ended is found by how it did: that is written to an index, and once."""
    rollout_id = uuid4()
    entries = tuple(Entry(AgentId(uuid4()), CLIENT, SITE, 0) for _ in range(AGENTS))
    commands = [Command(command_id(rollout_id, entry.agent_id, 1)) for entry in entries]
    listed = Change(rollout_id, 1, RolloutTargeted(entries=entries))
    queued = [
        command.queue(
            CommandQueued(agent_id=entry.agent_id, client_id=CLIENT, site_id=SITE, spec=Ping(), expires_at=LATER), NOW
        )
        for command, entry in zip(commands, entries, strict=True)
    ]
    delivered = [change for command in commands for change in command.deliver(1, "g")]
    started = [change for command in commands for change in command.start(1, NOW, "g")]
    rollouts, history, pending = Rollouts(), Commands(), Pending()
    steps: list[tuple[Projection, str, list[Change]]] = [
        (rollouts, "rollout_commands", queued),
        (pending, "pending", delivered),
        (pending, "pending", started),
        (rollouts, "rollout_commands", delivered),
        (rollouts, "rollout_commands", started),
        # Of the history, which is kept for good, less room is left, and those of a page seldom change together.
        (history, "commands", delivered[::4]),
    ]
    # The server's own look at tables that have changed much reads as of then, and keeps the old rows for as long.
    for (table,) in admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'read'"):
        admin.execute(SQL("ALTER TABLE read.{} SET (autovacuum_enabled = false)").format(Identifier(table)))
    with psycopg.connect(conninfo, autocommit=True) as connection, connection.cursor() as cursor:
        fold(cursor, rollouts, [listed])
        fold(cursor, history, queued)
        fold(cursor, pending, queued)
    # A transaction each, since what it has replaced itself makes no room for what comes next. And a session each: one
    # that goes on may not know yet that nobody reads the old rows, while somebody in another database is at work.
    for projection, table, changes in steps:
        with psycopg.connect(conninfo) as connection, connection.cursor() as cursor:
            before = updates(cursor, table)
            fold(cursor, projection, changes)
            changed, silent = (after - already for after, already in zip(updates(cursor, table), before, strict=True))
        assert changed == len(changes)
        assert silent >= changed * 0.95, (table, type(changes[0].event).__name__)
