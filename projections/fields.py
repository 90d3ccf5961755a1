"""Custom fields: which there are, and what is filled in on clients, sites and agents."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.event import Event, Recorded
from domain.fields import FieldDefined, FieldRemoved, FieldsFilled, FieldTerms, Value, values_stream
from projections import sql
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query
from projections.projection import Batch, Projection

_decode_terms = msgspec.json.Decoder(FieldTerms).decode
_decode_filled = msgspec.json.Decoder(dict[str, Value]).decode


class FieldRow(msgspec.Struct, frozen=True):
    field_id: UUID
    name: str
    terms: FieldTerms
    defined_at: datetime
    defined_by: str
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        field_id, name, terms, *rest = row
        return cls(field_id, name, _decode_terms(terms), *rest)


class FilledRow(msgspec.Struct, frozen=True):
    """What is filled in on one holder."""

    values: dict[str, Value] = {}
    """By name in lower case."""
    version: int = 0

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        return cls(_decode_filled(row[0]), row[1])


class Fields(Projection):
    name: ClassVar[str] = "fields"
    folds: ClassVar[tuple[type[Event], ...]] = (FieldDefined, FieldRemoved, FieldsFilled)

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        fields, filled = batch["fields"], batch["field_values"]
        key, version = recorded.originator_id, recorded.originator_version
        match recorded.event:
            case FieldDefined() as event:
                cells = {
                    "name": event.name,
                    "sort_key": event.name.casefold(),
                    "terms": event.terms,
                    "defined_at": recorded.recorded_at,
                    "defined_by": recorded.actor,
                    "removed_at": None,
                    "version": version,
                }
                (fields.insert if version == 1 else fields.update)(key, **cells)
            case FieldRemoved():
                fields.update(key, removed_at=recorded.recorded_at, version=version)
            case FieldsFilled() as event:
                if version == 1:
                    filled.insert(
                        key,
                        holder=str(event.holder),
                        holder_id=event.holder_id,
                        filled=event.values,
                        version=version,
                    )
                else:
                    filled.update(key, filled=event.values, version=version)


_SQL = sql.load("fields")
_BY_NAME = Order("fields.name", "sort_key, field_id", (str, UUID))


async def list_fields(
    connection: Connection, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[FieldRow]:
    """Fields by name."""
    query = Query(_SQL["select"])
    query.where("removed_at IS NULL")
    return await query.page(
        connection,
        FieldRow.from_row,
        _BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.field_id),
    )


async def get_field(connection: Connection, field_id: UUID) -> FieldRow | None:
    """One field, or None if there is none."""
    query = Query(_SQL["select"])
    query.where("field_id = %s", field_id)
    query.where("removed_at IS NULL")
    return await query.one(connection, FieldRow.from_row)


async def get_filled(connection: Connection, holder_id: UUID) -> FilledRow:
    """What is filled in on a client, site or agent; the caller has seen to it that it may be seen."""
    query = Query(_SQL["select_filled"])
    query.where("values_id = %s", values_stream(holder_id))
    return await query.one(connection, FilledRow.from_row) or FilledRow()
