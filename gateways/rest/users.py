"""Users and service accounts."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.errors import LoginsBusyError
from command_bus.intents.erasures import EraseUser
from command_bus.intents.logins import ResetSecondFactor, RevokeUserSessions, SetPassword
from command_bus.intents.users import ChangeUser, CreateUser, DisableUser, EnableUser, GrantRoles
from domain.errors import (
    ErasedError,
    NameTakenError,
    NoMasterKeyError,
    NoSecondFactorError,
    NotAPersonError,
    NotFoundError,
    RoleRetiredError,
    SecretCannotWaitError,
    UserDisabledError,
    UserNotDisabledError,
    WeakPasswordError,
)
from domain.permissions import Permission
from domain.users import UserKind
from gateways.rest.erasures import ErasedAnswer
from gateways.rest.grants import GrantModel, grant_documents, role_names
from gateways.rest.route import (
    Answer,
    Call,
    Model,
    PageOf,
    PageQuery,
    ReadQuery,
    Route,
    found,
    json_response,
    one,
    write,
)
from projections.users import UserRow, get_user
from projections.users import list_users as read_users

TAG = "People"
READS = ("users", "roles")
_GRANTING = (NotFoundError, RoleRetiredError)
_LOGIN = (NotFoundError, NotAPersonError)


class UserModel(Model):
    """Somebody, or a program, that works with the fleet."""

    id: UUID
    kind: UserKind
    name: str
    email: str
    disabled: bool
    erased: bool = Field(description="Who they were is erased for good.")
    grants: list[GrantModel] = Field(description="What they may do by what was granted to them here.")
    group_grants: list[GrantModel] = Field(
        description="What they may do besides, by their groups at the provider, as of their last login through it."
    )
    created_at: AwareDatetime
    actor: str = Field(description="Who added them.")
    version: int


class PasswordAnswer(Answer):
    """A password that was set."""

    password: str | None = Field(
        default=None, description="Where it was made: shown this once. A repeat with the same Idempotency-Key has none."
    )


class UsersQuery(PageQuery):
    kind: UserKind | None = None


def user_document(row: UserRow, names: dict[UUID, str]) -> dict[str, Any]:
    """One user, as `UserModel` describes it."""
    return {
        "id": row.user_id,
        "kind": row.kind,
        "name": row.name,
        "email": row.email,
        "disabled": row.disabled,
        "erased": row.erased,
        "grants": grant_documents(row.grants, names),
        "group_grants": grant_documents(row.group_grants, names),
        "created_at": row.created_at,
        "actor": row.created_by,
        "version": row.version,
    }


async def list_users(call: Call) -> Response:
    query: UsersQuery = call.query
    async with call.connection() as connection:
        page = await read_users(connection, kind=query.kind, cursor=query.cursor, limit=query.limit)
        names = await role_names(
            connection, [grant for row in page.items for grant in (*row.grants, *row.group_grants)]
        )
    return json_response({"items": [user_document(row, names) for row in page.items], "next": page.next})


async def show_user(call: Call) -> Response:
    user_id = call.path["user_id"]
    async with call.connection() as connection:
        row = found(await get_user(connection, user_id), "user", user_id)
        names = await role_names(connection, [*row.grants, *row.group_grants])
    return one(user_document(row, names), row.version)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/users",
        needs=Permission.PEOPLE_SEE,
        everywhere=True,
        summary="Users and service accounts by name.",
        tag=TAG,
        handler=list_users,
        query=UsersQuery,
        response=PageOf[UserModel],
        reads=READS,
    ),
    write(
        "POST", "/users", CreateUser, tag=TAG, status=201, location="/users/{id}", errors=(NameTakenError, *_GRANTING)
    ),
    Route(
        method="GET",
        path="/users/{user_id}",
        needs=Permission.PEOPLE_SEE,
        everywhere=True,
        summary="One of them.",
        tag=TAG,
        handler=show_user,
        query=ReadQuery,
        response=UserModel,
        reads=READS,
        etag=True,
    ),
    write("PATCH", "/users/{user_id}", ChangeUser, tag=TAG, errors=(NotFoundError, NameTakenError, ErasedError)),
    write("PUT", "/users/{user_id}/grants", GrantRoles, tag=TAG, errors=_GRANTING),
    write("POST", "/users/{user_id}/disable", DisableUser, tag=TAG, errors=(NotFoundError, UserDisabledError)),
    write(
        "POST",
        "/users/{user_id}/enable",
        EnableUser,
        tag=TAG,
        errors=(NotFoundError, UserNotDisabledError, ErasedError),
    ),
    write(
        "POST",
        "/users/{user_id}/erase",
        EraseUser,
        tag=TAG,
        response=ErasedAnswer,
        errors=(NotFoundError, UserNotDisabledError, ErasedError),
    ),
    write(
        "PUT",
        "/users/{user_id}/password",
        SetPassword,
        tag=TAG,
        response=PasswordAnswer,
        errors=(*_LOGIN, WeakPasswordError, SecretCannotWaitError, NoMasterKeyError, LoginsBusyError),
    ),
    write(
        "POST",
        "/users/{user_id}/second-factor/reset",
        ResetSecondFactor,
        tag=TAG,
        errors=(*_LOGIN, NoSecondFactorError),
    ),
    write("POST", "/users/{user_id}/sessions/revoke", RevokeUserSessions, tag=TAG, errors=_LOGIN),
)
