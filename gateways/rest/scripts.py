"""Scripts and their revisions."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.errors import FreshProofNeededError
from command_bus.handlers.scripts import owner_of
from command_bus.intents.scripts import (
    ArchiveScript,
    CreateScript,
    FavourScript,
    RenameScript,
    RestoreScript,
    ReviseScript,
)
from domain.agents import Platform
from domain.errors import NameTakenError, NotFoundError, ScriptArchivedError, UnknownRevisionError
from domain.permissions import Permission
from domain.scripts import Shell
from gateways.rest.errors import BehindError
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
    page_of,
    write,
)
from projections.scripts import RevisionRow, ScriptRow, get_revision, get_script, list_favourites
from projections.scripts import list_revisions as read_revisions
from projections.scripts import list_scripts as read_scripts

TAG = "Scripts"
READS = ("scripts",)
_WHERE_OTHERS_RUN_IT = (FreshProofNeededError, BehindError)


class ScriptModel(Model):
    """A versioned body of code; its revisions hold the code."""

    id: UUID
    name: str
    description: str
    folder: str = Field(description="Where it lies, as `Backup/Linux`; empty where it lies in no folder.")
    archived: bool
    revision: int = Field(description="The newest.")
    shell: Shell | None = Field(description="Of the newest revision.")
    platforms: list[Platform] = Field(description="Of the newest revision; empty means all.")
    created_at: AwareDatetime
    changed_at: AwareDatetime
    version: int


class RevisionModel(Model):
    """One revision; it never changes."""

    script_id: UUID
    revision: int
    shell: Shell
    body: str
    args: list[str]
    env: dict[str, str]
    timeout_s: int
    platforms: list[Platform] = Field(description="Empty means all.")
    run_as: str | None
    sha256: str = Field(description="Of the body, in hex.")
    actor: str = Field(description="Who made it.")
    created_at: AwareDatetime


class FavouritesModel(Model):
    """The scripts that you want at hand, by their ids."""

    items: list[UUID]


class ScriptsQuery(PageQuery):
    archived: bool | None = Field(default=None, description="Only those that are, or are not; both if left out.")


class ScriptAnswer(Answer):
    """An accepted change of a script."""

    revision: int = Field(description="The newest now.")


def script_document(row: ScriptRow) -> dict[str, Any]:
    return {
        "id": row.script_id,
        "name": row.name,
        "description": row.description,
        "folder": row.folder,
        "archived": row.archived,
        "revision": row.latest_revision,
        "shell": row.shell,
        "platforms": row.platforms,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
        "version": row.version,
    }


def revision_document(row: RevisionRow) -> dict[str, Any]:
    content = row.content
    return {
        "script_id": row.script_id,
        "revision": row.revision,
        "shell": content.shell,
        "body": content.body,
        "args": content.args,
        "env": content.env,
        "timeout_s": content.timeout_s,
        "platforms": content.platforms,
        "run_as": content.run_as,
        "sha256": row.sha256,
        "actor": row.author,
        "created_at": row.created_at,
    }


async def list_scripts(call: Call) -> Response:
    query: ScriptsQuery = call.query
    async with call.connection() as connection:
        page = await read_scripts(
            connection, client_ids=call.tenants, archived=query.archived, cursor=query.cursor, limit=query.limit
        )
    return page_of(page, script_document)


async def show_script(call: Call) -> Response:
    script_id = call.path["script_id"]
    async with call.connection() as connection:
        row = found(await get_script(connection, script_id, client_ids=call.tenants), "script", script_id)
    return one(script_document(row), row.version)


async def list_revisions(call: Call) -> Response:
    query: PageQuery = call.query
    script_id = call.path["script_id"]
    async with call.connection() as connection:
        found(await get_script(connection, script_id, client_ids=call.tenants), "script", script_id)
        page = await read_revisions(
            connection, script_id, client_ids=call.tenants, cursor=query.cursor, limit=query.limit
        )
    return page_of(page, revision_document)


async def show_revision(call: Call) -> Response:
    script_id, revision = call.path["script_id"], call.path["revision"]
    async with call.connection() as connection:
        found(await get_script(connection, script_id, client_ids=call.tenants), "script", script_id)
        row = await get_revision(connection, script_id, revision, client_ids=call.tenants)
    if row is None:
        raise UnknownRevisionError
    return one(revision_document(row), row.revision)


async def favourites(call: Call) -> Response:
    async with call.connection_now() as connection:
        return json_response({"items": await list_favourites(connection, owner_of(call.caller))})


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/favourites",
        needs=Permission.SCRIPTS_SEE,
        summary="Your favourites among the scripts.",
        tag=TAG,
        handler=favourites,
        query=ReadQuery,
        response=FavouritesModel,
        reads=READS,
        past=False,
    ),
    write("POST", "/scripts/{script_id}/favourite", FavourScript, tag=TAG, errors=(NotFoundError,)),
    Route(
        method="GET",
        path="/scripts",
        needs=Permission.SCRIPTS_SEE,
        summary="Scripts by name.",
        tag=TAG,
        handler=list_scripts,
        query=ScriptsQuery,
        response=PageOf[ScriptModel],
        reads=READS,
    ),
    write(
        "POST",
        "/scripts",
        CreateScript,
        tag=TAG,
        status=201,
        response=ScriptAnswer,
        location="/scripts/{id}",
        errors=(NameTakenError,),
    ),
    Route(
        method="GET",
        path="/scripts/{script_id}",
        needs=Permission.SCRIPTS_SEE,
        summary="One script.",
        tag=TAG,
        handler=show_script,
        query=ReadQuery,
        response=ScriptModel,
        reads=READS,
        etag=True,
    ),
    write(
        "PATCH",
        "/scripts/{script_id}",
        RenameScript,
        tag=TAG,
        response=ScriptAnswer,
        errors=(NotFoundError, NameTakenError, *_WHERE_OTHERS_RUN_IT),
    ),
    write(
        "POST",
        "/scripts/{script_id}/archive",
        ArchiveScript,
        tag=TAG,
        response=ScriptAnswer,
        errors=(NotFoundError, ScriptArchivedError, *_WHERE_OTHERS_RUN_IT),
    ),
    write(
        "POST",
        "/scripts/{script_id}/restore",
        RestoreScript,
        tag=TAG,
        response=ScriptAnswer,
        errors=(NotFoundError, *_WHERE_OTHERS_RUN_IT),
    ),
    Route(
        method="GET",
        path="/scripts/{script_id}/revisions",
        needs=Permission.SCRIPTS_SEE,
        summary="A script's revisions, newest first.",
        tag=TAG,
        handler=list_revisions,
        query=PageQuery,
        response=PageOf[RevisionModel],
        reads=READS,
    ),
    write(
        "POST",
        "/scripts/{script_id}/revisions",
        ReviseScript,
        tag=TAG,
        status=201,
        response=ScriptAnswer,
        location="/scripts/{id}/revisions/{revision}",
        errors=(NotFoundError, ScriptArchivedError, *_WHERE_OTHERS_RUN_IT),
    ),
    Route(
        method="GET",
        path="/scripts/{script_id}/revisions/{revision}",
        needs=Permission.SCRIPTS_SEE,
        summary="One revision, with its code.",
        tag=TAG,
        handler=show_revision,
        query=ReadQuery,
        response=RevisionModel,
        reads=READS,
        errors=(UnknownRevisionError,),
    ),
)
