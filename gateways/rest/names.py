"""What ids are called, for those who show events to people."""

from typing import Annotated
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from domain.permissions import Permission
from domain.scopes import Scope
from gateways.rest.route import Call, Model, ReadQuery, Route, json_response
from projections.naming import READS, Kind, list_names

MOST = 200
SHOWN_BY: dict[Kind, Permission] = {
    "agent": Permission.AGENTS_SEE,
    "client": Permission.CLIENTS_SEE,
    "site": Permission.CLIENTS_SEE,
    "rollout": Permission.ROLLOUTS_SEE,
    "script": Permission.SCRIPTS_SEE,
    "user": Permission.PEOPLE_SEE,
    "role": Permission.ROLES_SEE,
    "key": Permission.KEYS_SEE,
}
"""What lets somebody see things of each kind, besides the log, which tells of all of them."""
OF_ALL_TENANTS = frozenset({Permission.PEOPLE_SEE, Permission.ROLES_SEE, Permission.KEYS_SEE})
"""These show people, roles and keys to those alone who have them over everything."""


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
        return json_response({"items": await list_names(connection, query.id, scopes=_scopes(call))})


def _scopes(call: Call) -> dict[Kind, Scope]:
    """Where the caller sees what is of each kind."""
    access = call.caller.access
    in_log = access.scope(Permission.EVENTS_SEE)
    scopes: dict[Kind, Scope] = {}
    for kind, permission in SHOWN_BY.items():
        itself = access.scope(permission)
        counts = permission not in OF_ALL_TENANTS or itself.everything
        scopes[kind] = in_log | itself if counts else in_log
    return scopes


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/names",
        needs=None,
        summary="What ids are called.",
        description="Agents, clients, sites and rollouts where you see them, or the log; scripts, people, roles and "
        "keys, which belong to no client, by their name alone, if you see them, or any of the log. What is none of "
        "these, or not yours to see, is left out.",
        tag="Events",
        handler=names,
        query=NamesQuery,
        response=NamesModel,
        reads=READS,
        past=False,
    ),
)
