"""What ids are called, for those who show events to people."""

from typing import Annotated
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from domain.permissions import Permission
from gateways.rest.route import Call, Model, ReadQuery, Route, json_response
from projections.naming import READS, Kind, list_names

MOST = 200


class NameModel(Model):
    """What an id stands for."""

    kind: Kind
    id: UUID
    name: str


class NamesModel(Model):
    """Those of the ids that are known to you, in no order."""

    items: list[NameModel]


class NamesQuery(ReadQuery):
    id: Annotated[list[UUID], Field(default=[], max_length=MOST, description="Of anything; may be repeated.")]


async def names(call: Call) -> Response:
    query: NamesQuery = call.query
    async with call.connection() as connection:
        return json_response({"items": await list_names(connection, query.id, client_ids=call.tenants)})


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/names",
        needs=Permission.EVENTS_SEE,
        summary="What ids are called.",
        description="Agents, clients, sites and rollouts as far as you see them; scripts, people, roles and keys, "
        "which belong to no client, by their name alone. What is none of these, or not yours to see, is left out.",
        tag="Events",
        handler=names,
        query=NamesQuery,
        response=NamesModel,
        reads=READS,
        past=False,
    ),
)
