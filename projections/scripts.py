"""Scripts and their revisions.

Scripts are the operator's shared library and belong to no tenant, so their queries take the tenants that the caller
sees, as all queries do, and leave nothing out.
"""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec
from psycopg.rows import tuple_row

from domain.agents import Platform
from domain.event import Event, Recorded
from domain.favourites import ScriptFavoured, ScriptUnfavoured
from domain.ids import derived_id
from domain.scripts import (
    Revision,
    ScriptArchived,
    ScriptCreated,
    ScriptFiled,
    ScriptRenamed,
    ScriptRestored,
    ScriptRevised,
    Shell,
)
from projections import sql
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query, Tenants
from projections.projection import Batch, Projection

_encode = msgspec.json.Encoder().encode
_decode_revision = msgspec.json.Decoder(Revision).decode


class ScriptRow(msgspec.Struct, frozen=True):
    script_id: UUID
    name: str
    description: str
    folder: str
    archived: bool
    latest_revision: int
    """0 while there is none."""
    shell: Shell | None
    """Of the latest revision, as are the platforms; no platforms means all."""
    platforms: tuple[Platform, ...]
    created_at: datetime
    changed_at: datetime
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[6] = None if row[6] is None else Shell(row[6])
        cells[7] = tuple(Platform(name) for name in row[7])
        return cls(*cells)


class RevisionRow(msgspec.Struct, frozen=True):
    script_id: UUID
    revision: int
    content: Revision
    sha256: str
    author: str
    """The actor who made it."""
    created_at: datetime

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        script_id, revision, content, *rest = row
        return cls(script_id, revision, _decode_revision(content), *rest)


class Scripts(Projection):
    name: ClassVar[str] = "scripts"
    folds: ClassVar[tuple[type[Event], ...]] = (
        ScriptCreated,
        ScriptRenamed,
        ScriptFiled,
        ScriptRevised,
        ScriptArchived,
        ScriptRestored,
        ScriptFavoured,
        ScriptUnfavoured,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        key, at = recorded.originator_id, recorded.recorded_at
        seen: dict[str, Any] = {"changed_at": at, "version": recorded.originator_version}
        scripts, favourites = batch["scripts"], batch["favourites"]
        match recorded.event:
            case ScriptCreated(name=name, description=description):
                scripts.insert(
                    key,
                    name=name,
                    sort_key=name.casefold(),
                    description=description,
                    folder="",
                    archived=False,
                    latest_revision=0,
                    shell=None,
                    platforms=(),
                    created_at=at,
                    **seen,
                )
            case ScriptRenamed(name=name, description=description):
                scripts.update(key, name=name, sort_key=name.casefold(), description=description, **seen)
            case ScriptFiled(folder=folder):
                scripts.update(key, folder=folder, **seen)
            case ScriptRevised(revision=number, content=content, sha256=sha256):
                batch["revisions"].insert(
                    (key, number), content=_encode(content), sha256=sha256, author=recorded.actor, created_at=at
                )
                scripts.update(key, latest_revision=number, shell=content.shell, platforms=content.platforms, **seen)
            case ScriptFavoured(owner=owner, script_id=script_id):
                favourites.insert(derived_id("favourite", owner, script_id), owner=owner, script_id=script_id)
            case ScriptUnfavoured(owner=owner, script_id=script_id):
                favourites.delete(derived_id("favourite", owner, script_id))
            case ScriptArchived():
                scripts.update(key, archived=True, **seen)
            case ScriptRestored():
                scripts.update(key, archived=False, **seen)


_SQL = sql.load("scripts")
_BY_NAME = Order("scripts.name", "sort_key, script_id", (str, UUID))
_NEWEST = Order("revisions", "revision", (int,), descending=True)


async def list_scripts(
    connection: Connection,
    *,
    client_ids: Tenants,  # noqa: ARG001 - see above
    archived: bool | None = False,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[ScriptRow]:
    """Scripts by name.

    Args:
        connection: to the database.
        client_ids: the tenants that the caller sees.
        archived: whether those that are archived, or (None) both kinds.
        cursor: of the page before.
        limit: at most so many.
    """
    query = Query(_SQL["select"])
    if archived is not None:
        query.where("archived" if archived else "NOT archived")
    return await query.page(
        connection,
        ScriptRow.from_row,
        _BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.script_id),
    )


async def get_script(
    connection: Connection,
    script_id: UUID,
    *,
    client_ids: Tenants,  # noqa: ARG001 - see above
) -> ScriptRow | None:
    """One script, or None."""
    query = Query(_SQL["select"])
    query.where("script_id = %s", script_id)
    return await query.one(connection, ScriptRow.from_row)


async def list_revisions(
    connection: Connection,
    script_id: UUID,
    *,
    client_ids: Tenants,  # noqa: ARG001 - see above
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[RevisionRow]:
    """Revisions of one script, newest first."""
    query = Query(_SQL["select_revisions"])
    query.where("script_id = %s", script_id)
    return await query.page(
        connection, RevisionRow.from_row, _NEWEST, cursor=cursor, limit=limit, key=lambda row: (row.revision,)
    )


async def get_revision(
    connection: Connection,
    script_id: UUID,
    revision: int,
    *,
    client_ids: Tenants,  # noqa: ARG001 - see above
) -> RevisionRow | None:
    """One revision with its body, or None."""
    query = Query(_SQL["select_revisions"])
    query.where("script_id = %s", script_id)
    query.where("revision = %s", revision)
    return await query.one(connection, RevisionRow.from_row)


async def list_favourites(connection: Connection, owner: str) -> list[UUID]:
    """The scripts that somebody wants at hand."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL["favourites"], (owner,))
        return [script_id for (script_id,) in await cursor.fetchall()]
