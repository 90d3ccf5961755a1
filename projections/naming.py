"""What ids stand for: the names of things, whichever read model has them, in one question."""

from collections.abc import Collection
from typing import Any, Literal
from uuid import UUID

import msgspec
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from domain.scopes import EVERYTHING
from projections import sql
from projections.pages import Connection, Tenants

READS = ("agents", "clients", "rollouts", "scripts", "users", "roles", "api_keys")
"""Whose tables are asked."""
Kind = Literal["agent", "client", "site", "rollout", "script", "user", "role", "key"]
_SQL = sql.load("naming")


class Named(msgspec.Struct, frozen=True):
    """A thing that has a name."""

    kind: Kind
    id: UUID
    name: str


async def list_names(connection: Connection, ids: Collection[UUID], *, client_ids: Tenants) -> list[Named]:
    """The names of those among some ids that are anything with one.

    What belongs to a tenant is named to those alone who see that tenant. Scripts, people, roles and keys belong to
    none: whoever meets their id, in an event that they may see, may know what it is called.

    Args:
        connection: to the database.
        ids: of anything.
        client_ids: the tenants that the caller sees.
    """
    scope = client_ids if client_ids is not None else EVERYTHING
    arguments: dict[str, Any] = {
        "ids": list(ids),
        "all": scope.everything,
        "clients": list(scope.clients),
        "known": list(scope.known_clients),
        "sites": list(scope.site_ids),
        "whole": Jsonb([str(one) for one in scope.clients]),
    }
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL["names"], arguments)
        return [Named(*row) for row in await cursor.fetchall()]
