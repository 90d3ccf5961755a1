"""Checks, and what they find on machines."""

from typing import Any
from uuid import UUID

import msgspec
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.errors import FreshProofNeededError
from command_bus.intents.checks import (
    ChangeCheck,
    DefineCheck,
    DisableCheck,
    EnableCheck,
    PlanCheck,
    RemoveCheck,
    What,
)
from command_bus.intents.rollouts import Target
from domain.checks import CheckState
from domain.errors import (
    CheckRemovedError,
    CheckStandsError,
    InvalidFilterError,
    InvalidValueError,
    NotFoundError,
    ScriptArchivedError,
    TooManyAgentsError,
    UnknownRevisionError,
)
from domain.permissions import Permission
from gateways.agents.checks import OfAgent, count_given, read_told
from gateways.rest.route import (
    Call,
    Model,
    PageOf,
    PageQuery,
    ReadQuery,
    Route,
    found,
    json_response,
    one,
    page_of,
    write,
)
from projections.agents import get_agent
from projections.checks import (
    CheckRow,
    FindingRow,
    MachineRow,
    checks_of,
    count_found,
    findings_on,
    get_check,
    list_machines,
)
from projections.checks import list_checks as read_checks
from schema.checks import list_digest

TAG = "Checks"
READS = ("checks", "agents")
_REFUSED = (
    NotFoundError,
    InvalidValueError,
    InvalidFilterError,
    ScriptArchivedError,
    UnknownRevisionError,
    TooManyAgentsError,
    FreshProofNeededError,
)


class CheckCountsModel(Model):
    """On how many machines that you see it finds what; on the others it passes, or was not measured yet."""

    info: int
    warning: int
    unknown: int = Field(description="It cannot be measured there.")
    failing: int


class CheckModel(Model):
    """Something that agents measure again and again, with thresholds."""

    id: UUID
    name: str
    description: str
    what: What
    target: Target
    interval_s: int
    failures: int = Field(description="So many measurements in a row that are worse change the state.")
    recoveries: int = Field(description="The same of measurements that are better.")
    disabled: bool
    machines: int | None = Field(description="On how many it is to be measured; of now alone, and else null.")
    counts: CheckCountsModel
    defined_at: AwareDatetime
    actor: str = Field(description="Who defined it as it is.")
    revision: int = Field(description="Of its definition.")
    version: int


class MachineModel(Model):
    """A machine on which a check finds something."""

    agent_id: UUID
    name: str
    client_id: UUID
    site_id: UUID
    state: CheckState
    was: CheckState | None = Field(description="Before that; null where nothing was said of it.")
    since: AwareDatetime
    value: float | None = Field(description="As measured when it became so.")
    unit: str


class MeasuredModel(Model):
    """The last measurement that was heard of: telemetry, of now alone."""

    at: AwareDatetime
    state: CheckState = Field(description="What this measurement alone says.")
    value: float | None
    detail: str


class AgentCheckModel(Model):
    """One check of a machine."""

    check_id: UUID
    name: str
    kind: str | None = Field(description="Null of one that was removed since.")
    interval_s: int | None
    given: bool = Field(description="It is to be measured here.")
    state: CheckState | None = Field(
        description="What counts; null where the agent has not got it yet. `ended`: it found something once."
    )
    was: CheckState | None
    since: AwareDatetime | None = Field(description="Null where it never did anything but pass.")
    value: float | None = Field(description="As measured when the state became what it is.")
    unit: str
    measured: MeasuredModel | None


class AgentChecksModel(Model):
    """All checks of a machine."""

    agent_id: UUID
    delivered: bool = Field(description="The agent has the list that it should have, as far as is known.")
    items: list[AgentCheckModel] = Field(description="By name.")


class PlannedModel(Model):
    """What a check would come to. Nothing was recorded."""

    targeted: int = Field(description="On so many machines it would be measured now.")
    position: int = Field(description="Of the log when this was found.")
    version: None = None


class MachinesQuery(PageQuery):
    state: CheckState | None = Field(default=None, description="Only those on which it finds this.")


def check_document(row: CheckRow, machines: int | None, counts: dict[str, int]) -> dict[str, Any]:
    terms = msgspec.to_builtins(row.terms)
    return {
        "id": row.check_id,
        "name": row.name,
        "description": row.terms.description,
        "what": terms["what"],
        "target": terms["target"],
        "interval_s": row.terms.interval_s,
        "failures": row.terms.failures,
        "recoveries": row.terms.recoveries,
        "disabled": row.disabled,
        "machines": machines,
        "counts": {state: counts.get(state, 0) for state in CheckCountsModel.model_fields},
        "defined_at": row.defined_at,
        "actor": row.defined_by,
        "revision": row.revision,
        "version": row.version,
    }


