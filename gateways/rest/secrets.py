"""Secrets: set, listed, removed. No answer ever has a value."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.errors import ForbiddenError
from command_bus.intents.secrets import RemoveSecret, RotateSecrets, SetSecret
from domain.errors import NoMasterKeyError, NotFoundError, SecretCannotWaitError, SecretRemovedError
from domain.permissions import Permission
from domain.placeholders import ScopeKind
from gateways.rest.route import Answer, Call, Model, PageOf, PageQuery, ReadQuery, Route, found, one, page_of, write
from projections.secrets import SecretRow, get_secret
from projections.secrets import list_secrets as read_secrets

TAG = "Secrets"
READS = ("secrets",)


class SecretModel(Model):
    """A secret, without its value: `{{secret.NAME}}` where it counts."""

    id: UUID
    name: str
    scope: ScopeKind
    client_id: UUID | None = Field(description="Whose it is; null for the whole fleet.")
    site_id: UUID | None
    agent_id: UUID | None
    number: int = Field(description="Of its value: 1 for the first, and one more each time that it is set.")
    note: str
    created_at: AwareDatetime
    set_at: AwareDatetime
    actor: str = Field(description="Who set it last.")
    version: int


class SecretAnswer(Answer):
    """A secret that was set."""

    number: int = Field(description="Of its value.")


class RotateAnswer(Answer):
    """Secrets that were sealed anew."""

    key_id: str = Field(description="Names the master key, and says nothing of it.")
    count: int


def secret_document(row: SecretRow) -> dict[str, Any]:
    return {
        "id": row.secret_id,
        "name": row.name,
        "scope": row.scope,
        "client_id": row.client_id,
        "site_id": row.site_id,
        "agent_id": row.agent_id,
        "number": row.number,
        "note": row.note,
        "created_at": row.created_at,
        "set_at": row.set_at,
        "actor": row.set_by,
        "version": row.version,
    }


async def list_secrets(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_secrets(connection, client_ids=call.tenants, cursor=query.cursor, limit=query.limit)
    return page_of(page, secret_document)


async def show_secret(call: Call) -> Response:
    secret_id = call.path["secret_id"]
    async with call.connection() as connection:
        row = found(await get_secret(connection, secret_id, client_ids=call.tenants), "secret", secret_id)
    return one(secret_document(row), row.version)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/secrets",
        needs=Permission.SECRETS_SEE,
        summary="Secrets by name, without their values.",
        tag=TAG,
        handler=list_secrets,
        query=PageQuery,
        response=PageOf[SecretModel],
        reads=READS,
    ),
    write(
        "POST",
        "/secrets",
        SetSecret,
        tag=TAG,
        response=SecretAnswer,
        location="/secrets/{id}",
        errors=(NotFoundError, ForbiddenError, SecretCannotWaitError, NoMasterKeyError),
    ),
    # Before what an id stands for, since paths are tried in order.
    write("POST", "/secrets/rotate", RotateSecrets, tag=TAG, response=RotateAnswer, errors=(NoMasterKeyError,)),
    Route(
        method="GET",
        path="/secrets/{secret_id}",
        needs=Permission.SECRETS_SEE,
        summary="One secret, without its value.",
        tag=TAG,
        handler=show_secret,
        query=ReadQuery,
        response=SecretModel,
        reads=READS,
        etag=True,
    ),
    write("POST", "/secrets/{secret_id}/remove", RemoveSecret, tag=TAG, errors=(NotFoundError, SecretRemovedError)),
)
