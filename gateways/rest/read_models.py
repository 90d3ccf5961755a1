"""The rows of read models as they are kept: to see why a list shows what it does."""

from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from command_bus.errors import ForbiddenError
from domain.errors import InvalidValueError, NotFoundError
from domain.output_reads import OutputRead, Way
from domain.permissions import Permission
from gateways.rest.route import Call, Model, PageQuery, Query, Route, json_response
from projections.browsing import by_words, list_rows, list_tables

TAG = "Platform"
WITH_OUTPUT = frozenset({"result", "late_result"})
"""Columns that hold ends of outputs."""


class TableModel(Model):
    """A table of a projection."""

    projection: str
    table: str
    columns: dict[str, str] = Field(description="With their types in Postgres.")
    key: list[str]
    rows: int = Field(description="About so many.")


class TablesModel(Model):
    """Every table that is built from events."""

    items: list[TableModel]


class RowsModel(Model):
    """Some rows of a table, by its key."""

    items: list[dict[str, str | None]] = Field(
        description="Each column as Postgres writes it, at most 2,000 characters; what says something of a credential "
        "is not shown, nor, without `commands.output` over everything, what holds an output's end."
    )
    next: str | None = Field(description="`cursor` of the next page; null if this is the last.")


class RowsQuery(PageQuery):
    table: str = Field(max_length=63, description="Its name.")
    filter: Annotated[
        list[Annotated[str, Field(max_length=200)]],
        Field(
            default=[],
            max_length=8,
            description="`COLUMN=VALUE`: only rows that hold it, or null where the value is empty. May be repeated.",
        ),
    ]


async def tables(call: Call) -> Response:
    async with call.connection_now() as connection:
        return json_response({"items": await list_tables(connection)})


async def rows(call: Call) -> Response:
    query: RowsQuery = call.query
    wanted = by_words(query.filter)
    reads = call.caller.access.scope(Permission.COMMANDS_OUTPUT).everything
    hidden = frozenset() if reads else WITH_OUTPUT
    if hidden & wanted.keys():  # whether a guess is right tells as much as the column
        raise ForbiddenError(f"A filter by this needs the permission `{Permission.COMMANDS_OUTPUT}` over everything.")
    async with call.connection_now() as connection:
        page = await list_rows(
            connection, query.table, wanted=wanted, hidden=hidden, cursor=query.cursor, limit=query.limit
        )
    if reads and any(row.get(column) for row in page.items for column in WITH_OUTPUT):
        await call.outputs.read(OutputRead(way=Way.ROWS, table=query.table), call.caller)
    return json_response({"items": page.items, "next": page.next})


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/read-models",
        needs=Permission.PLATFORM_BROWSE,
        everywhere=True,
        summary="The tables that projections build from events.",
        tag=TAG,
        handler=tables,
        query=Query,
        response=TablesModel,
    ),
    Route(
        method="GET",
        path="/read-models/rows",
        needs=Permission.PLATFORM_BROWSE,
        everywhere=True,
        summary="The rows of one of them, as they are kept.",
        description="For whoever has to see why a list shows what it does. Nothing is changed there but by events.",
        tag=TAG,
        handler=rows,
        query=RowsQuery,
        response=RowsModel,
        errors=(NotFoundError, InvalidValueError),
    ),
)
