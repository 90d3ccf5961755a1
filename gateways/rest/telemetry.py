"""How busy a machine was."""

from datetime import timedelta
from typing import Annotated

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.ids import utc_now
from command_bus.intents.times import Moment
from domain.errors import DomainError
from domain.permissions import Permission
from gateways.agents.telemetry import read_telemetry
from gateways.rest.route import Call, Model, ReadQuery, Route, found, json_response
from projections.agents import get_agent

TAG = "Agents"
DAY = timedelta(days=1)
LONGEST = timedelta(days=366)
LEAST_STEP_S = 60
"""Agents look once a minute."""


class TelemetryPeriodError(DomainError):
    """`since` is to be before `until`, and by a year at the most."""

    code = "telemetry_period"
    status = 422


class TelemetryQuery(ReadQuery):
    """Which samples."""

    since: Moment | None = Field(default=None, description="By default a day before `until`.")
    until: Moment | None = Field(default=None, description="By default, now.")
    points: Annotated[int, Field(ge=2, le=1000)] = Field(default=300, description="So many at the most.")


class PointModel(Model):
    """The samples of one step, in percent; null where none says it."""

    at: AwareDatetime = Field(description="When the step begins.")
    cpu: float | None = Field(description="On the average.")
    cpu_most: float | None
    memory: float | None
    disk: float | None = Field(description="Of the machine's fullest disk.")


class TelemetryModel(Model):
    """How busy a machine was, step by step. A step without samples is left out."""

    begin: AwareDatetime
    until: AwareDatetime
    step_s: int
    points: list[PointModel]


async def telemetry(call: Call) -> Response:
    query: TelemetryQuery = call.query
    agent_id = call.path["agent_id"]
    until = query.until or utc_now()
    begin = query.since or until - DAY
    if not timedelta() < until - begin <= LONGEST:
        raise TelemetryPeriodError
    seconds = (until - begin).total_seconds()
    step_s = max(LEAST_STEP_S, -(-int(seconds) // query.points))
    async with call.connection() as connection:
        found(await get_agent(connection, agent_id, client_ids=call.tenants), "agent", agent_id)
        points = await read_telemetry(connection, agent_id, begin, until, step_s)
    return json_response({"begin": begin, "until": until, "step_s": step_s, "points": points})


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/agents/{agent_id}/telemetry",
        needs=Permission.AGENTS_SEE,
        summary="How busy a machine was; telemetry, and not in the log.",
        tag=TAG,
        handler=telemetry,
        query=TelemetryQuery,
        response=TelemetryModel,
        reads=("agents",),
        past=False,
        errors=(TelemetryPeriodError,),
    ),
)
