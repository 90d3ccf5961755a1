"""Roles, and the permissions that they are made of."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.intents.roles import ChangeRole, CreateRole, Limits, RetireRole
from domain.errors import BuiltInRoleError, NameTakenError, NotFoundError, RoleRetiredError
from domain.ids import RoleId
from domain.permissions import Permission
from domain.roles import BUILT_IN, BUILT_IN_IDS, Role
from gateways.rest.grants import limits_document
from gateways.rest.route import Call, Model, PageOf, PageQuery, ReadQuery, Route, found, json_response, one, write
from projections.roles import RoleRow, get_role
from projections.roles import list_roles as read_roles

TAG = "People"
READS = ("roles",)


class RoleModel(Model):
    """A named set of permissions."""

    id: UUID
    name: str
    built_in: bool = Field(description="Then it never changes.")
    permissions: list[str]
    limits: Limits
    retired: bool = Field(description="Then it allows nothing.")
    created_at: AwareDatetime | None
    actor: str | None = Field(description="Who made it.")
    version: int


class PermissionModel(Model):
    """One thing that can be done."""

    name: Permission
    about: str


class PermissionsModel(Model):
    """All that can be done."""

    items: list[PermissionModel]


def role_document(row: RoleRow) -> dict[str, Any]:
    """One role, as `RoleModel` describes it."""
    return {
        "id": row.role_id,
        "name": row.name,
        "built_in": False,
        "permissions": row.permissions,
        "limits": limits_document(row.limits),
        "retired": row.retired,
        "created_at": row.created_at,
        "actor": row.created_by,
        "version": row.version,
    }


def built_in_document(role: Role) -> dict[str, Any]:
    """One that is built in, as `RoleModel` describes it."""
    terms = BUILT_IN[role]
    return {
        "id": role.id,
        "name": role.value,
        "built_in": True,
        "permissions": sorted(terms.permissions),
        "limits": limits_document(terms.limits),
        "retired": False,
        "created_at": None,
        "actor": None,
        "version": 0,
    }


async def list_roles(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_roles(connection, cursor=query.cursor, limit=query.limit)
    built_in = [built_in_document(role) for role in Role] if query.cursor is None else []
    return json_response({"items": [*built_in, *map(role_document, page.items)], "next": page.next})


async def show_role(call: Call) -> Response:
    role_id = call.path["role_id"]
    built_in = BUILT_IN_IDS.get(RoleId(role_id))
    if built_in is not None:
        return one(built_in_document(built_in), 0)
    async with call.connection() as connection:
        row = found(await get_role(connection, role_id), "role", role_id)
    return one(role_document(row), row.version)


async def list_permissions(call: Call) -> Response:
    del call
    return json_response({"items": [{"name": one.value, "about": one.about} for one in Permission]})


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/permissions",
        needs=None,
        summary="All that can be permitted.",
        tag=TAG,
        handler=list_permissions,
        response=PermissionsModel,
    ),
    Route(
        method="GET",
        path="/roles",
        needs=Permission.ROLES_SEE,
        everywhere=True,
        summary="Roles: those that are built in come first, beyond `limit`, then the others by name.",
        tag=TAG,
        handler=list_roles,
        query=PageQuery,
        response=PageOf[RoleModel],
        reads=READS,
    ),
    write(
        "POST",
        "/roles",
        CreateRole,
        tag=TAG,
        status=201,
        location="/roles/{id}",
        errors=(NameTakenError, BuiltInRoleError),
    ),
    Route(
        method="GET",
        path="/roles/{role_id}",
        needs=Permission.ROLES_SEE,
        everywhere=True,
        summary="One role.",
        tag=TAG,
        handler=show_role,
        query=ReadQuery,
        response=RoleModel,
        reads=READS,
        etag=True,
    ),
    write(
        "PATCH",
        "/roles/{role_id}",
        ChangeRole,
        tag=TAG,
        errors=(NotFoundError, NameTakenError, BuiltInRoleError, RoleRetiredError),
    ),
    write(
        "POST",
        "/roles/{role_id}/retire",
        RetireRole,
        tag=TAG,
        errors=(NotFoundError, BuiltInRoleError, RoleRetiredError),
    ),
)
