"""Notes on agents."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.handlers.notes import notes_of
from command_bus.intents.notes import ChangeNote, RemoveNote, WriteNote
from domain.errors import ErasedError, InvalidValueError, NotFoundError, TooManyNotesError
from domain.notes import MAX_NOTES, Note
from domain.permissions import Permission
from gateways.rest.route import Call, Model, ReadQuery, Route, found, json_response, write
from projections.agents import get_agent

TAG = "Agents"
_REFUSED = (NotFoundError, ErasedError, InvalidValueError)


class NoteModel(Model):
    """What somebody wants others to know of a machine."""

    id: UUID
    text: str
    actor: str = Field(description="Who wrote it.")
    written_at: AwareDatetime
    changed_by: str | None = Field(description="Who changed it last; null: nobody did.")
    changed_at: AwareDatetime | None


class NotesModel(Model):
    """All notes on one agent, newest first."""

    items: list[NoteModel] = Field(max_length=MAX_NOTES)


def note_document(note: Note) -> dict[str, Any]:
    """One note, as `NoteModel` describes it."""
    return {
        "id": note.note_id,
        "text": note.text,
        "actor": note.actor,
        "written_at": note.written_at,
        "changed_by": note.changed_by,
        "changed_at": note.changed_at,
    }


async def list_notes(call: Call) -> Response:
    agent_id, scope = call.path["agent_id"], call.caller.scope
    async with call.connection_now() as connection:
        found(await get_agent(connection, agent_id, client_ids=scope), "agent", agent_id)
    clients = None if scope.everything else scope.known_clients
    notes = await notes_of(call.parts.log, agent_id, clients, upto=call.at)
    return json_response({"items": [note_document(note) for note in notes]})


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/agents/{agent_id}/notes",
        needs=Permission.AGENTS_SEE,
        summary="The notes on an agent, newest first.",
        tag=TAG,
        handler=list_notes,
        query=ReadQuery,
        response=NotesModel,
        reads=("agents",),
        of_log=True,
    ),
    write(
        "POST",
        "/agents/{agent_id}/notes",
        WriteNote,
        tag=TAG,
        status=201,
        errors=(*_REFUSED, TooManyNotesError),
    ),
    write("PUT", "/agents/{agent_id}/notes/{note_id}", ChangeNote, tag=TAG, errors=_REFUSED),
    write(
        "POST", "/agents/{agent_id}/notes/{note_id}/remove", RemoveNote, tag=TAG, errors=(NotFoundError, ErasedError)
    ),
)
