"""Roles that are made of events; those that are built in are in `domain.roles`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.event import Event, Recorded
from domain.roles import Limits, RoleChanged, RoleCreated, RoleRetired
from projections import sql
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query
from projections.projection import Batch, Projection


class RoleRow(msgspec.Struct, frozen=True):
    role_id: UUID
    name: str
    permissions: tuple[str, ...]
    limits: Limits
    retired: bool
    created_at: datetime
    created_by: str
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[2], cells[3] = tuple(row[2]), msgspec.convert(row[3], Limits)
        return cls(*cells)


class Roles(Projection):
    name: ClassVar[str] = "roles"
    version: ClassVar[int] = 2
    folds: ClassVar[tuple[type[Event], ...]] = (RoleCreated, RoleChanged, RoleRetired)

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        roles, key, version = batch["roles"], recorded.originator_id, recorded.originator_version
        match recorded.event:
            case RoleCreated(name=name, permissions=permissions, limits=limits):
                roles.insert(
                    key,
                    name=name,
                    sort_key=name.casefold(),
                    permissions=permissions,
                    limits=limits,
                    retired=False,
                    created_at=recorded.recorded_at,
                    created_by=recorded.actor,
                    version=version,
                )
            case RoleChanged(name=name, permissions=permissions, limits=limits):
                roles.update(
                    key,
                    name=name,
                    sort_key=name.casefold(),
                    permissions=permissions,
                    limits=limits,
                    version=version,
                )
            case RoleRetired():
                roles.update(key, retired=True, version=version)


_SQL = sql.load("roles")
_BY_NAME = Order("roles.name", "sort_key, role_id", (str, UUID))


async def list_roles(connection: Connection, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[RoleRow]:
    """Roles by name. They belong to no tenant: who may see any sees all."""
    return await Query(_SQL["select"]).page(
        connection,
        RoleRow.from_row,
        _BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.role_id),
    )


async def get_role(connection: Connection, role_id: UUID) -> RoleRow | None:
    """One of them, or None."""
    query = Query(_SQL["select"])
    query.where("role_id = %s", role_id)
    return await query.one(connection, RoleRow.from_row)


async def names_of(connection: Connection, role_ids: Sequence[UUID]) -> dict[UUID, str]:
    """What some roles are called."""
    query = Query(_SQL["names"])
    query.where("role_id = ANY(%s::uuid[])", list(role_ids))
    return dict(await query.all(connection, lambda row: (row[0], row[1])))
