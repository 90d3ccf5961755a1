"""API keys, and who the caller is."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.intents.api_keys import CreateApiKey, RevokeApiKey
from domain.api_keys import Role
from domain.errors import ExpiryInPastError, KeyRevokedError, NotFoundError
from gateways.rest.route import Answer, Call, Model, PageOf, PageQuery, Route, json_response, page_of, write
from projections.api_keys import ApiKeyRow
from projections.api_keys import list_api_keys as read_api_keys

TAG = "API keys"


class ApiKeyModel(Model):
    """Who may call, what they may do, and whose machines they see. The key itself is not kept."""

    id: UUID
    name: str
    role: Role
    client_ids: list[UUID] | None = Field(description="The tenants it sees; null sees all.")
    expires_at: AwareDatetime | None
    revoked: bool
    revoked_at: AwareDatetime | None
    created_at: AwareDatetime
    actor: str = Field(description="Who made it.")
    version: int


class MeModel(Model):
    """What the key that came with the request may do."""

    actor: str
    role: Role
    client_ids: list[UUID] | None = Field(description="The tenants it sees; null sees all.")


class KeyCreated(Answer):
    """A new API key."""

    key: str | None = Field(
        default=None, description="The key. Shown this once: a repeat with the same Idempotency-Key has none."
    )


def api_key_document(row: ApiKeyRow) -> dict[str, Any]:
    return {
        "id": row.api_key_id,
        "name": row.name,
        "role": row.role,
        "client_ids": row.client_ids,
        "expires_at": row.expires_at,
        "revoked": row.revoked_at is not None,
        "revoked_at": row.revoked_at,
        "created_at": row.created_at,
        "actor": row.created_by,
        "version": row.version,
    }


async def list_api_keys(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_api_keys(connection, client_ids=call.tenants, cursor=query.cursor, limit=query.limit)
    return page_of(page, api_key_document)


async def me(call: Call) -> Response:
    tenants = call.tenants
    return json_response(
        {
            "actor": call.caller.actor,
            "role": call.caller.role,
            "client_ids": None if tenants is None else sorted(tenants),
        }
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api-keys",
        summary="API keys, newest first.",
        tag=TAG,
        handler=list_api_keys,
        query=PageQuery,
        response=PageOf[ApiKeyModel],
        reads=("api_keys",),
        needs=Role.ADMIN,
    ),
    Route(method="GET", path="/me", summary="Who the caller is.", tag=TAG, handler=me, response=MeModel),
    write(
        "POST",
        "/api-keys",
        CreateApiKey,
        tag=TAG,
        status=201,
        response=KeyCreated,
        errors=(NotFoundError, ExpiryInPastError),
    ),
    write("POST", "/api-keys/{key_id}/revoke", RevokeApiKey, tag=TAG, errors=(NotFoundError, KeyRevokedError)),
)
