"""API keys, and who the caller is."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.credentials import begins_like, key_prefix
from command_bus.intents.api_keys import CreateApiKey, RevokeApiKey
from command_bus.intents.roles import Limits
from domain.errors import ExpiryInPastError, KeyRevokedError, NotFoundError, RoleRetiredError, UserDisabledError
from domain.permissions import Permission
from gateways.rest.grants import (
    GrantModel,
    ScopeModel,
    built_in_names,
    grant_documents,
    limits_document,
    role_names,
    scope_document,
)
from gateways.rest.route import Answer, Call, Model, PageOf, PageQuery, ReadQuery, Route, json_response, write
from projections.api_keys import ApiKeyRow
from projections.api_keys import list_api_keys as read_api_keys
from projections.users import get_user

TAG = "API keys"


class ApiKeyModel(Model):
    """What a program calls with, and what it may do. The key itself is not kept."""

    id: UUID
    name: str
    prefix: str = Field(description="How the key begins, to find it by where it turns up. It opens nothing.")
    owner_id: UUID | None = Field(
        description="The user or service account that it speaks for. Null of a key from before all had one: replace it."
    )
    owner: str | None = Field(description="The owner's name.")
    grants: list[GrantModel] | None = Field(description="What it may do, of what its owner may; null is all of that.")
    expires_at: AwareDatetime | None
    unattended: bool = Field(description="It may do what a person has to give a fresh proof for.")
    revoked: bool
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None = Field(
        description="To the minute; telemetry, and not in the log: null as of an earlier time."
    )
    created_at: AwareDatetime
    actor: str = Field(description="Who made it.")
    version: int


class MayModel(Model):
    """One thing that the caller may do, and over what."""

    permission: Permission
    over: ScopeModel
    limits: Limits


class MeModel(Model):
    """Who the caller is, and what they may do now."""

    actor: str
    user_id: UUID | None = Field(description="The user or service account behind the key.")
    name: str | None = Field(description="Of that user.")
    grants: list[GrantModel] = Field(description="Of the key or, where it has none of its own, of that user.")
    may: list[MayModel] = Field(description="What these come to; of a user's key, within what the user may.")


class KeyCreated(Answer):
    """A new API key."""

    prefix: str | None = Field(default=None, description="How it begins; shown in lists, too.")
    owner_id: UUID | None = Field(default=None, description="Whom it speaks for.")
    key: str | None = Field(
        default=None, description="The key. Shown this once: a repeat with the same Idempotency-Key has none."
    )


class ApiKeysQuery(PageQuery):
    owner_id: UUID | None = Field(default=None, description="Only those of this user or service account.")
    prefix: str | None = Field(
        default=None,
        pattern=r"^flk_[0-9a-f]{1,32}$",
        description="Only those that begin so: `prefix` of a key, or as much as you have of its part before the second "
        "`_`. What comes after that is secret: never put it into an address.",
    )


def api_key_document(row: ApiKeyRow, names: dict[UUID, str]) -> dict[str, Any]:
    """One key, as `ApiKeyModel` describes it."""
    return {
        "id": row.api_key_id,
        "name": row.name,
        "prefix": key_prefix(row.api_key_id),
        "owner_id": row.owner_id,
        "owner": row.owner,
        "grants": None if row.grants is None else grant_documents(row.grants, names),
        "expires_at": row.expires_at,
        "unattended": row.unattended,
        "revoked": row.revoked_at is not None,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
        "created_at": row.created_at,
        "actor": row.created_by,
        "version": row.version,
    }


async def list_api_keys(call: Call) -> Response:
    query: ApiKeysQuery = call.query
    async with call.connection() as connection:
        page = await read_api_keys(
            connection,
            client_ids=call.tenants,
            owner_id=query.owner_id,
            between=None if query.prefix is None else begins_like(query.prefix),
            cursor=query.cursor,
            limit=query.limit,
        )
        names = await role_names(connection, [grant for row in page.items for grant in row.grants or ()])
    items = [api_key_document(row, names) for row in page.items]
    if call.at is not None:
        # What is not in the log is known as of now alone.
        items = [item | {"last_used_at": None} for item in items]
    return json_response({"items": items, "next": page.next})


async def me(call: Call) -> Response:
    access, user_id, grants = call.caller.access, call.caller.user_id, call.caller.grants
    user, names = None, built_in_names()
    if user_id is not None or any(grant.role_id not in names for grant in grants):
        async with call.connection() as connection:
            user = await get_user(connection, user_id) if user_id is not None else None
            names = await role_names(connection, grants)
    may = [
        {
            "permission": permission,
            "over": scope_document(scope),
            "limits": limits_document(access.limits(permission, over=scope)),
        }
        for permission in Permission
        if not (scope := access.scope(permission)).empty
    ]
    name = user.name if user is not None else None
    shown = {"grants": grant_documents(grants, names), "may": may}
    return json_response({"actor": call.caller.actor, "user_id": user_id, "name": name} | shown)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api-keys",
        needs=Permission.KEYS_SEE,
        summary="API keys, newest first.",
        tag=TAG,
        handler=list_api_keys,
        query=ApiKeysQuery,
        response=PageOf[ApiKeyModel],
        reads=("api_keys", "users"),
    ),
    Route(
        method="GET",
        path="/me",
        needs=None,
        summary="Who the caller is, and what they may do.",
        tag=TAG,
        handler=me,
        query=ReadQuery,
        response=MeModel,
        reads=("users", "roles"),
        past=False,
    ),
    write(
        "POST",
        "/api-keys",
        CreateApiKey,
        tag=TAG,
        status=201,
        response=KeyCreated,
        errors=(NotFoundError, ExpiryInPastError, RoleRetiredError, UserDisabledError),
    ),
    write("POST", "/api-keys/{key_id}/revoke", RevokeApiKey, tag=TAG, errors=(NotFoundError, KeyRevokedError)),
)
