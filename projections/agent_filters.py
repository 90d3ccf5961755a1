"""What agents are narrowed by: in lists, in counts, and where something is done to all that match."""

from datetime import datetime
from typing import LiteralString, TypedDict
from uuid import UUID

from psycopg.types.json import Jsonb

from domain.agents import AgentState, Platform
from domain.matching import Matching
from projections.pages import Connection, Query, Tenants

_SPECIAL: LiteralString = "\\%_"


def _pattern(text: str) -> str:
    """Text as it stands, anywhere: LIKE's own signs lose their meaning, and NUL is in no row."""
    folded = text.casefold().replace("\x00", "\ufffd")
    return "%" + "".join(f"\\{sign}" if sign in _SPECIAL else sign for sign in folded) + "%"


class Filters(TypedDict, total=False):
    """What a list of agents, or a count of them, is narrowed by; what is None narrows nothing."""

    client_id: UUID | None
    site_id: UUID | None
    tags: tuple[str, ...]
    """It has all of them."""
    state: AgentState | None
    retired: bool | None
    platform: Platform | None
    os: str | None
    """Part of its operating system's name, in any case."""
    agent_version: str | None
    online: bool | None
    duplicate: bool | None
    """Whether another machine with its identity was shut out."""
    text: str | None
    """Part of its name or hostname, in any case."""
    pending: int | None
    """So many commands wait for it, or more."""
    updates: int | None
    """So many of its packages could be updated, or more."""
    security_updates: int | None
    software: str | None
    """Something of that name is installed, in any case."""
    failing: int | None
    """So many checks fail on it, or more."""
    warning: int | None
    named_check: str | None
    """A check of that name, in any case, finds something on it."""
    reboot_needed: bool | None
    """Whether it waits to be restarted; one that cannot say is neither."""
    seen_after: datetime | None
    seen_before: datetime | None
    """Its last sign of life; telemetry, and of now alone."""


def narrow_by(query: Query, filters: Filters) -> None:  # noqa: C901, PLR0912 - one line for each filter
    """Add to a query over agents the conditions of what is given."""
    if (client_id := filters.get("client_id")) is not None:
        query.where("client_id = %s", client_id)
    if (site_id := filters.get("site_id")) is not None:
        query.where("site_id = %s", site_id)
    if tags := filters.get("tags"):
        query.where("tags @> %s", Jsonb(list(tags)))
    if (state := filters.get("state")) is not None:
        # The literal lets a plan see that the partial index of unusual states serves.
        query.where("state = %s" if state is AgentState.ACTIVE else "state <> 'active' AND state = %s", state.value)
    if (retired := filters.get("retired")) is not None:
        query.where("state <> 'active' AND state = 'retired'" if retired else "state <> 'retired'")
    if (platform := filters.get("platform")) is not None:
        query.where("platform = %s", platform.value)
    if os := filters.get("os"):
        query.where("lower(os) LIKE %s", _pattern(os))
    if (agent_version := filters.get("agent_version")) is not None:
        query.where("agent_version = %s", agent_version)
    if (online := filters.get("online")) is not None:
        query.where("online" if online else "NOT online")
    if (duplicate := filters.get("duplicate")) is not None:
        query.where("duplicate IS NOT NULL" if duplicate else "duplicate IS NULL")
    if text := filters.get("text"):
        query.where("(sort_key LIKE %s OR host_key LIKE %s)", _pattern(text), _pattern(text))
    if pending := filters.get("pending"):
        # By their queues' index: who has anything is found, and counted no further than it takes.
        query.where(
            "agent_id IN (SELECT agent_id FROM pending)"
            if pending == 1
            else "agent_id IN (SELECT agent_id FROM pending GROUP BY agent_id HAVING count(*) >= %s)",
            *([] if pending == 1 else [pending]),
        )
    if (updates := filters.get("updates")) is not None:
        query.where("updates > 0 AND updates >= %s", updates)
    if (security_updates := filters.get("security_updates")) is not None:
        query.where("updates > 0 AND security_updates >= %s", security_updates)
    if (reboot_needed := filters.get("reboot_needed")) is not None:
        query.where("reboot_needed" if reboot_needed else "NOT reboot_needed")
    if software := filters.get("software"):
        # By the lists' index: machines that have the same share one.
        query.where(
            "software <> '' AND software IN (SELECT sha256 FROM fleetlog.software_lists WHERE names @> ARRAY[%s])",
            software.casefold().replace("\x00", "\ufffd"),
        )
    for found, least in (("failing", filters.get("failing")), ("warning", filters.get("warning"))):
        if least is not None:
            # By the index of what is found anywhere: that is little, however many checks pass.
            query.where(
                "agent_id IN (SELECT agent_id FROM agent_checks WHERE found AND state = %s"
                " GROUP BY agent_id HAVING count(*) >= %s)",
                found,
                least,
            )
    if named_check := filters.get("named_check"):
        query.where(
            "agent_id IN (SELECT agent_id FROM agent_checks WHERE found AND check_key = %s)",
            named_check.casefold().replace("\x00", "\ufffd"),
        )
    seen: LiteralString = "agent_id IN (SELECT agent_id FROM fleetlog.presence WHERE last_seen_at"
    if (after := filters.get("seen_after")) is not None:
        query.where(f"{seen} >= %s)", after)
    if (before := filters.get("seen_before")) is not None:
        query.where(f"{seen} < %s)", before)


def filters_of(matching: Matching) -> Filters:
    """The same, of a question that was asked before."""
    return Filters(
        client_id=matching.client_id,
        site_id=matching.site_id,
        tags=matching.tags,
        state=matching.state,
        retired=matching.retired,
        platform=matching.platform,
        os=matching.os,
        agent_version=matching.agent_version,
        online=matching.online,
        duplicate=matching.duplicate,
        text=matching.text,
        pending=matching.pending,
        updates=matching.updates,
        security_updates=matching.security_updates,
        software=matching.software,
        failing=matching.failing,
        warning=matching.warning,
        named_check=matching.named_check,
        reboot_needed=matching.reboot_needed,
        seen_after=matching.seen_after,
        seen_before=matching.seen_before,
    )


async def ids_matching(
    connection: Connection, filters: Filters, client_ids: Tenants, changed: tuple[int, int] | None = None
) -> list[UUID]:
    """All agents that match, by their ids.

    Args:
        connection: to the database.
        filters: what they are narrowed by.
        client_ids: the tenants that the caller sees.
        changed: only those to whom something happened last after the first position, and up to the second.
    """
    query = Query("SELECT agent_id FROM agents")
    query.tenants("client_id", client_ids, site="site_id", agent="agent_id")
    narrow_by(query, filters)
    if changed is not None:
        query.where("position > %s AND position <= %s", *changed)
    return await query.all(connection, lambda row: row[0])
