"""Checks, and what they find on agents."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.checks import (
    AgentCheckChanged,
    AgentCheckEnded,
    CheckDefined,
    CheckDisabled,
    CheckEnabled,
    CheckRemoved,
    CheckState,
    CheckTerms,
)
from domain.event import Event, Recorded
from projections import sql
from projections.errors import FoldError
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query, Tenants
from projections.projection import Batch, Cells, Projection

_decode_terms = msgspec.json.Decoder(CheckTerms).decode


class CheckRow(msgspec.Struct, frozen=True):
    check_id: UUID
    name: str
    terms: CheckTerms
    disabled: bool
    defined_at: datetime
    defined_by: str
    revision: int
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        check_id, name, terms, *rest = row
        return cls(check_id, name, _decode_terms(terms), *rest)


class FindingRow(msgspec.Struct, frozen=True):
    """What a check found on an agent, when that last changed."""

    check_id: UUID
    name: str
    state: CheckState
    was: CheckState | None
    since: datetime
    value: float | None
    unit: str
    changed_at: datetime

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        check_id, name, state, was, since, reading, changed_at = row
        return cls(check_id, name, CheckState(state), _state(was), since, *_reading(reading), changed_at)


class MachineRow(msgspec.Struct, frozen=True):
    """An agent on which a check found something."""

    agent_id: UUID
    name: str
    client_id: UUID
    site_id: UUID
    state: CheckState
    was: CheckState | None
    since: datetime
    value: float | None
    unit: str
    changed_at: datetime
    sort_key: str

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        agent_id, name, client_id, site_id, state, was, since, reading, changed_at, sort_key = row
        value, unit = _reading(reading)
        return cls(
            agent_id, name, client_id, site_id, CheckState(state), _state(was), since, value, unit, changed_at, sort_key
        )


def _state(text: str | None) -> CheckState | None:
    return CheckState(text) if text is not None else None


def _reading(reading: dict[str, Any] | None) -> tuple[float | None, str]:
    return (None, "") if reading is None else (reading["value"], reading["unit"])


class Checks(Projection):
    name: ClassVar[str] = "checks"
    folds: ClassVar[tuple[type[Event], ...]] = (
        CheckDefined,
        CheckDisabled,
        CheckEnabled,
        CheckRemoved,
        AgentCheckChanged,
        AgentCheckEnded,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        checks, findings = batch["checks"], batch["agent_checks"]
        key, version = recorded.originator_id, recorded.originator_version
        match recorded.event:
            case CheckDefined() as event:
                cells = _defined(event, recorded)
                if version == 1:
                    checks.insert(key, **cells, disabled=False, removed_at=None)
                else:
                    checks.update(key, **cells)
            case CheckDisabled():
                checks.update(key, disabled=True, version=version)
            case CheckEnabled():
                checks.update(key, disabled=False, version=version)
            case CheckRemoved():
                checks.update(key, removed_at=recorded.recorded_at, version=version)
            case AgentCheckChanged() as event:
                cells = {
                    "name": event.check,
                    "check_key": event.check.casefold(),
                    "state": event.state,
                    "found": event.state is not CheckState.PASSING,
                    "was": event.was,
                    "since": event.since,
                    "reading": None if event.value is None else {"value": event.value, "unit": event.unit},
                    "changed_at": recorded.recorded_at,
                }
                if version == 1:
                    if recorded.agent_id is None:
                        raise FoldError(f"{recorded.topic} at {recorded.position} names no agent.")
                    findings.insert(key, agent_id=recorded.agent_id, check_id=event.check_id, **cells)
                else:
                    findings.update(key, **cells)
            case AgentCheckEnded() as event:
                findings.update(
                    key, state=CheckState.ENDED, found=False, was=event.was, changed_at=recorded.recorded_at
                )


def _defined(event: CheckDefined, recorded: Recorded) -> Cells:
    return {
        "name": event.terms.name,
        "sort_key": event.terms.name.casefold(),
        "terms": event.terms,
        "everywhere": event.clients is None,
        "clients": event.clients or (),
        "sites": [place.site_id for place in event.sites],
        "site_clients": [place.client_id for place in event.sites],
        "defined_at": recorded.recorded_at,
        "defined_by": recorded.actor,
        "revision": recorded.originator_version,
        "version": recorded.originator_version,
    }


_SQL = sql.load("checks")
_BY_NAME = Order("checks.name", "sort_key, check_id", (str, UUID))
_BY_MACHINE = Order("checks.machines", "agents.sort_key, c.agent_id", (str, UUID))


def _visible(query: Query, client_ids: Tenants) -> None:
    """A check is seen by those who see all on which it may be measured (invariant 8)."""
    if client_ids is None or client_ids.everything:
        return
    clients = [str(one) for one in client_ids.clients]
    query.where(
        "NOT everywhere AND clients <@ to_jsonb(%s::text[])"
        " AND (sites <@ to_jsonb(%s::text[]) OR site_clients <@ to_jsonb(%s::text[]))",
        clients,
        [str(one) for one in client_ids.site_ids],
        clients,
    )


async def list_checks(
    connection: Connection, *, client_ids: Tenants, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[CheckRow]:
    """Checks by name."""
    query = Query(_SQL["select"])
    query.where("removed_at IS NULL")
    _visible(query, client_ids)
    return await query.page(
        connection,
        CheckRow.from_row,
        _BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.check_id),
    )


async def get_check(connection: Connection, check_id: UUID, *, client_ids: Tenants) -> CheckRow | None:
    """One check, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("check_id = %s", check_id)
    query.where("removed_at IS NULL")
    _visible(query, client_ids)
    return await query.one(connection, CheckRow.from_row)


