"""What ids stand for: the names of things, whichever read model has them, in one question."""

from collections.abc import Collection, Mapping
from typing import Any, Literal
from uuid import UUID

import msgspec
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from domain.scopes import Scope
from projections import sql
from projections.pages import Connection

READS = ("agents", "clients", "rollouts", "scripts", "users", "roles", "api_keys")
"""Whose tables are asked."""
Kind = Literal["agent", "client", "site", "rollout", "script", "user", "role", "key"]
_SQL = sql.load("naming")


class Named(msgspec.Struct, frozen=True):
    """A thing that has a name."""

    kind: Kind
    id: UUID
    name: str


async def list_names(connection: Connection, ids: Collection[UUID], *, scopes: Mapping[Kind, Scope]) -> list[Named]:
    """The names of those among some ids that are anything with one.

    What belongs to a tenant is named to those alone who see that tenant. Scripts, people, roles and keys belong to
    none: whoever meets their id, where they may see anything of that kind, may know what it is called.

    Args:
        connection: to the database.
        ids: of anything.
        scopes: where the caller sees things of each kind.
    """
    arguments: dict[str, Any] = {"ids": list(ids)}
    for kind, scope in scopes.items():
        arguments |= {
            f"{kind}_any": not scope.empty,
            f"{kind}_all": scope.everything,
            f"{kind}_clients": list(scope.clients),
            f"{kind}_known": list(scope.known_clients),
            f"{kind}_sites": list(scope.site_ids),
            f"{kind}_whole": Jsonb([str(one) for one in scope.clients]),
        }
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL["names"], arguments)
        return [Named(*row) for row in await cursor.fetchall()]
