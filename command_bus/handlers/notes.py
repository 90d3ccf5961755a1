"""Handlers for notes on agents, and what reads them."""

from collections.abc import Collection
from contextlib import AsyncExitStack
from uuid import UUID

from msgspec import structs

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.scope import visible
from command_bus.intents.notes import ChangeNote, RemoveNote, WriteNote
from command_bus.repository import must_be_readable
from domain.agents import Agent
from domain.errors import NotFoundError
from domain.ids import AgentId, ClientId
from domain.notes import AgentNotes, Note, notes_stream, read_notes


async def notes_of(
    log: EventLog, agent_id: UUID, clients: Collection[ClientId] | None, *, upto: int | None = None
) -> list[Note]:
    """The notes on an agent, newest first.

    Args:
        log: the event log.
        agent_id: of the agent.
        clients: those whose notes may be seen; None: all.
        upto: as of this position; None: as of now.
    """
    stream_id = notes_stream(agent_id)
    recorded = (await log.read_streams([stream_id])).get(stream_id, [])
    return read_notes((one for one in recorded if upto is None or one.position <= upto), clients)


class NoteHandlers:
    """Write, change and remove.

    Args:
        log: the event log.
        new_id: for new notes.
    """

    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def write(self, intent: WriteNote, caller: Caller, _stack: AsyncExitStack) -> Decision:
        notes, _ = await self._of(intent.agent_id, caller)
        note_id = self._new_id()
        return Decision(changes=[notes.write(note_id, intent.text)], answer=id_answer(note_id))

    async def change(self, intent: ChangeNote, caller: Caller, _stack: AsyncExitStack) -> Decision:
        notes = await self._holding(intent.agent_id, intent.note_id, caller)
        return Decision(changes=[notes.change(intent.note_id, intent.text)], answer=id_answer(intent.note_id))

    async def remove(self, intent: RemoveNote, caller: Caller, _stack: AsyncExitStack) -> Decision:
        notes = await self._holding(intent.agent_id, intent.note_id, caller)
        return Decision(changes=[notes.remove(intent.note_id)], answer=id_answer(intent.note_id))

    async def _holding(self, agent_id: UUID, note_id: UUID, caller: Caller) -> AgentNotes:
        """The notes of an agent, of which the caller sees this one."""
        notes, seen = await self._of(agent_id, caller)
        if note_id not in seen:
            raise NotFoundError(f"There is no note {note_id}.")
        return notes

    async def _of(self, agent_id: UUID, caller: Caller) -> tuple[AgentNotes, set[UUID]]:
        """The notes of an agent, and those of them that the caller sees."""
        agent = await visible(self._log, structs.replace(caller, if_match=None), Agent, agent_id)
        agent.must_not_be_erased()
        stream_id = notes_stream(agent_id)
        recorded = (await self._log.read_streams([stream_id])).get(stream_id, [])
        must_be_readable(recorded)
        notes = AgentNotes.load(stream_id, (one.event for one in recorded))
        notes.agent_id, notes.client_id = AgentId(agent_id), agent.client_id
        clients = None if caller.scope.everything else caller.scope.known_clients
        return notes, {note.note_id for note in read_notes(recorded, clients)}
