"""Facts that are recorded in the transaction that makes them: by commands that go to the database themselves."""

from typing import Any

import psycopg

from command_bus.ids import new_id
from domain.catalog import topic_of
from domain.codec import encode
from domain.event import Event

ACTOR = "system"


def note(connection: psycopg.Connection[Any], event: Event, *, actor: str = ACTOR) -> None:
    """Record an event as a story of its own. The table's triggers see to the log's order, and wake its readers.

    Args:
        connection: in the transaction that the event tells of; until its end every other writer of the log waits.
        event: what is nobody's personal data.
        actor: in whose name.
    """
    connection.execute(
        "INSERT INTO fleetlog.events (originator_id, originator_version, topic, state, actor, correlation_id)"
        " VALUES (%s, 1, %s, %s, %s, %s)",
        [new_id(), topic_of(type(event)), encode(event), actor, new_id()],
    )