async def list_checks(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_checks(connection, client_ids=call.tenants, cursor=query.cursor, limit=query.limit)
        ids = [row.check_id for row in page.items]
        counts = await count_found(connection, ids, client_ids=call.tenants)
        machines = await _machines(call, connection, ids)
    return page_of(page, lambda row: check_document(row, machines.get(row.check_id), counts.get(row.check_id, {})))


async def show_check(call: Call) -> Response:
    check_id = call.path["check_id"]
    async with call.connection() as connection:
        row = found(await get_check(connection, check_id, client_ids=call.tenants), "check", check_id)
        counts = await count_found(connection, [check_id], client_ids=call.tenants)
        machines = await _machines(call, connection, [check_id])
    return one(check_document(row, machines.get(check_id), counts.get(check_id, {})), row.version)


async def _machines(call: Call, connection: Any, check_ids: list[UUID]) -> dict[UUID, int]:
    """On how many each is to be measured: all of them, for who sees a check sees all on which it may be."""
    return {} if call.at is not None or not check_ids else await count_given(connection, check_ids)


async def machines(call: Call) -> Response:
    query: MachinesQuery = call.query
    check_id = call.path["check_id"]
    async with call.connection() as connection:
        found(await get_check(connection, check_id, client_ids=call.tenants), "check", check_id)
        page = await list_machines(
            connection,
            check_id,
            client_ids=call.tenants,
            state=query.state,
            cursor=query.cursor,
            limit=query.limit,
        )
    return page_of(page, _machine)


def _machine(row: MachineRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in MachineModel.model_fields}


async def agent_checks(call: Call) -> Response:
    agent_id = call.path["agent_id"]
    async with call.connection() as connection:
        found(await get_agent(connection, agent_id, client_ids=call.tenants), "agent", agent_id)
        findings = {row.check_id: row for row in await findings_on(connection, agent_id)}
        told = OfAgent() if call.at is not None else await read_told(connection, agent_id)
        rows = {row.check_id: row for row in await checks_of(connection, [*told.check_ids, *findings])}
    given = [rows[check_id] for check_id in told.check_ids if check_id in rows]
    delivered = told.taken == list_digest((row.check_id, row.revision) for row in given)
    items = [_agent_check(row, findings.pop(row.check_id, None), told, delivered=delivered) for row in given]
    # What found something and is not measured here now, or, as of then, nobody knows whether it was.
    items += [_agent_check(rows.get(check_id), row, told, delivered=False) for check_id, row in findings.items()]
    items.sort(key=lambda item: (item["name"].casefold(), item["check_id"]))
    return json_response({"agent_id": agent_id, "delivered": delivered or not given, "items": items})


def _agent_check(row: CheckRow | None, finding: FindingRow | None, told: OfAgent, *, delivered: bool) -> dict[str, Any]:
    check_id = row.check_id if row is not None else finding.check_id if finding is not None else None
    measured = told.measured.get(check_id) if check_id is not None else None
    given = check_id in told.check_ids
    state = finding.state if finding is not None else None
    if given and state in (None, CheckState.ENDED):
        # It speaks up when it finds something; that it has been measured is all that passing takes.
        state = CheckState.PASSING if delivered and measured is not None else None
    return {
        "check_id": check_id,
        "name": row.name if row is not None else finding.name if finding is not None else "",
        "kind": type(row.terms.what).__struct_config__.tag if row is not None else None,
        "interval_s": row.terms.interval_s if row is not None else None,
        "given": given,
        "state": state,
        "was": finding.was if finding is not None else None,
        "since": finding.since if finding is not None else None,
        "value": finding.value if finding is not None else None,
        "unit": finding.unit if finding is not None else "",
        "measured": None if measured is None else msgspec.to_builtins(measured),
    }


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/checks",
        needs=Permission.CHECKS_SEE,
        summary="Checks by name, and on how many machines they find what.",
        description="Those that may be measured on no other machines than you see.",
        tag=TAG,
        handler=list_checks,
        query=PageQuery,
        response=PageOf[CheckModel],
        reads=READS,
    ),
    write("POST", "/checks", DefineCheck, tag=TAG, status=201, location="/checks/{id}", errors=_REFUSED),
    write("POST", "/checks/plan", PlanCheck, tag=TAG, response=PlannedModel, errors=_REFUSED, bulk=True),
    Route(
        method="GET",
        path="/checks/{check_id}",
        needs=Permission.CHECKS_SEE,
        summary="One check.",
        tag=TAG,
        handler=show_check,
        query=ReadQuery,
        response=CheckModel,
        reads=READS,
        etag=True,
    ),
    write("PUT", "/checks/{check_id}", ChangeCheck, tag=TAG, errors=(*_REFUSED, CheckRemovedError)),
    write(
        "POST",
        "/checks/{check_id}/disable",
        DisableCheck,
        tag=TAG,
        errors=(NotFoundError, CheckRemovedError, CheckStandsError),
    ),
    write(
        "POST",
        "/checks/{check_id}/enable",
        EnableCheck,
        tag=TAG,
        errors=(NotFoundError, CheckRemovedError, CheckStandsError),
    ),
    write("POST", "/checks/{check_id}/remove", RemoveCheck, tag=TAG, errors=(NotFoundError, CheckRemovedError)),
    Route(
        method="GET",
        path="/checks/{check_id}/machines",
        needs=Permission.CHECKS_SEE,
        summary="The machines on which a check finds something, by name.",
        tag=TAG,
        handler=machines,
        query=MachinesQuery,
        response=PageOf[MachineModel],
        reads=READS,
        errors=(NotFoundError,),
    ),
    Route(
        method="GET",
        path="/agents/{agent_id}/checks",
        needs=Permission.CHECKS_SEE,
        summary="The checks of a machine, and what they find on it.",
        tag=TAG,
        handler=agent_checks,
        query=ReadQuery,
        response=AgentChecksModel,
        reads=READS,
        errors=(NotFoundError,),
    ),
)
