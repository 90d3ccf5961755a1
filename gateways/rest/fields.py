"""Custom fields, and what is filled in on clients, sites and agents."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.intents.fields import DefineField, FillAgentFields, FillClientFields, FillSiteFields, RemoveField
from domain.errors import (
    DomainError,
    ErasedError,
    FieldRemovedError,
    InvalidValueError,
    NotFoundError,
    RequiredFieldError,
    UnknownFieldError,
)
from domain.fields import FieldKind, Holder
from domain.permissions import Permission
from gateways.rest.route import Call, Model, PageOf, PageQuery, ReadQuery, Route, found, one, page_of, write
from projections.agents import get_agent
from projections.clients import get_client, get_site
from projections.fields import FieldRow, get_field, get_filled
from projections.fields import list_fields as read_fields

TAG = "Custom fields"
READS = ("fields",)
VALUE = bool | int | float | str | list[str]


class TermsModel(Model):
    """What a field holds."""

    kind: FieldKind
    on: list[Holder]
    choices: list[str]
    default: VALUE | None
    required: bool
    description: str


class FieldModel(Model):
    """A custom field."""

    id: UUID
    name: str
    terms: TermsModel
    defined_at: AwareDatetime
    actor: str = Field(description="Who defined it as it is.")
    version: int


class FilledModel(Model):
    """What is filled in on one client, site or agent."""

    values: dict[str, VALUE] = Field(description="By the fields' names in lower case.")
    missing: list[str] = Field(description="Fields that must be filled in, and are not.")
    version: int


def field_document(row: FieldRow) -> dict[str, Any]:
    terms = row.terms
    return {
        "id": row.field_id,
        "name": row.name,
        "terms": {
            "kind": terms.kind,
            "on": terms.on,
            "choices": terms.choices,
            "default": terms.default,
            "required": terms.required,
            "description": terms.description,
        },
        "defined_at": row.defined_at,
        "actor": row.defined_by,
        "version": row.version,
    }


async def list_fields(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_fields(connection, cursor=query.cursor, limit=query.limit)
    return page_of(page, field_document)


async def show_field(call: Call) -> Response:
    field_id = call.path["field_id"]
    async with call.connection() as connection:
        row = found(await get_field(connection, field_id), "field", field_id)
    return one(field_document(row), row.version)


async def show_client_fields(call: Call) -> Response:
    client_id = call.path["client_id"]
    async with call.connection() as connection:
        found(await get_client(connection, client_id, client_ids=call.tenants), "client", client_id)
        return await _filled(connection, Holder.CLIENT, client_id)


async def show_site_fields(call: Call) -> Response:
    site_id = call.path["site_id"]
    async with call.connection() as connection:
        found(await get_site(connection, site_id, client_ids=call.tenants), "site", site_id)
        return await _filled(connection, Holder.SITE, site_id)


async def show_agent_fields(call: Call) -> Response:
    agent_id = call.path["agent_id"]
    async with call.connection() as connection:
        found(await get_agent(connection, agent_id, client_ids=call.tenants), "agent", agent_id)
        return await _filled(connection, Holder.AGENT, agent_id)


async def _filled(connection: Any, holder: Holder, holder_id: UUID) -> Response:
    filled = await get_filled(connection, holder_id)
    missing = []
    cursor = None
    while True:
        page = await read_fields(connection, cursor=cursor, limit=500)
        missing += [
            row.name
            for row in page.items
            if holder in row.terms.on
            and row.terms.required
            and row.terms.default is None
            and row.name.lower() not in filled.values
        ]
        cursor = page.next
        if cursor is None:
            break
    return one({"values": filled.values, "missing": missing, "version": filled.version}, filled.version)


def _holder(
    what: str, path: str, needs: Permission, intent: Any, handler: Any, read: str, *also: type[DomainError]
) -> tuple[Route, Route]:
    return (
        Route(
            method="GET",
            path=path,
            needs=needs,
            summary=f"What is filled in on {what}.",
            tag=TAG,
            handler=handler,
            query=ReadQuery,
            response=FilledModel,
            reads=(*READS, read),
            etag=True,
        ),
        write(
            "PATCH",
            path,
            intent,
            tag=TAG,
            errors=(NotFoundError, UnknownFieldError, InvalidValueError, RequiredFieldError, *also),
        ),
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/fields",
        needs=Permission.CLIENTS_SEE,
        summary="Custom fields by name.",
        tag=TAG,
        handler=list_fields,
        query=PageQuery,
        response=PageOf[FieldModel],
        reads=READS,
    ),
    write("POST", "/fields", DefineField, tag=TAG, location="/fields/{id}", errors=(InvalidValueError,)),
    Route(
        method="GET",
        path="/fields/{field_id}",
        needs=Permission.CLIENTS_SEE,
        summary="One custom field.",
        tag=TAG,
        handler=show_field,
        query=ReadQuery,
        response=FieldModel,
        reads=READS,
        etag=True,
    ),
    write("POST", "/fields/{field_id}/remove", RemoveField, tag=TAG, errors=(NotFoundError, FieldRemovedError)),
    *_holder(
        "a client",
        "/clients/{client_id}/fields",
        Permission.CLIENTS_SEE,
        FillClientFields,
        show_client_fields,
        "clients",
    ),
    *_holder("a site", "/sites/{site_id}/fields", Permission.CLIENTS_SEE, FillSiteFields, show_site_fields, "clients"),
    *_holder(
        "an agent",
        "/agents/{agent_id}/fields",
        Permission.AGENTS_SEE,
        FillAgentFields,
        show_agent_fields,
        "agents",
        ErasedError,
    ),
)