async def checks_of(connection: Connection, check_ids: Sequence[UUID]) -> list[CheckRow]:
    """Some checks by name; the caller sees an agent that has them."""
    query = Query(_SQL["select"])
    query.where("check_id = ANY(%s)", list(check_ids))
    query.where("removed_at IS NULL")
    return await query.all(connection, CheckRow.from_row, "ORDER BY sort_key, check_id")


async def findings_on(connection: Connection, agent_id: UUID) -> list[FindingRow]:
    """What checks found on an agent, also what is over; the caller has seen to it that the agent may be seen."""
    query = Query(_SQL["findings"])
    query.where("agent_id = %s", agent_id)
    return await query.all(connection, FindingRow.from_row, "ORDER BY check_key, check_id")


async def count_found(
    connection: Connection, check_ids: Sequence[UUID], *, client_ids: Tenants
) -> dict[UUID, dict[str, int]]:
    """On how many agents that the caller sees some checks find what; a state that none is in is absent."""
    query = Query(_SQL["counts"])
    query.where("c.found AND c.check_id = ANY(%s)", list(check_ids))
    query.tenants("agents.client_id", client_ids, site="agents.site_id", agent="agents.agent_id")
    counts: dict[UUID, dict[str, int]] = {}
    for check_id, state, count in await query.all(connection, tuple, "GROUP BY c.check_id, c.state"):
        counts.setdefault(check_id, {})[state] = count
    return counts


async def list_machines(
    connection: Connection,
    check_id: UUID,
    *,
    client_ids: Tenants,
    state: CheckState | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[MachineRow]:
    """Agents on which a check finds something, by name."""
    query = Query(_SQL["machines"])
    query.where("c.found AND c.check_id = %s", check_id)
    query.tenants("agents.client_id", client_ids, site="agents.site_id", agent="agents.agent_id")
    if state is not None:
        query.where("c.state = %s", state.value)
    return await query.page(
        connection,
        MachineRow.from_row,
        _BY_MACHINE,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.sort_key, row.agent_id),
    )


class Given(msgspec.Struct, frozen=True):
    """A check as it is to be measured."""

    check_id: UUID
    revision: int
    terms: CheckTerms


async def stamp(connection: Connection) -> tuple[int, int]:
    """Another one whenever a check is another."""
    row = await (await connection.execute(_SQL["stamp"])).fetchone()
    return (0, 0) if row is None else (row[0], row[1])


async def checks_given(connection: Connection) -> list[Given]:
    """All checks that are to be measured."""
    rows = await (await connection.execute(_SQL["defined"])).fetchall()
    return [Given(check_id, revision, _decode_terms(terms)) for check_id, revision, terms in rows]
