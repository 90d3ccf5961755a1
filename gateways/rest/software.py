"""What is installed on a machine."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from domain.errors import DomainError
from domain.permissions import Permission
from gateways.agents.software import SoftwareNotKeptError, read_software
from gateways.rest.agent_past import then
from gateways.rest.agents import OF_ONE
from gateways.rest.route import Call, Model, PageQuery, Route, found, json_response
from projections.agents import get_agent
from projections.errors import NoReplayError
from projections.pages import Order, cut
from schema.software import Package

TAG = "Agents"
_BY_NAME = Order("software.name", "name, version, arch, source, update, security", (str, str, str, str, str, bool))


class NoSoftwareError(DomainError):
    """This agent has not told yet what is installed; one that was updated just now does within a minute."""

    code = "no_software"
    status = 404


class SoftwareQuery(PageQuery):
    """Which packages."""

    q: Annotated[str, Field(max_length=200)] = Field(default="", description="Part of its name, in any case.")
    updates: bool = Field(default=False, description="Only what could be updated.")


class PackageModel(Model):
    """A package or program that is installed, or an update of the system that could be."""

    name: str
    version: str = Field(description="Empty for an update of the system, which replaces nothing.")
    arch: str
    source: str = Field(description="What installed it: `dpkg`, `rpm`, `pacman`, `apk`, `app`, `registry` and so on.")
    update: str = Field(description="The version that could be installed; empty where the machine knows of none.")
    security: bool = Field(description="Whoever offers that update says that it is for security.")


class SoftwareModel(Model):
    """One page of what is installed."""

    agent_id: UUID
    reported_at: AwareDatetime
    packages: int = Field(description="Of all pages, whatever was asked for.")
    updates: int | None = Field(description="How many could be updated; null where the machine cannot say.")
    security_updates: int | None
    items: list[PackageModel]
    next: str | None


async def software(call: Call) -> Response:
    query: SoftwareQuery = call.query
    agent_id = call.path["agent_id"]
    try:
        async with call.connection() as connection:
            agent = found(await get_agent(connection, agent_id, client_ids=call.tenants), "agent", agent_id)
    except NoReplayError:
        agent = found(await then(call, agent_id), "agent", agent_id).agent
    if not agent.software:
        raise NoSoftwareError
    async with call.connection_now() as connection:
        listed = await read_software(connection, agent.software)
    wanted = query.q.casefold()
    rows = [one for one in listed.packages if wanted in one.name.casefold() and (one.update or not query.updates)]
    page = cut(rows, _BY_NAME, _key, cursor=query.cursor, limit=query.limit)
    return json_response(
        {
            "agent_id": agent_id,
            "reported_at": agent.software_at,
            "packages": agent.packages,
            "updates": agent.updates,
            "security_updates": agent.security_updates,
            "items": [{name: getattr(one, name) for name in PackageModel.model_fields} for one in page.items],
            "next": page.next,
        }
    )


def _key(one: Package) -> tuple[Any, ...]:
    return msgspec.structs.astuple(one)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/agents/{agent_id}/software",
        needs=Permission.AGENTS_SEE,
        summary="What is installed on a machine, by name, and what of it could be updated.",
        description="The agent looks once an hour, and whenever its facts are collected. " + OF_ONE,
        tag=TAG,
        handler=software,
        query=SoftwareQuery,
        response=SoftwareModel,
        reads=("agents",),
        errors=(NoSoftwareError, SoftwareNotKeptError),
    ),
)
