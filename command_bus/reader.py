"""Reads of the event log: which statement answers which selection, always by an index that ends in the position."""

from collections.abc import Callable, Sequence
from typing import Any

from command_bus.event_log import Selection
from command_bus.mapper import RECORDED_COLUMNS
from domain.catalog import EVENTS
from schema.archive import Row

Query = tuple[str, dict[str, Any]]

_EVENTS = f"SELECT {RECORDED_COLUMNS} FROM fleetlog.events AS e"  # noqa: S608 - column names of our own

READ_STREAMS = f"{_EVENTS} WHERE originator_id = ANY(%(ids)s::uuid[]) ORDER BY originator_id, originator_version"
READ_HEADS = f"""
    SELECT h.* FROM unnest(%(ids)s::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (
        {_EVENTS} WHERE originator_id = wanted.id ORDER BY originator_version DESC LIMIT 1
    ) AS h
"""  # noqa: S608
# By the types' names, which no index knows: it is the last few positions that are asked for, and never all of a type.
READ_MARKS = """
    SELECT notification_id, originator_id, topic, agent_id, client_id FROM fleetlog.events
    WHERE notification_id > %(after)s AND notification_id <= %(upto)s
        AND split_part(topic, '/', 1) = ANY(%(types)s::text[])
    ORDER BY notification_id LIMIT %(limit)s
"""
HEAD = "SELECT coalesce(max(notification_id), 0) FROM fleetlog.events"


def page_query(selection: Selection, *, after: int, upto: int | None, limit: int, backwards: bool) -> Query:
    """The statement for one page.

    Several tenants or types and nothing narrower: each is paged by its own index and the pages are merged, since no
    index gives the union in order. All else is one range of one index, filtered by the rest.
    """
    values: dict[str, Any] = {"limit": limit}
    conditions = _conditions(selection, values)
    conditions += _range(after, upto, values, backwards=backwards)
    order = "DESC" if backwards else "ASC"
    fan_out = _fan_out(selection)
    if fan_out is None:
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        # In one stream, versions and positions rise together, and the version is what its index is ordered by.
        by = "originator_version" if selection.stream_id is not None else "notification_id"
        return f"{_EVENTS} {where} ORDER BY {by} {order} LIMIT %(limit)s", values
    column, values["each"] = fan_out
    kind = "uuid" if column == "client_id" else "text"
    where = " AND ".join([f"e.{column} = each.value", *conditions])
    page = f"ORDER BY notification_id {order} LIMIT %(limit)s"
    each = f"SELECT p.* FROM unnest(%(each)s::{kind}[]) AS each (value)"  # noqa: S608 - names of our own
    return f"{each} CROSS JOIN LATERAL ({_EVENTS} WHERE {where} {page}) AS p {page}", values


def _conditions(selection: Selection, values: dict[str, Any]) -> list[str]:
    conditions = []
    equal = {
        "originator_id": selection.stream_id,
        "agent_id": selection.agent_id,
        "actor": selection.actor,
        "correlation_id": selection.correlation_id,
    }
    for column, value in equal.items():
        if value is not None:
            values[column] = value
            conditions.append(f"e.{column} = %({column})s")
    if selection.client_ids is not None:
        values["client_ids"] = list(selection.client_ids)
        conditions.append("e.client_id = ANY(%(client_ids)s::uuid[])")
    if selection.places is not None:
        values |= {
            "whole_clients": list(selection.places.whole_clients),
            "sites": list(selection.places.sites),
            "agents": list(selection.places.agents),
        }
        conditions.append(
            "(e.client_id = ANY(%(whole_clients)s::uuid[]) OR e.agent_id = ANY(%(agents)s::uuid[])"
            " OR e.originator_id = ANY(%(sites)s::uuid[]))"
        )
    if selection.types is not None:
        values["topics"] = topics_of(selection.types)
        conditions.append("e.topic = ANY(%(topics)s::text[])")
    if selection.since is not None:
        values["since"] = selection.since
        # Times follow positions but for steps of the server's clock: the position narrows, the time decides.
        conditions.append("e.notification_id > (SELECT fleetlog.position_before(%(since)s - interval '5 minutes'))")
        conditions.append("e.recorded_at >= %(since)s")
    if selection.until is not None:
        values["until"] = selection.until
        conditions.append("e.notification_id <= (SELECT fleetlog.position_before(%(until)s + interval '5 minutes'))")
        conditions.append("e.recorded_at <= %(until)s")
    return conditions


def _range(after: int, upto: int | None, values: dict[str, Any], *, backwards: bool) -> list[str]:
    conditions = []
    if after > 0:
        values["after"] = after
        conditions.append(f"e.notification_id {'<' if backwards else '>'} %(after)s")
    if upto is not None:
        values["upto"] = upto
        conditions.append("e.notification_id <= %(upto)s")
    return conditions


def _fan_out(selection: Selection) -> tuple[str, Sequence[Any]] | None:
    narrower = (selection.stream_id, selection.agent_id, selection.correlation_id, selection.actor)
    if any(value is not None for value in narrower):
        return None
    if selection.client_ids is not None:
        return "client_id", list(dict.fromkeys(selection.client_ids))
    if selection.types is not None:
        return "topic", topics_of(selection.types)
    return None


def topics_of(types: Sequence[str]) -> list[str]:
    """All recorded names of event types, one for each version there has been."""
    topics = []
    for name in dict.fromkeys(types):
        versions = EVENTS[name].schema_version if name in EVENTS else 1
        topics += [f"{name}/{version}" for version in range(1, versions + 1)]
    return topics


def matching(selection: Selection) -> Callable[[Row], bool]:
    """The same judgement on events that come from the archive, where no index is asked."""
    wanted: list[tuple[int, frozenset[Any]]] = [
        (at, frozenset({value}))
        for at, value in (
            (1, selection.stream_id),
            (6, selection.actor),
            (7, selection.correlation_id),
            (9, selection.agent_id),
        )
        if value is not None
    ]
    if selection.client_ids is not None:
        wanted.append((10, frozenset(selection.client_ids)))
    if selection.types is not None:
        wanted.append((3, frozenset(topics_of(selection.types))))
    since, until, places = selection.since, selection.until, selection.places

    def match(row: Row) -> bool:
        return (
            all(row[at] in values for at, values in wanted)
            and (places is None or places.hold(row[1], row[9], row[10]))
            and (since is None or row[5] >= since)
            and (until is None or row[5] <= until)
        )

    return match
