"""Notes on an agent: what people want each other to know of a machine.

All notes of one agent are one stream, so that nobody writes more of them than a page shows, and what they say is read
from the log itself: it is sealed as personal data of the agent, and gone with it.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec

from domain.errors import InvalidValueError, NotFoundError, TooManyNotesError
from domain.event import Aggregate, Change, Event, Recorded
from domain.ids import AgentId, ClientId, derived_id
from domain.personal import Personal, SubjectKind

MAX_NOTES = 200
MAX_LENGTH = 10_000


class AgentNoteWritten(Event, frozen=True, kw_only=True):
    """A note says this from now on, whether it is new or was there before."""

    personal: ClassVar[Personal | None] = Personal(fields=("text",), of=SubjectKind.AGENT)

    note_id: UUID
    text: str


class AgentNoteRemoved(Event, frozen=True, kw_only=True):
    note_id: UUID


class Note(msgspec.Struct, frozen=True):
    """A note as it stands."""

    note_id: UUID
    text: str
    actor: str
    """Who wrote it."""
    written_at: datetime
    changed_by: str | None = None
    """Who changed it last; None: nobody did."""
    changed_at: datetime | None = None


def notes_stream(agent_id: UUID) -> UUID:
    return derived_id("notes", agent_id)


def clean_note(text: str) -> str:
    """The text without space around it.

    Raises:
        InvalidValueError: it says nothing, or is longer than 10,000 characters.
    """
    cleaned = text.strip()
    if not 1 <= len(cleaned) <= MAX_LENGTH:
        raise InvalidValueError(f"text: 1 to {MAX_LENGTH} characters beside space, not {len(cleaned)}.")
    return cleaned


def read_notes(recorded: Iterable[Recorded], clients: Collection[ClientId] | None) -> list[Note]:
    """The notes of one agent, newest first.

    Args:
        recorded: of its stream of notes, oldest first.
        clients: those whose notes may be seen (invariant 8); None: all.
    """
    notes: dict[UUID, Note] = {}
    for one in recorded:
        if clients is not None and one.client_id not in clients:
            continue
        match one.event:
            case AgentNoteWritten(note_id=note_id, text=text):
                before = notes.get(note_id)
                if before is None:
                    notes[note_id] = Note(note_id, text, one.actor, one.recorded_at)
                else:
                    notes[note_id] = msgspec.structs.replace(
                        before, text=text, changed_by=one.actor, changed_at=one.recorded_at
                    )
            case AgentNoteRemoved(note_id=note_id):
                notes.pop(note_id, None)
    return list(reversed(notes.values()))


class AgentNotes(Aggregate):
    """The notes of one agent."""

    agent_id: AgentId | None = None
    client_id: ClientId | None = None

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(stream_id)
        self.note_ids: set[UUID] = set()

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    def write(self, note_id: UUID, text: str) -> Change:
        """Add a note.

        Raises:
            TooManyNotesError: the agent has as many as it may have.
            InvalidValueError: it says nothing, or too much.
        """
        if len(self.note_ids) >= MAX_NOTES:
            raise TooManyNotesError
        return self.decide(AgentNoteWritten(note_id=note_id, text=clean_note(text)))

    def change(self, note_id: UUID, text: str) -> Change:
        """Have a note say something else.

        Raises:
            NotFoundError: there is no such note.
            InvalidValueError: it says nothing, or too much.
        """
        self._must_hold(note_id)
        return self.decide(AgentNoteWritten(note_id=note_id, text=clean_note(text)))

    def remove(self, note_id: UUID) -> Change:
        """Take a note away.

        Raises:
            NotFoundError: there is no such note.
        """
        self._must_hold(note_id)
        return self.decide(AgentNoteRemoved(note_id=note_id))

    def _must_hold(self, note_id: UUID) -> None:
        if note_id not in self.note_ids:
            raise NotFoundError(f"There is no note {note_id}.")

    def when(self, event: Event) -> None:
        match event:
            case AgentNoteWritten():
                self.note_ids.add(event.note_id)
            case AgentNoteRemoved():
                self.note_ids.discard(event.note_id)
            case _:
                super().when(event)
